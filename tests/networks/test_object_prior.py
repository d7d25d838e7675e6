"""Tests of the learned prior: what it leaves to the measurement, and the weights that come with the package."""

import json
import shutil

import pytest
import torch

from ptychoflow.networks import object_prior
from ptychoflow.networks.object_prior import (
    ObjectPrior,
    low_order_phasor,
    model_names,
    pretrained_prior,
    prior_channels,
    read_model_card,
)


def _features(side=72, seed=0):
    """Features of an object near 1 under noise, ``(4, H, W)``."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(3, side, side, 2, generator=generator)
    fields = 1 + 0.2 * torch.view_as_complex(noise)
    fields[2] -= 1
    return torch.cat([fields, torch.full((1, side, side), 0.05, dtype=torch.complex64)])


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(3)
    prior = ObjectPrior(base_channels=8, depth=2)
    torch.nn.init.normal_(prior.backbone.output.weight, std=0.05)
    return prior.eval()


def test_a_correction_keeps_the_mean_amplitude(prior):
    features = _features()
    corrected = prior.correct(features)
    assert not torch.allclose(corrected, features[0], atol=1e-2)
    assert corrected.abs().mean() == pytest.approx(float(features[0].abs().mean()), rel=1e-5)


def test_a_correction_leaves_the_low_order_phase_to_the_measurement(prior):
    features = _features()
    before = low_order_phasor(features[0])
    after = low_order_phasor(prior.correct(features) * features[0].conj())
    assert before.abs().sub(1).abs().max() < 1e-5
    assert after.angle().abs().max() < 0.05


def test_a_correction_scales_with_the_object(prior):
    features = _features()
    scaled = torch.cat([2.5 * features[:3], features[3:]])
    assert torch.allclose(prior.correct(scaled), 2.5 * prior.correct(features), atol=1e-4)


@pytest.mark.parametrize("shape", [(72, 72), (65, 91), (150, 70)])
def test_a_correction_has_the_shape_of_the_object_whatever_the_tiles(prior, shape, monkeypatch):
    monkeypatch.setattr(object_prior, "TILE", 64)
    features = _features(150)[:, : shape[0], : shape[1]]
    corrected = prior.correct(features)
    assert corrected.shape == shape and torch.isfinite(corrected.abs()).all()


def test_the_low_order_phasor_of_a_ramp_is_the_ramp_in_the_middle():
    y = torch.arange(96.0)[:, None].expand(96, 96)
    ramp = torch.polar(torch.ones(96, 96), 0.03 * y)
    middle = (low_order_phasor(ramp) * ramp.conj())[30:66, 30:66]
    assert middle.angle().abs().max() < 1e-3


def test_the_channels_are_bounded_where_the_object_diverges():
    features = _features()
    features[0] *= 1e6
    assert prior_channels(features[None]).abs().max() < 40


def test_the_shipped_weights_are_what_their_card_says():
    assert model_names() == ["object_prior"]
    card = read_model_card("object_prior")
    prior = pretrained_prior("object_prior")
    assert sum(value.numel() for value in prior.state_dict().values()) == card["parameters"]
    assert {"data", "made_with", "license", "limits"} <= card.keys()


@pytest.fixture
def altered(tmp_path, monkeypatch):
    """A copy of the shipped weights, which tests may alter."""
    shutil.copytree(object_prior.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(object_prior, "WEIGHTS", tmp_path / "weights")
    pretrained_prior.cache_clear()
    yield tmp_path / "weights"
    pretrained_prior.cache_clear()


def test_altered_weights_are_refused(altered):
    path = altered / "object_prior.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"altered \(checksum\): install ptychoflow again"):
        pretrained_prior()


def test_weights_of_another_network_are_refused(altered):
    path = altered / "object_prior.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"network": {"base_channels": 8, "depth": 2}}))
    with pytest.raises(ValueError, match="weights of another network"):
        pretrained_prior()


def test_unknown_weights_are_named():
    with pytest.raises(FileNotFoundError, match="no pretrained weights atoms: expected one of object_prior"):
        read_model_card("atoms")
