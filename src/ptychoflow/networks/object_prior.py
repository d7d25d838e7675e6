"""The learned prior of objects: a network, trained once for any beam, that refinement applies between its epochs."""

import json
import math
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from ..io.provenance import sha256
from .unet import UNet

CHANNELS = 8
"""Real channels of the input, see :func:`prior_channels`."""
LOW_ORDER_PX = 8.0
"""Standard deviation of the Gaussian below whose scale phase is left to the measurement, px."""
MAX_NOISE_RATIO = 6.0
"""Noise level of a pixel, relative to the least, up to which it counts in averages over the object."""
TILE, MARGIN = 512, 32
"""Side of the tiles in which a large object is corrected, and the margin that is seen around each, px."""
WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the weights that come with the package, each with a model card beside it."""


class ObjectPrior(nn.Module):
    """Predict the error of an object during refinement, from the object, its gradient and its noise level.

    The network sees detail only. The object's amplitude scale and its phase, as far as they vary slowly, are not in its
    output: the measurement determines them, and probe and object may share them in any proportion. So it suits beams
    and samples of any kind.

    Args:
        base_channels: channels of the first level of the U-Net.
        depth: number of its levels.
    """

    def __init__(self, base_channels: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.depth = depth
        self.backbone = UNet(CHANNELS, 2, base_channels, depth)

    def forward(self, features: Tensor) -> Tensor:
        """Return the object less its predicted error, complex, ``(B, H, W)``.

        Args:
            features: complex, ``(B, 4, H, W)``: object, object before the last epoch and preconditioned gradient, in
                units of the object's mean amplitude, and noise level.
        """
        height, width = features.shape[-2:]
        stride = UNet.stride(self.depth)
        padded = pad(prior_channels(features), (0, -width % stride, 0, -height % stride), mode="replicate")
        change = self.backbone(padded)[..., :height, :width].float()
        return features[:, 0] + torch.complex(change[:, 0], change[:, 1])

    @torch.no_grad()
    def correct(self, features: Tensor) -> Tensor:
        """Return the corrected object of a whole scan, ``(H, W)``, with its amplitude scale and low-order phase.

        Args:
            features: of :func:`ptychoflow.networks.object_network.object_features`, ``(4, H, W)``.
        """
        noise = features[3].real
        known = (noise <= MAX_NOISE_RATIO * noise.min()).to(noise.dtype)
        scale = _mean_amplitude(features[0], known)
        scaled = torch.cat([features[:3] / scale, features[3:]])
        corrected = torch.cat(
            [
                torch.cat([self._tile(scaled, top, left) for left in range(0, noise.shape[1], TILE)], dim=1)
                for top in range(0, noise.shape[0], TILE)
            ]
        )
        corrected = corrected * low_order_phasor(scaled[0] * corrected.conj() * known)
        return corrected * (scale / _mean_amplitude(corrected, known))

    def _tile(self, features: Tensor, top: int, left: int) -> Tensor:
        """Return the network's output on one tile, computed with a margin around it."""
        first_row, first_column = max(top - MARGIN, 0), max(left - MARGIN, 0)
        seen = features[:, first_row : top + TILE + MARGIN, first_column : left + TILE + MARGIN]
        kept = self(seen[None])[0, top - first_row :, left - first_column :]
        return kept[:TILE, :TILE]


def prior_channels(features: Tensor) -> Tensor:
    """Return complex features ``(B, 4, H, W)`` as the real channels of the network, ``(B, 8, H, W)``.

    Object, change and gradient pass through ``asinh``, which keeps small values and compresses large ones; the noise
    level is seen as it is and as its logarithm.
    """
    image, before, gradient, noise = features.unbind(1)
    level = noise.real
    parts = [(image - 1, 1.0), (image - before, 2.0), (gradient, 2.0)]
    channels = [gain * torch.asinh(3 * part) for field, gain in parts for part in (field.real, field.imag)]
    return torch.stack([*channels, 4 * level.clamp(max=0.5), level.clamp(1e-4, 0.5).log() / 3 + 1], dim=1)


def low_order_phasor(ratio: Tensor) -> Tensor:
    """Return the phase factor of a complex image, smoothed by a Gaussian of ``LOW_ORDER_PX``, of modulus 1, ``(H, W)``.

    Args:
        ratio: complex, ``(H, W)`` or ``(B, H, W)``; smoothed as it is, so that no phase is unwrapped.
    """
    radius = math.ceil(2.5 * LOW_ORDER_PX)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32, device=ratio.device)
    kernel = torch.exp(-offsets.square() / (2 * LOW_ORDER_PX**2))
    kernel = (kernel / kernel.sum())[None, None]
    parts = torch.view_as_real(ratio).movedim(-1, 0).reshape(-1, 1, *ratio.shape[-2:])
    smooth = conv2d(conv2d(parts, kernel[..., None], padding=(radius, 0)), kernel[..., None, :], padding=(0, radius))
    real, imaginary = smooth.reshape(2, *ratio.shape)
    smooth_ratio = torch.complex(real, imaginary)
    return smooth_ratio / smooth_ratio.abs().clamp_min(1e-9)


@cache
def pretrained_prior(name: str = "object_prior") -> ObjectPrior:
    """Return a prior whose weights come with the package, ready to predict.

    Args:
        name: of the weights.

    Raises:
        FileNotFoundError: if the package has no such weights.
        ValueError: if the weights were altered.
    """
    path = WEIGHTS / f"{name}.safetensors"
    card = read_model_card(name)
    if sha256(path) != card["sha256"]:
        raise ValueError(f"{path} was altered (checksum): install ptychoflow again")
    prior = ObjectPrior(**card["network"])
    try:
        prior.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} are the weights of another network: {str(error).splitlines()[0]}") from None
    return prior.eval().requires_grad_(False)


def read_model_card(name: str) -> dict:
    """Return the model card of pretrained weights: network, checksum, data, seed, licence, limits.

    Raises:
        FileNotFoundError: if the package has no such weights.
    """
    path = WEIGHTS / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"no pretrained weights {name}: expected one of {', '.join(model_names()) or 'none'}")
    return json.loads(path.read_text())


def model_names() -> list[str]:
    """Return the names of the weights that come with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.json"))


def _mean_amplitude(image: Tensor, known: Tensor) -> Tensor:
    """Return the mean amplitude of the known pixels, above 0."""
    return ((image.abs() * known).sum() / known.sum().clamp_min(1)).clamp_min(1e-9)
