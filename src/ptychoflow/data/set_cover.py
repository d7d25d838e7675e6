"""Few groups that together hold every pattern."""

import numpy as np


def cover(groups: np.ndarray, patterns: int) -> np.ndarray:
    """Choose groups so that every pattern that is in any group is in a chosen one.

    Greedy: first the groups of which no member is covered yet, then those with one that is, and so on. For compact
    groups of C patterns that takes about ``1.3 patterns / C`` of them.

    Args:
        groups: pattern indices, ``(n, C)``.
        patterns: how many patterns there are.

    Returns:
        Rows of ``groups``, in order.
    """
    open_ = bytearray(b"\1") * patterns
    rows, left, chosen = groups.tolist(), range(len(groups)), []
    for least in range(groups.shape[1], 0, -1):
        rest = []
        for row in left:
            if sum(open_[member] for member in rows[row]) < least:
                rest.append(row)
                continue
            chosen.append(row)
            for member in rows[row]:
                open_[member] = 0
        left = rest
    return np.sort(np.array(chosen, np.int64))
