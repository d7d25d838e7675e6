"""Orthogonal probe relaxation: a first probe mode that changes from pattern to pattern.

Odstrcil et al. 2016, Opt. Express 24, 8360: ``P_j = P_0 + sum_k w_jk U_k`` with few variation modes ``U_k``, the
leading singular vectors of the probes that single patterns ask for, and real weights ``w_jk``.
"""

import torch
from torch import Tensor


def vary_probe(probe: Tensor, variations: Tensor, weights: Tensor) -> Tensor:
    """Compute the probe at each pattern, ``P_0 + sum_k w_jk U_k`` in its first mode.

    Linear, so that it serves probes and their spectra alike.

    Args:
        probe: modes, ``(M, N, N)``.
        variations: variation modes U of the first mode, ``(K, N, N)``.
        weights: real, ``(b, K)``.

    Returns:
        Probe modes at each pattern, ``(b, M, N, N)``.
    """
    varied = probe.expand(len(weights), *probe.shape).clone()
    varied[:, 0] += torch.tensordot(weights.to(variations), variations, 1)
    return varied


class StreamedSVD:
    """Leading singular vectors of a real matrix whose rows are seen once, in batches, and never kept.

    Randomised range finder in one pass: with a basis Q of L vectors it sums ``B = C^T A`` for ``C = A Q^T``. ``C``
    spans the leading left singular vectors of ``A`` about as well as one step of subspace iteration from Q, and
    ``A ~ C (C^T C)^-1 B``. Halko, Martinsson and Tropp 2011, SIAM Review 53, 217.

    Args:
        rows: number of rows J of ``A``.
        basis: Q, orthonormal rows, ``(L, D)``.

    Attributes:
        coefficients: C, ``(J, L)``.
        products: B, ``(L, D)``.
        total: sum of all rows, ``(D,)``.
    """

    def __init__(self, rows: int, basis: Tensor) -> None:
        self.basis = basis
        self.coefficients = basis.new_zeros(rows, len(basis))
        self.products, self.total = torch.zeros_like(basis), basis.new_zeros(basis.shape[1])

    def add(self, index: Tensor, values: Tensor) -> None:
        """Take in the rows ``(b, D)`` with these numbers ``(b,)``."""
        coefficients = values @ self.basis.T
        self.coefficients[index] = coefficients
        self.products += coefficients.T @ values
        self.total += values.sum(0)

    def solve(self) -> tuple[Tensor, Tensor]:
        """Compute the singular vectors of the rows seen, less their mean.

        Returns:
            Left singular vectors times singular values, ``(J, L)``, and right singular vectors, ``(L, D)``, by
            decreasing singular value. Vectors of a vanishing singular value are zero.
        """
        mean = self.total.double() / len(self.coefficients)
        coefficients = self.coefficients.double()
        # (C - mean c)^T (A - mean a) = C^T A - J mean c^T mean a
        centre = coefficients.mean(0)
        products = self.products.double() - len(coefficients) * centre[:, None] * mean
        coefficients = coefficients - centre
        left, inverse_root = _orthonormal_columns(coefficients)
        projected = inverse_root.T @ products  # left^T A
        values, vectors = torch.linalg.eigh(projected @ projected.T)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        right = vectors.T @ projected
        norms = right.norm(dim=1, keepdim=True)
        right = torch.where(norms > 1e-12 * norms.max(), right / norms.clamp_min(1e-300), 0)
        return ((left @ vectors) * values.sqrt()).to(self.basis), right.to(self.basis)


def orthonormal_rows(matrix: Tensor) -> Tensor:
    """Return orthonormal rows that span those of a real matrix of full rank, ``(L, D)``."""
    return torch.linalg.qr(matrix.T.double())[0].T.to(matrix).contiguous()


def _orthonormal_columns(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return orthonormal columns ``matrix T`` of the same span, and T, ``(L, L)``; zero where the rank is lower."""
    values, vectors = torch.linalg.eigh(matrix.T @ matrix)
    kept = values > 1e-10 * values.max().clamp_min(1e-300)
    transform = vectors * torch.where(kept, values.clamp_min(1e-300).rsqrt(), 0)
    return matrix @ transform, transform
