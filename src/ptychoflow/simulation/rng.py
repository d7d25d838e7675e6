"""Random numbers: one seed of a scan, and a stream of its own for each thing that is drawn."""

import numpy as np

STREAMS = ("object", "trajectory", "probe", "mask", "noise")


def seeded_rng(seed: int, what: str, *index: int) -> np.random.Generator:
    """The generator for one thing of one scan, and for one pattern where ``index`` is given.

    Streams do not touch: another trajectory leaves the object as it was, and pattern 7 is drawn alike in any company.
    """
    return np.random.default_rng([seed, STREAMS.index(what), *index])
