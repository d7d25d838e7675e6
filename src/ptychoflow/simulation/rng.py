"""Random generators: one seed per scan, and an independent generator for each thing that is drawn."""

import numpy as np

STREAMS = ("object", "trajectory", "probe", "mask", "noise", "beam")
"""Things that are drawn; the order is part of the seed."""


def seeded_rng(seed: int, name: str, *index: int) -> np.random.Generator:
    """Make the generator for one thing of one scan, and for one pattern where ``index`` is given.

    Generators are independent: another trajectory leaves the object as it was, and the noise of a pattern does not
    depend on other patterns.

    Args:
        seed: of the scan.
        name: one of :data:`STREAMS`.
        index: of a pattern.
    """
    return np.random.default_rng([seed, STREAMS.index(name), *index])
