"""Orthogonal probe relaxation in a refinement: variation modes of the first probe mode, and their weights."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from ..config import Refinement
from ..core.instrument import Instrument
from ..physics.probe_variations import StreamedSVD, orthonormal_rows, vary_probe
from ..physics.propagation import far_field_corner, far_field_corner_inverse
from ..runtime.distributed import DistributedContext

OVERSAMPLING = 4
"""Vectors beyond the modes asked for, in the randomised decomposition."""
STEP = 2.0
"""Step of the probe that each pattern asks for, relative to least squares on its exit wave: about half of the change of
an exit wave shows in its modulus."""


def make_relaxation(
    settings: Refinement, instrument: Instrument, patterns: int, size: int, ctx: DistributedContext
) -> "ProbeRelaxation | None":
    """Make the relaxation of a refinement: the variations of the settings, or those of the start; None without any.

    Raises:
        ValueError: if there are not more patterns than variations.
    """
    given = 0 if instrument.probe_variations is None else len(instrument.probe_variations)
    count = settings.probe_variations or given
    if count == 0:
        return None
    return ProbeRelaxation(count, instrument, patterns, size, settings.probe_variation_smoothing, settings.seed, ctx)


class ProbeRelaxation:
    """Variation modes ``U_k`` and real weights ``w_jk``: ``P_j = P_0 + sum_k w_jk U_k``.

    In each epoch every pattern asks for a probe of its own, ``sum_k w_jk U_k + step O_j* (psi_j' - psi_j) / |O|^2``.
    The leading singular vectors of these are the modes of the next epoch, their coefficients the weights. They are
    found in one pass, so that never more than a batch of probes is kept.

    Args:
        count: number K of modes.
        instrument: modes and weights to start from; none without them.
        patterns: number J of patterns.
        size: side N of the probe, px.
        smoothing: standard deviation of the Gaussian that smooths weights along the scan, patterns; 0 for none.
        seed: of the first basis.
        ctx: device, and the ranks that share each batch.

    Attributes:
        modes: ``U_k``, complex, ``(K, N, N)``, each with as many photons as the first probe mode.
        weights: ``w_jk``, ``(J, K)``.

    Raises:
        ValueError: if there are not more patterns than modes.
    """

    def __init__(
        self,
        count: int,
        instrument: Instrument,
        patterns: int,
        size: int,
        smoothing: float,
        seed: int,
        ctx: DistributedContext,
    ) -> None:
        if count >= patterns:
            raise ValueError(
                f"refinement.probe_variations is {count}, but the scan has {patterns} pattern{'s' * (patterns != 1)}: "
                "set fewer variations than patterns"
            )
        self._ctx, self._smoothing = ctx, smoothing
        self.modes = torch.zeros(count, size, size, dtype=torch.complex64, device=ctx.device)
        self.weights = torch.zeros(patterns, count, device=ctx.device)
        if instrument.probe_variations is not None and instrument.variation_weights is not None:
            kept = min(count, len(instrument.probe_variations))
            self.modes[:kept] = torch.from_numpy(instrument.probe_variations[:kept])
            self.weights[:, :kept] = torch.from_numpy(instrument.variation_weights[:, :kept])
        random = torch.randn(
            min(count + OVERSAMPLING, patterns - 1), 2 * size**2, generator=torch.Generator().manual_seed(seed)
        )
        self._basis = orthonormal_rows(random.to(ctx.device))
        self._svd: StreamedSVD | None = None

    def vary_spectrum(self, spectrum: Tensor, batch: Tensor) -> Tensor:
        """Add the variations of a batch to the spectrum of the probe ``(M, N, N)``: ``(b, M, N, N)``."""
        return vary_probe(spectrum, far_field_corner(self.modes), self.weights[batch])

    def begin_epoch(self, refined: bool) -> None:
        """Prepare the decomposition of an epoch that refines the variations."""
        self._svd = StreamedSVD(len(self.weights), self._basis) if refined else None
        self._spectra = far_field_corner(self.modes)

    def accumulate(self, batch: Tensor, spectra: Tensor, object_intensity: Tensor) -> None:
        """Take in the probes that a batch asks for.

        Args:
            batch: patterns, ``(b,)``.
            spectra: of ``O_j* (psi_j' - psi_j)`` at the origin of the probe, first mode, ``(b, N, N)``.
            object_intensity: greatest ``|O_j|^2`` under each pattern, ``(b,)``.
        """
        if self._svd is None or not len(batch):
            return
        asked = spectra * (STEP / object_intensity.clamp_min(1e-30))[:, None, None]
        asked += torch.tensordot(self.weights[batch].to(self._spectra), self._spectra, 1)
        self._svd.add(batch, torch.view_as_real(asked).flatten(1))

    def end_epoch(self, probe: Tensor) -> None:
        """Take the leading singular vectors of the epoch as modes, and their coefficients as weights.

        Args:
            probe: as it is after the epoch, ``(M, N, N)``: the modes get the photons of its first mode.
        """
        if self._svd is None:
            return
        for sums in (self._svd.coefficients, self._svd.products, self._svd.total):
            self._ctx.sum(sums)
        weights, vectors = self._svd.solve()
        self._basis = vectors if vectors.norm(dim=1).min() > 0.5 else orthonormal_rows(vectors + 1e-3 * self._basis)
        count, size = len(self.modes), self.modes.shape[-1]
        norm = probe[0].norm().clamp_min(1e-30)
        spectra = torch.view_as_complex(vectors[:count].view(-1, size, size, 2).contiguous())
        modes, kept = torch.zeros_like(self.modes), torch.zeros_like(self.weights)
        modes[: len(spectra)] = far_field_corner_inverse(spectra) * norm
        weights = weights[:, :count] / norm
        if self._smoothing > 0:
            smooth = gaussian_filter1d(weights.cpu().numpy(), self._smoothing, axis=0, mode="nearest")
            weights = torch.from_numpy(smooth).to(weights)
        kept[:, : weights.shape[1]] = weights
        self.modes, self.weights, self._svd = modes, kept, None

    def instrument_terms(self) -> dict[str, np.ndarray]:
        """Return modes and weights as fields of an :class:`Instrument`."""
        return {"probe_variations": self.modes.cpu().numpy(), "variation_weights": self.weights.cpu().numpy()}

    def state(self) -> dict[str, Tensor]:
        """Return what changes, for :meth:`resume`."""
        return {"variation_modes": self.modes, "variation_weights": self.weights, "variation_basis": self._basis}

    def resume(self, state: dict[str, Tensor]) -> None:
        """Resume from a :meth:`state`."""
        device = self._ctx.device
        self.modes, self.weights = state["variation_modes"].to(device), state["variation_weights"].to(device)
        self._basis = state["variation_basis"].to(device)
