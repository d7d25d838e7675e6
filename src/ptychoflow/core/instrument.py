"""Departures of an instrument from the ideal experiment: a varying probe, background, detector response."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Instrument:
    """Terms of the forward model that an ideal experiment lacks; the default has none.

    ``I_j = B[|F[(P_0 + sum_k w_jk U_k) O_j]|^2 + sum_m>0 |F[P_m O_j]|^2] + b``.

    Attributes:
        probe_variations: variation modes ``U_k`` of the first probe mode, sqrt(photons), each with as many photons as
            that mode, complex64, ``(K, N, N)``; None for a probe that is the same at every pattern.
        variation_weights: real weights ``w_jk`` of the variation modes at each pattern, ``(J, K)``; None likewise.
        background: counts ``b`` added to every pattern, photons, float32, ``(N, N)``; None for none.
        point_spread_px: standard deviation of the Gaussian point spread ``B`` of the detector, px.
    """

    probe_variations: np.ndarray | None = None
    variation_weights: np.ndarray | None = None
    background: np.ndarray | None = None
    point_spread_px: float = 0.0

    @property
    def is_ideal(self) -> bool:
        """True if no term is present."""
        return self.probe_variations is None and self.background is None and self.point_spread_px == 0

    def at_patterns(self, patterns: Any) -> "Instrument":
        """Return the instrument at some patterns, by an index of NumPy's."""
        weights = self.variation_weights
        return self if weights is None else replace(self, variation_weights=weights[patterns])


IDEAL = Instrument()
"""The ideal experiment: a constant probe, no background, a sharp detector."""
