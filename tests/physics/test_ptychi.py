"""Our forward model and pty-chi's expect the same counts."""

import importlib
import importlib.util
import sys
import types
import warnings

import numpy as np
import pytest
import torch

from ptychoflow.physics.detector_response import point_spread_matrix
from ptychoflow.physics.forward_model import expected_counts, shift_probe
from ptychoflow.physics.patches import cut_windows, split_positions
from ptychoflow.physics.probe_variations import vary_probe
from ptychoflow.physics.propagation import far_field

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


def _theirs(ptychi, image: np.ndarray, probe: np.ndarray, positions: np.ndarray, weights=None) -> np.ndarray:
    """What pty-chi expects. Its transform is not unitary, and its patches are centred on ``(N - 1) / 2``."""
    api = ptychi.api
    options = api.RPIEOptions()
    options.data_options.data = np.zeros((len(positions), SIZE, SIZE), np.float32)
    options.data_options.free_space_propagation_distance_m = np.inf
    options.object_options.initial_guess = torch.as_tensor(image)[None].to(torch.complex64)
    options.object_options.pixel_size_m = 1e-8
    options.object_options.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    options.object_options.position_origin_coords = np.full(2, -0.5)
    probe = probe[None] if probe.ndim == 3 else probe
    options.probe_options.initial_guess = torch.as_tensor(probe).to(torch.complex64)
    if weights is not None:
        options.opr_mode_weight_options.initial_weights = weights.astype(np.float32)
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


def _our_counts(image, probe, positions, weights=None, point_spread_px=0.0) -> np.ndarray:
    """What we expect: the variations ``probe[1:, 0]`` of the first mode, and a point spread, where they are given."""
    modes, shift = torch.from_numpy(probe[0]), torch.zeros(len(positions), 2)
    modes = modes.expand(len(positions), *modes.shape)
    if weights is not None:
        modes = vary_probe(torch.from_numpy(probe[0]), torch.from_numpy(probe[1:, 0]), torch.from_numpy(weights))
    whole, shift = split_positions(torch.from_numpy(positions))
    assert not shift.any()
    windows = cut_windows(torch.from_numpy(image), whole - SIZE // 2, SIZE)
    matrix = point_spread_matrix(SIZE, point_spread_px) if point_spread_px else None
    return expected_counts(windows, modes, propagate=far_field, point_spread=matrix).numpy()


def test_our_probe_variations_are_pty_chis(ptychi):
    rng = np.random.default_rng(1)
    positions = np.round(rng.uniform(SIZE // 2 + 1, np.array(SHAPE) - SIZE // 2 - 1, (COUNT, 2)))
    image = rng.uniform(0.5, 1, SHAPE) * np.exp(1j * rng.uniform(-2, 2, SHAPE))
    probe = np.stack([_probe(2), _probe(2)[::-1] * 1j, _probe(2)[::-1] * (1 + 1j)])
    weights = rng.normal(0, 0.3, (COUNT, 2))
    theirs = _theirs(ptychi, image, probe, positions, np.insert(weights, 0, 1.0, axis=1))
    ours = np.fft.ifftshift(_our_counts(image, probe, positions, weights), axes=(1, 2))
    assert abs(ours - theirs).max() < 1e-5 * theirs.max()


def test_our_point_spread_is_pty_chis(ptychi):
    """Away from the edge: it wraps or pads there, and ours loses counts."""
    rng = np.random.default_rng(2)
    positions = np.round(rng.uniform(SIZE // 2 + 1, np.array(SHAPE) - SIZE // 2 - 1, (COUNT, 2)))
    image = rng.uniform(0.5, 1, SHAPE) * np.exp(1j * rng.uniform(-2, 2, SHAPE))
    ours = _our_counts(image, _probe(3)[None], positions, point_spread_px=0.8)
    sharp = _our_counts(image, _probe(3)[None], positions)
    blur = importlib.import_module("ptychi.image_proc").gaussian_filter
    theirs = blur(torch.from_numpy(sharp).float(), sigma=0.8, size=round(0.8 * 10) + 1).numpy()
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert abs(ours - theirs)[inner].max() < 1e-5 * theirs.max()
