"""``ptychoflow doctor`` tells what is there, what is missing, and whether a small scan comes out right."""

import re

import pytest

from ptychoflow.cli import doctor
from ptychoflow.cli.main import main
from ptychoflow.orchestration import self_test


def test_a_working_installation_passes(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for name in ("ptychoflow", "platform", "python", "extras", "compiler", "processor", "memory", "GPU", "data cache"):
        assert re.search(rf"^{name} +\S", printed, re.MULTILINE), name
    assert re.search(r"\d GB/s", printed)
    assert "phase PSNR" in printed and "self-test    passed in" in printed


def test_a_number_outside_its_range_fails(monkeypatch, capsys):
    check = self_test.Check("phase PSNR", 12.0, 30.0, 40.0, " dB")
    monkeypatch.setattr(self_test, "self_test", lambda folder: ([check], 3.0))
    monkeypatch.setattr(doctor, "_findings", lambda: [])
    assert main(["doctor"]) == 1
    assert "phase PSNR 12 dB (expected 30 to 40 dB): WRONG" in capsys.readouterr().out


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "mlflow" else "1.0")
    assert list(doctor._extras()) == [
        "train not installed (pip install 'ptychoflow[train]')",
        "workflow (snakemake 1.0)",
        "em (rosettasciio 1.0, zarr 1.0)",
    ]


@pytest.mark.parametrize(
    ("system", "machine", "state"),
    [("Linux", "x86_64", ": tested"), ("Darwin", "arm64", "not tested"), ("Windows", "AMD64", "not supported")],
)
def test_platforms_are_stated(monkeypatch, system, machine, state):
    monkeypatch.setattr(doctor.platform, "system", lambda: system)
    monkeypatch.setattr(doctor.platform, "machine", lambda: machine)
    assert state in doctor._platform()


def test_without_a_compiler_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert doctor._compiler().startswith("not found: install gcc")
