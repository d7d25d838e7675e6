"""One phase for all patches: each is known up to a phase factor, and overlapping patches must agree."""

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
"""Patches that are synchronised at once, before blocks of them are."""
SOLUTIONS = 20
"""Inverse iterations: the lowest eigenvalues of a block lie well apart."""
STEPS = 20
"""Steps on the angles at each level."""
SEVERAL, ROUNDS = 8, 3
"""Solutions that vote on every link, and how often they do, where two of them differ."""
SAME = 0.6
"""Two solutions are the same if they turn no link by more than the angle of this cosine."""
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

    From small to large: blocks of a few patches by the lowest eigenvector of their connection Laplacian ``D - W``
    (Singer 2011, Angular synchronization by eigenvectors), then those blocks among each other in the same way, and at
    each level steps on the angles of all, which rise to the maximum. The eigenvector of a large scan will not do: noise
    confines it to a part of the scan, and the lowest eigenvalues lie as close as the inverse of the number of patches.

    Strong noise leaves whirls, around which the phase turns by a whole circle; no small step removes one. Where they
    stay depends on the blocks, so several solutions from different blocks are asked: the mean of what they say of a
    link has none that most of them do not share, and the next solutions are made from those means.

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
        triangles = Delaunay(places - places[0])  # far from the origin qhull gives up
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
    """The phase of each patch of a connected part, as complex numbers of modulus 1: of all solutions the best."""
    links, rng = connection.tocoo(), np.random.default_rng(0)
    (first, second), solve = links.coords, _rising(links)
    trusted, best, most = connection, None, -np.inf
    for _ in range(ROUNDS):
        told = np.zeros(len(links.data), np.complex128)
        for number in range(SEVERAL):
            phases = _improved(_by_blocks(trusted, rng), links, solve)
            agreement = _agreed(phases, links).real.sum()
            if agreement > most:
                best, most = phases, agreement
            turns = phases[first] * phases[second].conj()
            if number == 1 and (turns * told.conj()).real.min() > SAME:
                return best
            told += turns
        trusted = coo_array((abs(links.data) * told / SEVERAL, (first, second)), links.shape).tocsc()
    return best


def _by_blocks(connection: csc_array, rng: np.random.Generator) -> np.ndarray:
    """Phases within blocks, and of those from larger ones: good among near patches, elsewhere where noise is weak."""
    block, links = _blocks(connection, rng), connection.tocoo()
    inside = block[links.coords[0]] == block[links.coords[1]]
    phases = _lowest(coo_array((links.data[inside], [end[inside] for end in links.coords]), links.shape))
    if not block.any():
        return phases
    ends = [block[end[~inside]] for end in links.coords]
    between = coo_array((_agreed(phases, links)[~inside], ends), (block.max() + 1,) * 2).tocsc()
    wide = between.tocoo()
    return phases * _improved(_by_blocks(between, rng), wide, _rising(wide))[block]


def _blocks(connection: csc_array, rng: np.random.Generator) -> np.ndarray:
    """A block for each patch: of some :data:`BLOCK` that hang together, those nearest to one drawn by chance."""
    count = connection.shape[0]
    if count <= 2 * BLOCK:
        return np.zeros(count, np.int64)
    seeds = rng.choice(count, count // BLOCK, replace=False)
    found = dijkstra(abs(connection), indices=seeds, unweighted=True, min_only=True, return_predecessors=True)
    return np.unique(found[2], return_inverse=True)[1]


def _lowest(links: coo_array) -> np.ndarray:
    """Phases of the lowest eigenvector of the connection Laplacian, of every block at once, by inverse iteration."""
    solve = _factorised(_laplacian(links, abs(links).sum(0))).solve
    vector = np.ones(links.shape[0], np.complex128)
    for _ in range(SOLUTIONS):
        vector = solve(vector)
        vector /= np.abs(vector).max()
    return vector / np.maximum(np.abs(vector), 1e-300)


def _rising(links: coo_array) -> Callable[[np.ndarray], np.ndarray]:
    """From a slope to a step that surely rises: the curvature is nowhere greater than with all residuals 0."""
    strength = abs(links)
    solve, mean = _factorised(_laplacian(strength, strength.sum(0))).solve, strength.sum(0).mean()
    return lambda slope: solve(slope / mean)


def _improved(phases: np.ndarray, links: coo_array, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Some steps on the angles, by each of which ``sum |w| cos(residual)`` over all pairs rises."""
    for _ in range(STEPS):
        slope = np.bincount(links.coords[0], _agreed(phases, links).imag, len(phases))
        phases = phases * np.exp(1j * solve(slope))
    return phases


def _agreed(phases: np.ndarray, links: coo_array) -> np.ndarray:
    """Links as they are between patches of these phases: real and positive where those explain them."""
    first, second = links.coords
    return links.data * phases[first].conj() * phases[second]


def _laplacian(links: coo_array, degree: np.ndarray) -> csc_array:
    """``D - W`` over its mean diagonal."""
    return ((diags_array(degree) - links) / degree.mean()).tocsc()


def _factorised(laplacian: csc_array) -> SuperLU:
    shifted = (laplacian + SHIFT * diags_array(np.ones(laplacian.shape[0]))).tocsc()
    return splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
