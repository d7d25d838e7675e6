"""One phase for all patches: each is known up to a phase factor, and overlapping patches must agree."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csc_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, SuperLU, eigsh, splu
from scipy.spatial import Delaunay, QhullError

SHIFT = 1e-6
"""Added to the Laplacian so that it can be inverted, relative to its mean diagonal."""
SMALL = 32
"""Parts of no more patches are solved densely."""
LEAST = 1e-6
"""Least link that counts, relative to the strongest."""


@dataclass(frozen=True)
class Synchronised:
    """Phase factors that make patches agree.

    Attributes:
        factors: what to multiply each patch with, modulus 1, complex64, ``(n,)``.
        components: which connected part each patch belongs to, the largest first, ``(n,)``; parts do not know each
            other's phase.
        agreement: how well overlapping patches then agree, 0 to 1: ``Re sum of overlaps / sum of their bounds``.
    """

    factors: np.ndarray
    components: np.ndarray
    agreement: float


def neighbour_pairs(positions: np.ndarray, reach: float) -> np.ndarray:
    """Pairs to compare, each once: neighbours in the Delaunay triangulation within ``reach`` px, ``(p, 2)``.

    About three pairs for each position however many there are. The shortest tree over all positions is among them, so
    that whatever hangs together within ``reach`` still does, along lines that are far apart too.
    """
    places, first, place = np.unique(positions, axis=0, return_index=True, return_inverse=True)
    edges = _edges(places)
    edges = edges[np.linalg.norm(places[edges[:, 0]] - places[edges[:, 1]], axis=1) <= reach]
    same = np.stack([first[place.ravel()], np.arange(len(positions))], axis=1)
    same = same[same[:, 0] != same[:, 1]]
    return np.sort(np.concatenate([first[edges], same]), axis=1)


def overlaps(patches: np.ndarray, pairs: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How well pairs of patches agree where both lie, ``sum_r A_a conj(A_b)``, and the most that could be.

    Args:
        patches: times the weights of their pixels, complex64, ``(n, S, S)``.
        pairs: indices, ``(p, 2)``.
        shifts: position of the second less that of the first, whole px, ``(p, 2)``.

    Returns:
        Overlaps, complex, and the same sum of moduli, real, ``(p,)`` each.
    """
    size, moduli = patches.shape[-1], np.abs(patches)
    agreed, most = np.zeros(len(pairs), np.complex128), np.zeros(len(pairs))
    for n, ((a, b), (y, x)) in enumerate(zip(pairs.tolist(), shifts.tolist(), strict=True)):
        if abs(y) < size and abs(x) < size:
            # pixel r of the first patch is pixel r - shift of the second
            first = a, slice(max(y, 0), size + min(y, 0)), slice(max(x, 0), size + min(x, 0))
            second = b, slice(max(-y, 0), size - max(y, 0)), slice(max(-x, 0), size - max(x, 0))
            agreed[n] = np.vdot(patches[second], patches[first])
            most[n] = np.vdot(moduli[second], moduli[first])
    return agreed, most


def synchronise(count: int, pairs: np.ndarray, overlap: np.ndarray, bound: np.ndarray) -> Synchronised:
    """Solve for the phase factors under which all pairs agree best, in each connected part for itself.

    The lowest eigenvector of the connection Laplacian ``D - W`` (Singer 2011, Angular synchronization by eigenvectors)
    by shifted and inverted Lanczos iteration, then one Newton step on the angles, which the modulus of the eigenvector
    does not weigh. Plain inverse iteration does not get there in large scans: the lowest eigenvalues lie as close as
    the inverse of the number of patches.

    Args:
        count: number of patches, n.
        pairs: indices, ``(p, 2)``.
        overlap: ``sum O_a conj(O_b)`` of each pair, complex, ``(p,)``.
        bound: the most that it could be, ``(p,)``.
    """
    # a poor agreement says less about the phase than its light suggests
    link = overlap * np.abs(overlap) / np.maximum(bound, 1e-30)
    known = np.abs(link) > LEAST * np.abs(link).max(initial=0)
    half = coo_array((link[known], (pairs[known, 0], pairs[known, 1])), (count, count)).tocsc()
    connection = half + half.conj().T
    components = _largest_first(connected_components(abs(half), directed=False)[1])
    factors = np.ones(count, np.complex128)
    members = np.split(np.argsort(components, kind="stable"), np.cumsum(np.bincount(components))[:-1])
    for part in (part for part in members if len(part) > 1):
        phases = _phases(connection if len(part) == count else connection[part][:, part])
        mean = phases.sum()
        # the eigenvector holds each patch's own phase: what removes it is the conjugate
        factors[part] = (phases * mean.conj() / max(abs(mean), 1e-30)).conj()
    agreed = (factors[pairs[:, 0]] * overlap * factors[pairs[:, 1]].conj()).real.sum()
    return Synchronised(factors.astype(np.complex64), components, float(agreed / max(bound.sum(), 1e-30)))


def _edges(places: np.ndarray) -> np.ndarray:
    """Pairs of neighbouring places, ``(p, 2)``; places on one line are neighbours in turn."""
    try:
        triangles = Delaunay(places)
    except (QhullError, ValueError):  # fewer than three, or all on one line
        order = np.lexsort(places.T)
        return np.stack([order[:-1], order[1:]], axis=1)
    first, neighbours = triangles.vertex_neighbor_vertices
    pairs = np.stack([np.repeat(np.arange(len(places)), np.diff(first)), neighbours], axis=1)
    left_out = triangles.coplanar[:, [0, 2]]  # too close to another to be a corner
    return np.concatenate([pairs[pairs[:, 0] < pairs[:, 1]], left_out])


def _largest_first(components: np.ndarray) -> np.ndarray:
    """The same parts, numbered by how many patches they have."""
    rank = np.argsort(np.argsort(-np.bincount(components), kind="stable"))
    return rank[components]


def _phases(connection: csc_array) -> np.ndarray:
    """The phase of each patch of a connected part, as complex numbers of modulus 1."""
    degree = abs(connection).sum(0)
    laplacian = (diags_array(degree) - connection) / degree.mean()
    count = len(degree)
    if count <= SMALL:
        vector = np.linalg.eigh(laplacian.toarray())[1][:, 0]
    else:
        inverse = LinearOperator((count, count), _factorised(laplacian).solve, dtype=np.complex128)
        start = np.ones(count, np.complex128)
        vector = eigsh(laplacian, k=1, sigma=0, OPinv=inverse, tol=1e-3, v0=start)[1][:, 0]
    phases = vector / np.maximum(np.abs(vector), 1e-30)
    return _improved(phases, connection.tocoo())


def _improved(phases: np.ndarray, connection: coo_array) -> np.ndarray:
    """One Newton step on the angles: ``sum |w| cos(residual)`` over all pairs rises to its maximum."""
    first, second = connection.coords
    agreed = connection.data * phases[first].conj() * phases[second]
    slope = np.bincount(first, agreed.imag, len(phases))
    strength = coo_array((np.maximum(agreed.real, 0.1 * np.abs(agreed)), (first, second)), connection.shape)
    degree = strength.sum(0)
    hessian = (diags_array(degree) - strength) / degree.mean()
    return phases * np.exp(1j * _factorised(hessian).solve(slope / degree.mean()))


def _factorised(laplacian: csc_array) -> SuperLU:
    shifted = (laplacian + SHIFT * diags_array(np.ones(laplacian.shape[0]))).tocsc()
    return splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
