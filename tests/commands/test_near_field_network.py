"""A network learns from near-field scans, and improves on its own input on a scan that it has not seen."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from ptychoflow.commands.infer import infer
from ptychoflow.commands.pack import pack
from ptychoflow.commands.simulate import simulate
from ptychoflow.commands.stitch import stitch
from ptychoflow.commands.train import train
from ptychoflow.config import (
    Grouping,
    Network,
    NominalGeometry,
    ObjectRecipe,
    ProbeRecipe,
    Runtime,
    Simulation,
    Stage,
    Tracking,
    Training,
    Trajectory,
    Validation,
)
from ptychoflow.data.torch_dataset import read_batch
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.models.checkpoint import read_model
from ptychoflow.training.lightning_module import predict_groups
from ptychoflow.training.losses import patch_error

NEAR_FIELD = NominalGeometry(
    energy_ev=17700.0,
    detector_distance_m=0.3,
    detector_pixel_m=6.5e-6,
    propagation="near_field",
    focus_distance_m=0.01,
)
NETWORK = Network(group_size=4, base_channels=8, depth=2, physics_iterations=5)
TRAINING = Training(
    stages=(Stage(epochs=6, physics_weight=0.0),),
    batch_size=8,
    groups_per_epoch=96,
    grouping=Grouping(k_nearest=4),
    validation=Validation(fraction=0.16),
)
CPU = Runtime(accelerator="cpu")


def _dataset(folder: Path, seed: int) -> Path:
    settings = Simulation(
        object=ObjectRecipe(size=96),
        probe=ProbeRecipe(name="diffuser", diameter_px=26, diffuser_feature_px=2.0),
        trajectory=Trajectory(step_px=5.0),
        size=48,
        photons_per_pattern=3e5,
        geometry=NEAR_FIELD,
        seed=seed,
    )
    simulate(folder / f"scan{seed}.cxi", settings)
    pack(folder / f"scan{seed}.cxi", folder / f"dataset{seed}")
    return folder / f"dataset{seed}"


def test_a_network_of_near_field_scans_improves_on_its_input(tmp_path):
    first, other = _dataset(tmp_path, 1), _dataset(tmp_path, 2)
    train([first], tmp_path / "network.ckpt", NETWORK, TRAINING, CPU, Tracking(uri=None))
    scan = open_dataset(other)
    assert scan.geometry.near_field and scan.geometry.focus_distance_m == 0.01
    order = np.argsort(np.hypot(*(scan.positions[:, None] - scan.positions).transpose(2, 0, 1)), axis=1)
    batch = read_batch([scan], np.insert(order[:64, :4], 0, 0, axis=1))
    with torch.no_grad():
        found = predict_groups(read_model(tmp_path / "network.ckpt").network.eval(), batch)
    errors = [patch_error(canvas, batch.truth, found.illumination).mean() for canvas in (found.estimate, found.canvas)]
    assert errors[1] < 0.8 * errors[0]
    infer(tmp_path / "network.ckpt", other, tmp_path / "patches", runtime=CPU)
    stitch(other, tmp_path / "patches", tmp_path / "stitched.h5")
    assert read_reconstruction(tmp_path / "stitched.h5").geometry == scan.geometry
