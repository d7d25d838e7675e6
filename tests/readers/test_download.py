"""A download stays in the data cache and is the file that the config expects."""

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from ptychoflow.config import Source
from ptychoflow.readers.download import resolve_path

CONTENT = b"counts of a beamline"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments) -> None:
        """Print nothing."""


@pytest.fixture
def url(tmp_path, monkeypatch) -> Iterator[str]:
    """The address of a file; the data cache is empty."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "scan.h5").write_bytes(CONTENT)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PTYCHOFLOW_DATA", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=tmp_path / "served")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/scan.h5"
        server.shutdown()


def test_a_file_is_downloaded_once_into_the_cache(url, tmp_path):
    source = Source(file="beamline/scan.h5", url=url, sha256=SHA256)
    assert resolve_path(source) == tmp_path / "cache" / "beamline" / "scan.h5"
    (tmp_path / "served" / "scan.h5").unlink()
    assert resolve_path(source).read_bytes() == CONTENT


def test_a_checksum_is_asked_for_with_its_value_each_time(url):
    for _ in range(2):
        with pytest.raises(ValueError, match=f"source.sha256 is not set: .* set source.sha256 to {SHA256}"):
            resolve_path(Source(file="scan.h5", url=url))
    assert resolve_path(Source(file="scan.h5", url=url, sha256=SHA256)).read_bytes() == CONTENT


def test_another_file_than_the_expected_one_is_refused(url):
    with pytest.raises(ValueError, match=r"hash|SHA-256"):
        resolve_path(Source(file="scan.h5", url=url, sha256="0" * 64))


@pytest.mark.parametrize("name", ["../scan.h5", "a/../../scan.h5", "/tmp/scan.h5", ".."])
def test_a_name_that_leaves_the_cache_is_no_source(url, name):
    with pytest.raises(ValidationError, match="name of the download in the data cache"):
        Source(file=name, url=url, sha256=SHA256)


def test_a_link_out_of_the_cache_is_not_written_through(url, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"out/scan\.h5 lies outside the data cache"):
        resolve_path(Source(file="out/scan.h5", url=url, sha256=SHA256))
    assert not list((tmp_path / "elsewhere").iterdir())
