"""The network of a whole object: blind to what cannot be known, and each pixel corrected once."""

import pytest
import torch

from ptychoflow.config import Network
from ptychoflow.networks import object_network as module
from ptychoflow.networks.object_network import ObjectCorrector, illumination_of, object_features, real_channels


def _fields(height: int = 30, width: int = 37) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    image, before, gradient = torch.randn(3, height, width, generator=rng, dtype=torch.complex64)
    return [image + 2, before + 2, 0.1 * gradient, 50 + 20 * torch.rand(height, width, generator=rng)]


@pytest.fixture
def network() -> ObjectCorrector:
    torch.manual_seed(0)
    return ObjectCorrector(Network(input="object_estimate", base_channels=8, depth=2), 32)


def test_features_do_not_depend_on_the_phase_offsets():
    image, before, gradient, illumination = _fields()
    first, second = (torch.polar(torch.ones(()), torch.tensor(angle)) for angle in (0.7, -1.9))
    torch.testing.assert_close(
        object_features(image * first, before * second, gradient * first, illumination),
        object_features(image, before, gradient, illumination),
    )


def test_noise_falls_with_the_root_of_the_photons_and_gives_them_back():
    image, before, gradient, illumination = _fields()
    dim, bright = (object_features(image, before, gradient, dose * illumination) for dose in (1, 9))
    torch.testing.assert_close(dim[3], 3 * bright[3])
    torch.testing.assert_close(illumination_of(bright[None])[0], 9 * illumination)


def test_normalised_channels_have_a_mean_square_of_one(network):
    features = torch.stack([object_features(*_fields())] * 2)
    network.normalise(features)
    seen = real_channels(features) * network.input_scale[:, None, None]
    torch.testing.assert_close(seen.square().mean((0, 2, 3)), torch.ones(7))


@pytest.mark.parametrize("shape", [(30, 37), (32, 32), (17, 64)])
def test_any_size_is_corrected(network, shape):
    features = object_features(*_fields(*shape))
    corrected = network(features[None])[0]
    assert corrected.shape == shape and corrected.dtype == torch.complex64
    assert (corrected != features[0]).any()
    torch.testing.assert_close(network.correct(features), corrected)


def test_the_output_is_rotated_back(network, monkeypatch):
    """A network that adds what it is shown doubles the object, in all of the eight orientations."""
    features, shown = object_features(*_fields(32, 32))[None], []

    def add(seen: torch.Tensor) -> torch.Tensor:
        shown.append(seen)
        return seen[:, :2]

    monkeypatch.setattr(network.backbones[0], "forward", add)
    for rotation in range(8):
        torch.testing.assert_close(network(features, rotation), 2 * features[:, 0] - 1)
    assert not any(torch.equal(shown[k], shown[j]) for k in range(8) for j in range(k))


def test_tiles_of_a_large_object_meet_without_gap_or_overlap(network, monkeypatch):
    monkeypatch.setattr(module, "TILE", 16)
    monkeypatch.setattr(module, "MARGIN", 4)
    monkeypatch.setattr(ObjectCorrector, "forward", lambda self, features, rotation=0: 2 * features[:, 0])
    features = object_features(*_fields())
    torch.testing.assert_close(network.correct(features), 2 * features[0])


def test_far_from_the_edges_tiles_agree_with_the_whole(network, monkeypatch):
    # without normalisation over all of a tile, what lies beyond the reach of the convolutions does not matter
    for layer in network.modules():
        if isinstance(layer, torch.nn.GroupNorm):
            monkeypatch.setattr(layer, "forward", lambda x: x)
    features = object_features(*_fields(128, 128))
    in_one_tile = network.correct(features)
    monkeypatch.setattr(module, "TILE", 64)
    torch.testing.assert_close(network.correct(features), in_one_tile, rtol=1e-4, atol=1e-5)
