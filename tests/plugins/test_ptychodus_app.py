"""Stock ptychodus trains, reconstructs and shows with our engine; its own tests pass with our facade on the path.

Minutes, and about a gigabyte of packages: run by ``make test-ptychodus``.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from ptychoflow.api import Datagen
from ptychoflow.commands.export import export
from ptychoflow.io.dataset import write_dataset
from ptychoflow.plugins.ptychodus.launcher import python_path
from ptychoflow.readers.formats.ptychodus_product import read_product

BESIDE = Path(sys.prefix) / "ptychodus"
PYTHON = BESIDE / "bin" / "python"
OWN_TESTS = (
    *("test_parent_config_builders", "test_ptychopinn_subprocess", "test_training_data_file"),
    *("test_io", "test_product", "test_no_gpu_context"),
)
pytestmark = [
    pytest.mark.ptychodus_app,
    pytest.mark.xdist_group("ptychodus"),
    pytest.mark.skipif(not (BESIDE / "ready-to-run").is_file(), reason="make test-ptychodus installs what this needs"),
]


def _run(folder: Path, command: list, **more: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"HOME": str(folder), "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"} | more
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=600)


def _ptychodus(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return _run(folder, [PYTHON, "-m", "ptychoflow", "ptychodus", "--", *words])


@pytest.fixture(scope="module")
def worked(tmp_path_factory) -> SimpleNamespace:
    """A standard directory of a scan whose positions fill no rectangle, after a training and a reconstruction."""
    folder = tmp_path_factory.mktemp("ptychodus")
    whole = Datagen().scan(
        object={"name": "dead_leaves", "size": 120},
        probe={"name": "zone_plate", "diameter_px": 12, "defocus": 1.0},
        trajectory={"step_px": 5},
        size=32,
    )
    kept = ~((whole.positions[:, 0] > 70) & (whole.positions[:, 1] > 60))
    part = type(whole)(whole.counts[kept], whole.positions[kept], whole.probe, whole.geometry, name="leaves")
    write_dataset(folder / "dataset", part)
    export(folder / "dataset", folder / "in")
    with (folder / "in" / "settings.ini").open("a") as settings:
        settings.write("[PtychoPINNTorchTraining]\nepochs = 3\n")  # device cuda, strategy ddp_spawn are its defaults
    trained = _ptychodus(folder, "-b", "train", "-i", "in", "-o", "out")
    for checkpoint in (folder / "out").glob("run_*/checkpoints/model.ckpt"):
        (folder / "in" / "model.ckpt").write_bytes(checkpoint.read_bytes())
    made = _ptychodus(folder, "-b", "reconstruct", "-i", "in", "-o", "made")
    return SimpleNamespace(folder=folder, trained=trained, made=made, truth=whole.truth, scan=part)


def test_a_training_ends_well_and_leaves_a_model(worked):
    assert worked.trained.returncode == 0, worked.trained.stderr[-2000:]
    assert (worked.folder / "in" / "model.ckpt").is_file(), worked.trained.stderr[-2000:]


def test_a_reconstruction_lies_where_the_object_of_its_directory_lay(worked):
    assert worked.made.returncode == 0, worked.made.stderr[-2000:]
    (path,) = (worked.folder / "made").glob("product*.h5")
    made, given = read_product(path), read_product(worked.folder / "in" / "product.h5")
    assert made.object.shape == given.object.shape and made.centre_m == given.centre_m
    origin = np.array(made.origin_px(worked.scan.size))
    places = np.indices(made.object.shape[1:]) + (origin - worked.truth.origin)[:, None, None]
    truth = map_coordinates(np.angle(worked.truth.object), places, order=1, mode="nearest")
    seen = np.zeros(truth.shape, bool)
    for y, x in np.round(worked.scan.positions - origin).astype(int):
        seen[y - 4 : y + 5, x - 4 : x + 5] = True
    image = made.object[0] / np.mean(made.object[0][seen])
    agreement = {
        (dy, dx): np.corrcoef(np.angle(np.roll(image, (dy, dx), (0, 1)))[seen], truth[seen])[0, 1]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert max(agreement, key=agreement.get) == (0, 0) and agreement[0, 0] > 0.8, agreement


def test_without_a_model_it_fails_and_writes_nothing(worked):
    (worked.folder / "bare").mkdir()
    for name in ("diffraction.h5", "product.h5", "settings.ini"):
        (worked.folder / "bare" / name).write_bytes((worked.folder / "in" / name).read_bytes())
    done = _ptychodus(worked.folder, "-b", "reconstruct", "-i", "bare", "-o", "nothing")
    assert done.returncode == 1 and not list((worked.folder / "nothing").glob("*.h5"))


def test_its_window_lists_our_engine_and_shows_the_result(worked):
    (product,) = (worked.folder / "made").glob("product*.h5")
    pictures = worked.folder / "pictures"
    pictures.mkdir()
    command = [PYTHON, Path(__file__).with_name("window.py"), worked.folder / "in", product, pictures]
    done = _run(worked.folder, command, PYTHONPATH=python_path())
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"ptychopinn-torch_unsupervised", "ptychopinn-torch_supervised"} <= set(done.stdout.split())
    shown = np.asarray(Image.open(pictures / "object.png").convert("RGB"), int)[180:770, 740:1390]
    assert np.ptp(shown, axis=2).max() > 100, "the object is drawn in colours"


@pytest.mark.parametrize("version", ["1.2", "1.5.1", "1.6.0"])
def test_older_versions_open_what_is_written_today(tiny_dataset, tmp_path, version):
    export(tiny_dataset, tmp_path / "product.h5")
    command = [PYTHON, Path(__file__).with_name("older.py"), tmp_path / "product.h5"]
    done = _run(tmp_path, command, PYTHONPATH=str(BESIDE / "older" / version))
    assert done.returncode == 0 and done.stdout.split() == [version, "True", "True"], done.stdout + done.stderr[-2000:]


def test_its_own_tests_pass_with_our_facade_on_the_path(tmp_path):
    (source,) = (BESIDE / "source").glob("ptychodus-*.tar.gz")
    subprocess.run(["tar", "-xf", source, "-C", tmp_path], check=True)
    (folder,) = tmp_path.glob("ptychodus-*")
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}.py" for name in OWN_TESTS)]
    done = _run(folder, command, PYTHONPATH=python_path())
    assert done.returncode == 0 and "1 skipped" in done.stdout, done.stdout[-2000:]
