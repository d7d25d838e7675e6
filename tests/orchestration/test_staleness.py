"""Products of other code are found and named, those of the same code are left in peace."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ptychoflow.io.provenance import code_version
from ptychoflow.orchestration import staleness as origins
from ptychoflow.orchestration.staleness import cache_of_this_code, products_of_other_code, source_of


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A library of two files in git, as `origins` and its versions see it; commits are made by the function given."""
    here = tmp_path / "library"
    here.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(here)]
    subprocess.run([*git, "init", "-q"], check=True)

    def commit(name: str, text: str) -> str:
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(text)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", "a change"], check=True)
        known = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        version = f"0.1.0+{known.stdout.strip()}"
        monkeypatch.setattr(origins, "code_version", lambda: version)
        origins.differs.cache_clear()
        return version

    monkeypatch.setattr(origins, "PACKAGE", here)
    return commit


@pytest.fixture
def results(tmp_path):
    """Folder of results in which records of a version are written by the function given."""

    def write(version: str) -> None:
        made = {"provenance": {"ptychoflow": version}}
        both = {"reconstructions": {"network": made, "refined": made}}
        for name, record in {
            "datasets/star/manifest.json": made,
            "networks/pinn.json": made,
            "patches/pinn/star/manifest.json": made,
            "metrics/pinn/star.json": made | both,
            "metrics/flat/star.json": made | {"reconstructions": {"refined": made}},
        }.items():
            path = tmp_path / "results" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record))

    write.folder = tmp_path / "results"
    return write


def test_products_of_this_code_are_left_in_peace(results, repository):
    results(repository("refine.py", "first"))
    assert products_of_other_code(results.folder) == []


def test_products_of_other_code_are_counted_and_the_remedy_told(results, repository):
    version = repository("refine.py", "first")
    results(version)
    repository("refine.py", "second")
    assert products_of_other_code(results.folder) == [
        f"outdated products (made by version {version}; refine.py differ): pack 1, train 1, infer 1, stitch 1, "
        "refine 2, evaluate 2; to make them again: --forcerun pack train infer stitch refine evaluate"
    ]


def test_a_commit_that_leaves_the_library_as_it_was_counts_for_nothing(results, repository):
    version = repository("refine.py", "first")
    results(version)
    repository("refine.py", "second")
    repository("refine.py", "first")
    assert products_of_other_code(results.folder) == []


@pytest.mark.parametrize("version", ["0.0.1", "0.0.1+0123456789ab", "0.1.0+0123456789ab.dirty"])
def test_code_that_cannot_be_compared_is_other_code(results, repository, version):
    repository("refine.py", "first")
    results(version)
    assert len(products_of_other_code(results.folder)) == 1


def test_damaged_records_are_left_to_the_step_that_reads_them(results, repository):
    results(repository("refine.py", "first"))
    (results.folder / "networks/pinn.json").write_text("{")
    assert products_of_other_code(results.folder) == []


def test_the_version_of_this_code_is_told_as_its_own():
    version = code_version()
    assert version.endswith(".dirty") or origins.differs(version) is None


def test_the_source_of_a_verb_is_what_it_imports_and_no_other_verb():
    code = "import sys, ptychoflow.commands.simulate, ptychoflow.commands.pack\n"
    code += "print(*(m.__file__ for name, m in sys.modules.items() if name.startswith('ptychoflow.')), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = source_of("simulate", "pack")
    assert set(map(Path, done.stdout.split())) <= found
    assert not {"train.py", "refine.py", "report.py"} & {path.name for path in found}


def test_a_shared_cache_has_a_folder_for_each_code(tmp_path, repository):
    repository("commands/simulate.py", "from ..physics import forward, units")
    repository("commands/pack.py", "import numpy")
    repository("forward.py", "not the one that is imported")
    repository("physics/forward.py", "one = 1")
    assert {path.name for path in source_of("simulate", "pack")} == {"simulate.py", "pack.py", "forward.py"}
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o770)
    before = cache_of_this_code(str(tmp_path / "cache"))
    assert Path(before).parent == tmp_path / "cache" and Path(before).stat().st_mode & 0o777 == 0o770
    repository("forward.py", "still not")
    assert cache_of_this_code(str(tmp_path / "cache")) == before == cache_of_this_code(before)
    repository("physics/forward.py", "one = 2")
    assert cache_of_this_code(str(tmp_path / "cache")) != before


def test_a_cache_that_is_no_folder_is_left_to_snakemake(tmp_path):
    for location in ("s3://bucket/cache", str(tmp_path / "none")):
        assert cache_of_this_code(location) == location and not list(tmp_path.iterdir())
