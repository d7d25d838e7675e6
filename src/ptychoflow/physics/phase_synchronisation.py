"""Phase synchronisation: patches are known up to a phase factor each, and overlapping ones must agree."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csc_array, diags_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import SuperLU, splu
from scipy.spatial import Delaunay, QhullError

SHIFT = 1e-6
"""Added to the Laplacian so that it can be inverted, relative to its mean diagonal."""
BLOCK = 32
"""Patches that are synchronised at once, before the blocks are."""
INVERSE_ITERATIONS = 20
"""Inverse iterations: the lowest eigenvalues of a block lie well apart."""
ASCENT_STEPS = 20
"""Steps on the angles at each level."""
N_SOLUTIONS, ROUNDS = 8, 3
"""Solutions that vote on every link, and rounds of votes, where two solutions differ."""
SAME_COSINE = 0.6
"""Two solutions are the same if no link differs between them by more than the angle of this cosine."""
MIN_LINK = 1e-6
"""Least link that is used, relative to the strongest."""


@dataclass(frozen=True)
class Synchronised:
    """Phase factors that make patches agree.

    Attributes:
        factors: factor to multiply each patch with, modulus 1, complex64, ``(n,)``.
        components: connected component of each patch, the largest first, ``(n,)``; phases between components are
            undetermined.
        agreement: agreement of overlapping patches then, 0 to 1: ``Re sum of overlaps / sum of their bounds``.
    """

    factors: np.ndarray
    components: np.ndarray
    agreement: float


def neighbour_pairs(positions: np.ndarray, reach: float) -> np.ndarray:
    """Return the pairs of patches to compare: neighbours in the Delaunay triangulation of their positions.

    About three pairs for each position however many there are. The minimum spanning tree is among them, so that
    positions connected within ``reach`` stay connected, along lines that are far apart too.

    Args:
        positions: px, ``(n, 2)``.
        reach: greatest distance of a pair, px.

    Returns:
        Indices of each pair, once, ``(p, 2)``.
    """
    points, first, point = np.unique(positions, axis=0, return_index=True, return_inverse=True)
    edges = _edges(points)
    edges = edges[np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1) <= reach]
    same = np.stack([first[point.ravel()], np.arange(len(positions))], axis=1)
    same = same[same[:, 0] != same[:, 1]]
    return np.sort(np.concatenate([first[edges], same]), axis=1)


def overlaps(patches: np.ndarray, pairs: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the overlap of pairs of patches, ``sum_r A_a conj(A_b)``, and its upper bound.

    Args:
        patches: times the weights of their pixels, complex64, ``(n, S, S)``.
        pairs: indices, ``(p, 2)``.
        shifts: position of the second less that of the first, whole px, ``(p, 2)``.

    Returns:
        Overlaps, complex, and the same sum of moduli, real, ``(p,)`` each.
    """
    size, moduli = patches.shape[-1], np.abs(patches)
    overlap, bound = np.zeros(len(pairs), np.complex128), np.zeros(len(pairs))
    for n, ((a, b), (y, x)) in enumerate(zip(pairs.tolist(), shifts.tolist(), strict=True)):
        if abs(y) < size and abs(x) < size:
            # pixel r of the first patch is pixel r - shift of the second
            first = a, slice(max(y, 0), size + min(y, 0)), slice(max(x, 0), size + min(x, 0))
            second = b, slice(max(-y, 0), size - max(y, 0)), slice(max(-x, 0), size - max(x, 0))
            overlap[n] = np.vdot(patches[second], patches[first])
            bound[n] = np.vdot(moduli[second], moduli[first])
    return overlap, bound


def synchronise(count: int, pairs: np.ndarray, overlap: np.ndarray, bound: np.ndarray) -> Synchronised:
    """Solve for the phase factors under which all pairs agree best, in each connected component by itself.

    From small to large: blocks of a few patches by the lowest eigenvector of their connection Laplacian ``D - W``
    (Singer 2011, Angular synchronization by eigenvectors), then those blocks among each other in the same way, and at
    each level steps on the angles of all, which ascend to the maximum. The eigenvector of a large scan does not
    suffice: noise confines it to a part of the scan, and the lowest eigenvalues are as close as the inverse of the
    number of patches.

    Strong noise leaves phase vortices, around which the phase changes by 2 pi; no small step removes one. Their places
    depend on the blocks, so several solutions from different blocks vote: the mean of their phases of a link has no
    vortex that most of them do not share, and the next solutions are made from those means.

    Args:
        count: number of patches, n.
        pairs: indices, ``(p, 2)``.
        overlap: ``sum O_a conj(O_b)`` of each pair, complex, ``(p,)``.
        bound: upper bound of its modulus, ``(p,)``.

    Returns:
        Phase factors, connected components and agreement.
    """
    # patches that agree poorly determine their phase less well than their illumination suggests
    link = overlap * np.abs(overlap) / np.maximum(bound, 1e-30)
    known = np.abs(link) > MIN_LINK * np.abs(link).max(initial=0)
    half = coo_array((link[known], (pairs[known, 0], pairs[known, 1])), (count, count)).tocsc()
    connection = half + half.conj().T
    components = _largest_first(connected_components(abs(half), directed=False)[1])
    factors = np.ones(count, np.complex128)
    members = np.split(np.argsort(components, kind="stable"), np.cumsum(np.bincount(components))[:-1])
    for part in (part for part in members if len(part) > 1):
        phases = _phases(connection if len(part) == count else connection[part][:, part])
        mean = phases.sum()
        # the eigenvector holds each patch's own phase: the conjugate removes it
        factors[part] = (phases * mean.conj() / max(abs(mean), 1e-30)).conj()
    achieved = (factors[pairs[:, 0]] * overlap * factors[pairs[:, 1]].conj()).real.sum()
    return Synchronised(factors.astype(np.complex64), components, float(achieved / max(bound.sum(), 1e-30)))


def _edges(points: np.ndarray) -> np.ndarray:
    """Return the pairs of neighbouring points, ``(p, 2)``; points on one line are neighbours in turn."""
    try:
        triangles = Delaunay(points - points[0])  # far from the origin qhull gives up
    except (QhullError, ValueError):  # fewer than three, or all on one line
        order = np.lexsort(points.T)
        return np.stack([order[:-1], order[1:]], axis=1)
    first, neighbours = triangles.vertex_neighbor_vertices
    pairs = np.stack([np.repeat(np.arange(len(points)), np.diff(first)), neighbours], axis=1)
    left_out = triangles.coplanar[:, [0, 2]]  # too close to another to be a corner
    return np.concatenate([pairs[pairs[:, 0] < pairs[:, 1]], left_out])


def _largest_first(components: np.ndarray) -> np.ndarray:
    """Renumber components by their number of patches, the largest first."""
    rank = np.argsort(np.argsort(-np.bincount(components), kind="stable"))
    return rank[components]


def _phases(connection: csc_array) -> np.ndarray:
    """Return the phase factor of each patch of a component, of all solutions the one that agrees best."""
    links, rng = connection.tocoo(), np.random.default_rng(0)
    (first, second), solve = links.coords, _ascent_solver(links)
    trusted, best, best_agreement = connection, np.ones(links.shape[0], np.complex128), -np.inf
    for _ in range(ROUNDS):
        votes = np.zeros(len(links.data), np.complex128)
        for number in range(N_SOLUTIONS):
            phases = _ascend(_by_blocks(trusted, rng), links, solve)
            agreement = _rotated(phases, links).real.sum()
            if agreement > best_agreement:
                best, best_agreement = phases, agreement
            differences = phases[first] * phases[second].conj()
            if number == 1 and (differences * votes.conj()).real.min() > SAME_COSINE:
                return best
            votes += differences
        trusted = coo_array((abs(links.data) * votes / N_SOLUTIONS, (first, second)), links.shape).tocsc()
    return best


def _by_blocks(connection: csc_array, rng: np.random.Generator) -> np.ndarray:
    """Solve within blocks, then between them: good among near patches, and everywhere where noise is weak."""
    block, links = _blocks(connection, rng), connection.tocoo()
    inside = block[links.coords[0]] == block[links.coords[1]]
    phases = _lowest_eigenvectors(coo_array((links.data[inside], [end[inside] for end in links.coords]), links.shape))
    if not block.any():
        return phases
    ends = [block[end[~inside]] for end in links.coords]
    between = coo_array((_rotated(phases, links)[~inside], ends), (block.max() + 1,) * 2).tocsc()
    wide = between.tocoo()
    return phases * _ascend(_by_blocks(between, rng), wide, _ascent_solver(wide))[block]


def _blocks(connection: csc_array, rng: np.random.Generator) -> np.ndarray:
    """Return the block of each patch: about :data:`BLOCK` connected patches, those nearest to one drawn at random."""
    count = connection.shape[0]
    if count <= 2 * BLOCK:
        return np.zeros(count, np.int64)
    seeds = rng.choice(count, count // BLOCK, replace=False)
    paths = dijkstra(abs(connection), indices=seeds, unweighted=True, min_only=True, return_predecessors=True)
    return np.unique(paths[2], return_inverse=True)[1]


def _lowest_eigenvectors(links: coo_array) -> np.ndarray:
    """Return the phases of the lowest eigenvector of every block's connection Laplacian, by inverse iteration."""
    solve = _factorised(_laplacian(links, abs(links).sum(0))).solve
    vector = np.ones(links.shape[0], np.complex128)
    for _ in range(INVERSE_ITERATIONS):
        vector = solve(vector)
        vector /= np.abs(vector).max()
    return vector / np.maximum(np.abs(vector), 1e-300)


def _ascent_solver(links: coo_array) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map from a gradient to a step that surely ascends: curvature is greatest where residuals are 0."""
    strength = abs(links)
    solve, mean = _factorised(_laplacian(strength, strength.sum(0))).solve, strength.sum(0).mean()
    return lambda gradient: solve(gradient / mean)


def _ascend(phases: np.ndarray, links: coo_array, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Take steps on the angles, each of which raises ``sum |w| cos(residual)`` over all pairs."""
    for _ in range(ASCENT_STEPS):
        gradient = np.bincount(links.coords[0], _rotated(phases, links).imag, len(phases))
        phases = phases * np.exp(1j * solve(gradient))
    return phases


def _rotated(phases: np.ndarray, links: coo_array) -> np.ndarray:
    """Return the links between patches of these phases: real and positive where the phases explain them."""
    first, second = links.coords
    return links.data * phases[first].conj() * phases[second]


def _laplacian(links: coo_array, degree: np.ndarray) -> csc_array:
    """Return ``D - W`` over its mean diagonal."""
    return ((diags_array(degree) - links) / degree.mean()).tocsc()


def _factorised(laplacian: csc_array) -> SuperLU:
    shifted = (laplacian + SHIFT * diags_array(np.ones(laplacian.shape[0]))).tocsc()
    return splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
