"""Images of validations: prediction beside ground truth, on one scale, black where nothing is illuminated."""

import numpy as np
import pytest
import torch

from ptychoflow.config import Network
from ptychoflow.data.batch import Batch
from ptychoflow.data.grouping import nearest_groups
from ptychoflow.data.torch_dataset import read_batch
from ptychoflow.networks.group_network import GroupReconstructor
from ptychoflow.training.image_logger import GAP, draw_groups
from ptychoflow.training.lightning_module import predict_groups


@pytest.fixture
def batch(scan):
    rows = np.insert(nearest_groups(scan.positions, np.arange(len(scan)), 4), 0, 0, axis=1)
    return read_batch([scan], rows[:3])


def test_the_ground_truth_looks_like_itself_at_any_phase_offset(batch):
    network = GroupReconstructor(Network(base_channels=8, depth=2, group_size=4), window=16)
    rotated = predict_groups(network, batch)._replace(canvases=[batch.truth * 1j])
    pixels = draw_groups(rotated, batch)
    side = 32 + GAP
    assert pixels.shape == (4 * side, 3 * side) and pixels.dtype == np.uint8
    predicted_amplitude, known_amplitude, predicted_phase, known_phase = (
        pixels[n * side : (n + 1) * side] for n in range(4)
    )
    assert abs(predicted_amplitude.astype(int) - known_amplitude).max() <= 1
    assert abs(predicted_phase.astype(int) - known_phase).max() <= 1
    assert known_phase.std() > 30 and known_phase[:2, :2].max() == 0


def test_without_a_ground_truth_the_back_projection_is_shown(batch):
    network = GroupReconstructor(Network(base_channels=8, depth=2, group_size=4, physics_iterations=1), window=16)
    prediction = predict_groups(network, batch)
    pixels = draw_groups(prediction._replace(canvases=[prediction.estimate]), batch._replace(truth=None))
    side = 32 + GAP
    assert abs(pixels[:side].astype(int) - pixels[side : 2 * side]).max() <= 1


def test_a_gpu_draws_the_same_image(gpu, batch):
    network = GroupReconstructor(Network(base_channels=8, depth=2, group_size=4), window=16)
    on_cpu = draw_groups(predict_groups(network, batch), batch)
    batch = Batch(*(part.cuda() if isinstance(part, torch.Tensor) else part for part in batch))
    on_gpu = draw_groups(predict_groups(network.cuda(), batch), batch)
    assert abs(on_gpu.astype(int) - on_cpu).max() <= 2
