"""Pictures of validations: what was found beside what is known, on one scale, dark where no light falls."""

import numpy as np
import pytest
import torch

from ptychoflow.config import Network
from ptychoflow.data.batch import Batch
from ptychoflow.data.grouping import nearest_groups
from ptychoflow.data.torch_dataset import read_batch
from ptychoflow.networks.group_network import GroupReconstructor
from ptychoflow.training.image_logger import GAP, picture
from ptychoflow.training.lightning_module import predict_groups


@pytest.fixture
def batch(scan):
    rows = np.insert(nearest_groups(scan.positions, np.arange(len(scan)), 4), 0, 0, axis=1)
    return read_batch([scan], rows[:3])


def test_the_truth_looks_like_the_truth_whatever_its_phase(batch):
    network = GroupReconstructor(Network(base_channels=8, depth=2, group_size=4), window=16)
    turned = predict_groups(network, batch)._replace(canvases=[batch.truth * 1j])
    pixels = picture(turned, batch)
    side = 32 + GAP
    assert pixels.shape == (4 * side, 3 * side) and pixels.dtype == np.uint8
    found_amplitude, known_amplitude, found_phase, known_phase = (pixels[n * side : (n + 1) * side] for n in range(4))
    assert abs(found_amplitude.astype(int) - known_amplitude).max() <= 1
    assert abs(found_phase.astype(int) - known_phase).max() <= 1
    assert known_phase.std() > 30 and known_phase[:2, :2].max() == 0


def test_without_a_truth_the_back_projection_is_what_is_known(batch):
    network = GroupReconstructor(Network(base_channels=8, depth=2, group_size=4, physics_iterations=1), window=16)
    solution = predict_groups(network, batch)
    pixels = picture(solution._replace(canvases=[solution.estimate]), batch._replace(truth=None))
    side = 32 + GAP
    assert abs(pixels[:side].astype(int) - pixels[side : 2 * side]).max() <= 1


def test_a_gpu_draws_the_same_picture(gpu, batch):
    network = GroupReconstructor(Network(base_channels=8, depth=2, group_size=4), window=16)
    here = picture(predict_groups(network, batch), batch)
    batch = Batch(*(part.cuda() if isinstance(part, torch.Tensor) else part for part in batch))
    there = picture(predict_groups(network.cuda(), batch), batch)
    assert abs(there.astype(int) - here).max() <= 2
