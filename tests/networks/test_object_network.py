"""The network of a whole object: blind to what cannot be known, and each pixel corrected once."""

import pytest
import torch

from ptychoflow.config import Network
from ptychoflow.networks import object_network as whole
from ptychoflow.networks.object_network import ObjectCorrector, channels, light_of, object_features


def _fields(height: int = 30, width: int = 37) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    image, before, slope = torch.randn(3, height, width, generator=rng, dtype=torch.complex64)
    return [image + 2, before + 2, 0.1 * slope, 50 + 20 * torch.rand(height, width, generator=rng)]


@pytest.fixture
def network() -> ObjectCorrector:
    torch.manual_seed(0)
    return ObjectCorrector(Network(input="object_estimate", base_channels=8, depth=2), 32)


def test_a_view_does_not_know_the_phase_offsets():
    image, before, slope, light = _fields()
    first, second = (torch.polar(torch.ones(()), torch.tensor(angle)) for angle in (0.7, -1.9))
    torch.testing.assert_close(
        object_features(image * first, before * second, slope * first, light),
        object_features(image, before, slope, light),
    )


def test_noise_falls_with_the_root_of_the_photons_and_tells_them():
    image, before, slope, light = _fields()
    dim, bright = (object_features(image, before, slope, dose * light) for dose in (1, 9))
    torch.testing.assert_close(dim[3], 3 * bright[3])
    torch.testing.assert_close(light_of(bright[None])[0], 9 * light)


def test_normalised_channels_have_a_mean_square_of_one(network):
    view = torch.stack([object_features(*_fields())] * 2)
    network.normalise(view)
    seen = channels(view) * network.input_scale[:, None, None]
    torch.testing.assert_close(seen.square().mean((0, 2, 3)), torch.ones(7))


@pytest.mark.parametrize("shape", [(30, 37), (32, 32), (17, 64)])
def test_any_size_is_corrected(network, shape):
    view = object_features(*_fields(*shape))
    found = network(view[None])[0]
    assert found.shape == shape and found.dtype == torch.complex64
    assert (found != view[0]).any()
    torch.testing.assert_close(network.correct(view), found)


def test_an_answer_is_turned_back_to_where_the_question_was(network, monkeypatch):
    """A network that adds what it is shown doubles the object, whichever of eight ways it is held."""
    view, shown = object_features(*_fields(32, 32))[None], []

    def add(seen: torch.Tensor) -> torch.Tensor:
        shown.append(seen)
        return seen[:, :2]

    monkeypatch.setattr(network.backbones[0], "forward", add)
    for turn in range(8):
        torch.testing.assert_close(network(view, turn), 2 * view[:, 0] - 1)
    assert not any(torch.equal(shown[k], shown[j]) for k in range(8) for j in range(k))


def test_squares_of_a_large_object_meet_without_gap_or_overlap(network, monkeypatch):
    monkeypatch.setattr(whole, "TILE", 16)
    monkeypatch.setattr(whole, "MARGIN", 4)
    monkeypatch.setattr(ObjectCorrector, "forward", lambda self, view, turn=0: 2 * view[:, 0])
    view = object_features(*_fields())
    torch.testing.assert_close(network.correct(view), 2 * view[0])


def test_far_from_the_edges_squares_see_what_the_whole_sees(network, monkeypatch):
    # without normalisation over all of a square, what lies beyond the reach of the convolutions does not matter
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):
            monkeypatch.setattr(module, "forward", lambda x: x)
    view = object_features(*_fields(128, 128))
    at_once = network.correct(view)
    monkeypatch.setattr(whole, "TILE", 64)
    torch.testing.assert_close(network.correct(view), at_once, rtol=1e-4, atol=1e-5)
