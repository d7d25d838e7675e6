"""Our forward model and pty-chi's expect the same counts."""

import importlib.util
import sys
import types
import warnings

import numpy as np
import pytest
import torch

from ptychoflow.physics.forward_model import expected_counts, shift_probe
from ptychoflow.physics.patches import cut_windows, split_positions

SIZE, SHAPE, COUNT = 32, (90, 110), 6


@pytest.fixture
def ptychi(monkeypatch):
    """pty-chi's API. It imports torchvision for a Gaussian blur that nothing here calls: an empty module stands in."""
    if importlib.util.find_spec("ptychi") is None:
        pytest.skip("pty-chi is not installed: pip install --no-deps ptychi")
    if importlib.util.find_spec("torchvision") is None:
        transforms = types.ModuleType("torchvision.transforms")
        transforms.GaussianBlur = None
        monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
        monkeypatch.setitem(sys.modules, "torchvision.transforms", transforms)
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ptychi.api
        import ptychi.api.task

        yield ptychi
    torch.set_default_dtype(dtype)  # pty-chi sets both for the whole process
    torch.set_default_device(device)


def _probe(modes: int) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    base = np.exp(-(y**2 + 1.5 * x**2) / 24 + 0.02j * (y**2 + x**2))
    return np.stack([base * factor for factor in (20, 3 * y, 2 * x)[:modes]])


def _theirs(ptychi, image: np.ndarray, probe: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """What pty-chi expects. Its transform is not unitary, and its patches are centred on ``(N - 1) / 2``."""
    api = ptychi.api
    options = api.RPIEOptions()
    options.data_options.data = np.zeros((len(positions), SIZE, SIZE), np.float32)
    options.data_options.free_space_propagation_distance_m = np.inf
    options.object_options.initial_guess = torch.as_tensor(image)[None].to(torch.complex64)
    options.object_options.pixel_size_m = 1e-8
    options.object_options.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    options.object_options.position_origin_coords = np.full(2, -0.5)
    options.probe_options.initial_guess = torch.as_tensor(probe)[None].to(torch.complex64)
    options.probe_position_options.position_y_px, options.probe_position_options.position_x_px = positions.T
    options.reconstructor_options.default_device = api.Devices.CPU
    model = ptychi.api.task.PtychographyTask(options).reconstructor.forward_model
    return model(torch.arange(len(positions))).detach().numpy() / SIZE**2


@pytest.mark.parametrize(("modes", "fraction"), [(1, True), (3, False)])  # pty-chi shifts its first mode only
def test_our_forward_model_is_pty_chis(ptychi, modes, fraction):
    rng = np.random.default_rng(0)
    positions = rng.uniform(SIZE // 2 + 1, np.array(SHAPE) - SIZE // 2 - 1, (COUNT, 2))
    positions = np.round(positions * 64) / 64 if fraction else np.round(positions)
    image = rng.uniform(0.5, 1, SHAPE) * np.exp(1j * rng.uniform(-2, 2, SHAPE))
    theirs = _theirs(ptychi, image, _probe(modes), positions)
    whole, subpixel_shift = split_positions(torch.from_numpy(positions))
    windows = cut_windows(torch.from_numpy(image), whole - SIZE // 2, SIZE)
    ours = expected_counts(
        windows, shift_probe(torch.from_numpy(_probe(modes)), subpixel_shift), propagate=torch.fft.fft2
    )
    assert abs(ours.numpy() / SIZE**2 - theirs).max() < 1e-5 * theirs.max()
