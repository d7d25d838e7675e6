"""Annealing cycles of a refinement: the step size falls from its first to its last value in each of them."""

from dataclasses import dataclass

FIRST_CYCLE = 10
"""Epochs of the first cycle; each further one has twice as many as the one before."""
RESTART_PROGRESS = 0.3
"""Progress of the annealing at which every cycle but the first begins: full steps would bring back noise."""


@dataclass(frozen=True)
class CyclePosition:
    """Position of an epoch in its cycle.

    Attributes:
        number: of the epoch in the cycle, from 1.
        length: epochs of the cycle.
        progress: fraction of the annealing that is done, 0 to 1.
        ends_refinement: True for the cycle that is the last.
    """

    number: int
    length: int
    progress: float
    ends_refinement: bool

    @property
    def ends_cycle(self) -> bool:
        """True for the last epoch of a cycle."""
        return self.number == self.length


def cycle_lengths(epochs: int, last_start: int = 0) -> list[int]:
    """Divide epochs into cycles of doubling length; the last takes what is left.

    Args:
        epochs: in all.
        last_start: latest epoch from which a variable is refined; it lies in the first half of the first cycle.

    Returns:
        Epochs of each cycle.
    """
    length = max(FIRST_CYCLE, 2 * last_start)
    lengths: list[int] = []
    while epochs >= 2 * length:
        lengths.append(length)
        epochs -= length
        length *= 2
    return [*lengths, epochs] if epochs >= length or not lengths else [*lengths[:-1], lengths[-1] + epochs]


def position_in_cycle(epoch: int, lengths: list[int]) -> CyclePosition:
    """Return the position in its cycle of an epoch, counted from 1."""
    cycle, number = 0, epoch
    while number > lengths[cycle]:
        number -= lengths[cycle]
        cycle += 1
    fraction = (number - 1) / max(lengths[cycle] - 1, 1)
    first = RESTART_PROGRESS if cycle else 0.0
    return CyclePosition(number, lengths[cycle], first + (1 - first) * fraction, cycle == len(lengths) - 1)
