"""Scans and products in an object store, here one that speaks S3 on this machine: `make test-storage`."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ptychoflow.commands.convert import convert
from ptychoflow.commands.pack import pack
from ptychoflow.config import Source
from ptychoflow.io.scan_cxi import write_scan

from ..workflow.conftest import ROOT, Workflow

pytestmark = pytest.mark.skipif(os.environ.get("PTYCHOFLOW_STORAGE") != "1", reason="make test-storage runs it")

SAMPLE = {
    "scans": {"sample": {"source": {"file": "s3://beamline/scans/sample.cxi"}}},
    "methods": {"flat": {"initial_object": "uniform", "reconstruct": ["sample"]}},
}
DATASET = "results/datasets/sample"


@pytest.fixture
def bucket(scan, tmp_path, monkeypatch) -> Iterator:
    """The bucket ``beamline`` of a store on this machine, with a scan; the plugin finds it through the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"access_key": "somebody", "secret_key": "secret"}
    for name, value in {"endpoint_url": address, **keys}.items():
        monkeypatch.setenv(f"SNAKEMAKE_STORAGE_S3_{name.upper()}", value)
    store = boto3.resource(
        "s3", endpoint_url=address, aws_access_key_id=keys["access_key"], aws_secret_access_key=keys["secret_key"]
    )
    store.create_bucket(Bucket="beamline")
    write_scan(tmp_path / "sample.cxi", scan)
    store.Bucket("beamline").upload_file(str(tmp_path / "sample.cxi"), "scans/sample.cxi")
    yield store.Bucket("beamline")
    server.stop()


@pytest.fixture
def workflow(tmp_path) -> Workflow:
    """A folder of its own, away from the scan."""
    (tmp_path / "run").mkdir()
    return Workflow(tmp_path / "run")


def _same(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in other.glob("*.npy"))
    return len(names) > 2 and all(np.array_equal(np.load(one / name), np.load(other / name)) for name in names)


def test_a_scan_in_a_bucket_becomes_the_dataset_that_its_file_becomes(bucket, workflow, tmp_path):
    done = workflow.run("--cores", "1", "--", DATASET, config=SAMPLE)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    convert(tmp_path / "here.cxi", Source(file=str(tmp_path / "sample.cxi")))
    pack(tmp_path / "here.cxi", tmp_path / "here")
    assert _same(workflow.folder / DATASET, tmp_path / "here")
    assert "Nothing to be done" in "".join(_output(workflow))
    bucket.upload_file(str(tmp_path / "sample.cxi"), "scans/sample.cxi")
    assert "convert" in "".join(_output(workflow)), "what is newer in the store is converted again"


def _output(workflow: Workflow, *words: str) -> tuple[str, str]:
    done = workflow.run("--dry-run", *words, "--", DATASET, config=SAMPLE)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_products_lie_in_a_bucket_as_well_where_machines_share_no_files(bucket, workflow):
    words = ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://beamline/run1"]
    done = workflow.run("--cores", "1", *words, "--", DATASET, config=SAMPLE)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    keys = {each.key for each in bucket.objects.all()}
    assert {f"run1/{DATASET}/manifest.json", f"run1/{DATASET}/counts.npy", "run1/results/scans/sample.cxi"} <= keys


def test_the_kubernetes_profile_makes_a_plan(bucket, workflow):
    profile = ["--workflow-profile", str(ROOT / "profiles/kubernetes")]
    done = workflow.run("--dry-run", *profile, "--default-storage-prefix", "s3://beamline/run2", config=SAMPLE)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    assert "s3://beamline/run2/results/report.html (send to storage)" in output
    assert "s3://beamline/scans/sample.cxi (retrieve from storage)" in output
