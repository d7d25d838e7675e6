"""The documentation site, built once; and the folder in which documented commands run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptychoflow.cli.main import main
from ptychoflow.config import merge
from ptychoflow.io.dataset import open_dataset

from ..interop.reference_network import reference_weights, write_reference_checkpoint

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "config/README.md", *(ROOT / "docs").rglob("*.md")])
SMALL = {
    "simulation": {
        "object": {"size": 80},
        "probe": {"diameter_px": 12, "defocus": 1.0},
        "trajectory": {"step_px": 6},
        "size": 32,
    },
    "network": {"base_channels": 8, "depth": 2},
    "training": {"stages": [{"epochs": 1}], "groups_per_epoch": 32},
    "refinement": {"epochs": 2},
}


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the built site. A warning of the build is an error, as in ``make docs``."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """A folder as the pages assume it: repository, results of a small run, a measurement, a profile of PtychoPINN."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Snakefile", "workflow", "profiles", "envs", "src", "docs", "pyproject.toml", "Makefile"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "config", folder / "config")
    shutil.copy(folder / "config/config.yaml", folder / "config/mine.yaml")
    _run_small(folder / "results")
    shutil.copy(folder / "results/scans/star.cxi", folder / "measurement.h5")
    shutil.copy(folder / "results/networks/pinn.ckpt", folder / "pinn.ckpt")
    profile = {"data_config": {"K": 8}, "model_config": {"cbam_encoder": True}}
    (folder / "profile.json").write_text(json.dumps(profile))
    write_reference_checkpoint(folder / "best-checkpoint.ckpt", reference_weights(patterns=4), patterns=4)
    return folder


def _run_small(results: Path) -> None:
    """Make what the workflow makes of two scans by a network and by rPIE."""
    for scan, kind, seed in (("leaves", "dead_leaves", 1), ("star", "siemens_star", 2)):
        simulation = merge({**SMALL["simulation"], "seed": seed}, {"object": {"name": kind}})
        _call("simulate", results / f"scans/{scan}.cxi", simulation=simulation)
        _call("pack", results / f"scans/{scan}.cxi", results / f"datasets/{scan}")
    leaves, star, network = results / "datasets/leaves", results / "datasets/star", results / "networks/pinn.ckpt"
    recipe = {"network": SMALL["network"], "training": SMALL["training"]}
    _call("train", leaves, network, "--tracking", '{"uri": null}', **recipe)
    found = results / "reconstructions/pinn/star.h5"
    _call("reconstruct", network, star, found)
    for method, start in (("pinn", ["--start", found]), ("rpie", [])):
        refined = results / f"refined/{method}/star.h5"
        _call("refine", star, refined, *start, refinement=SMALL["refinement"])
        stitched = ["--stitched", found] if start else []
        _call("evaluate", star, results / f"metrics/{method}/star.json", "--refined", refined, *stitched)


def _call(*words: object, **sections: dict) -> None:
    output = next(Path(word) for word in reversed(words) if isinstance(word, Path))
    output.parent.mkdir(parents=True, exist_ok=True)
    given = ["--config", json.dumps(sections)] if sections else []
    assert main([str(word) for word in words] + given) == 0


@pytest.fixture
def workplace(checkout, tmp_path, monkeypatch) -> Path:
    """A copy of the checkout to run commands in; links stay links."""
    folder = tmp_path / "checkout"
    shutil.copytree(checkout, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def arrays(checkout) -> dict[str, np.ndarray]:
    """Counts, positions and probe as examples name them."""
    scan = open_dataset(checkout / "results/datasets/star")
    return {"counts": np.asarray(scan.counts), "positions": scan.positions, "probe": scan.probe}
