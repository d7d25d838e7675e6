"""Time of a refinement epoch, against the Fourier transforms that it needs.

    python benchmarks/fit.py

An epoch needs two transforms for each pattern and mode, to the detector and back; two more where the probe is refined,
to shift it to the pattern and its update back; one of these where positions are refined and the probe is not. ``ratio``
is the time of bare ``torch.fft.fft2`` on as many waves, in batches of the same size, over the time of the epoch, both
in this run, on one thread, in processor time. ``low-order phase`` epochs solve for that phase as well. Prints a table.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ptychoflow.commands.pack import pack
from ptychoflow.commands.simulate import simulate
from ptychoflow.config import ProbeRecipe, Refinement, Simulation
from ptychoflow.core.scan import Scan
from ptychoflow.io.dataset import open_dataset
from ptychoflow.refinement.engine import RefinedVariables, RefinementEngine

CASES = {
    "object": (2, RefinedVariables(), False),
    "object, low-order phase": (2, RefinedVariables(), True),
    "probe too": (4, RefinedVariables(probe=True), False),
    "probe and positions too": (4, RefinedVariables(probe=True, positions=True), False),
}
"""Transforms for each pattern and mode, refined variables, and True where the low-order phase is solved for."""


def scan_of(size: int, modes: int) -> Scan:
    """Simulate some hundred patterns of a photograph, with a probe 3/8 as wide as they are."""
    probe = ProbeRecipe(diameter_px=0.375 * size, modes=(1 / modes,) * modes)
    image = {"name": "photograph", "size": 3 * size}
    recipe = {"size": size, "object": image, "probe": probe.model_dump(), "trajectory": {"step_px": size / 9}}
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder) / "scan.cxi", Simulation.model_validate(recipe))
        pack(Path(folder) / "scan.cxi", Path(folder) / "scan")
        scan = open_dataset(Path(folder) / "scan")
        return scan.__class__(**vars(scan) | {"counts": scan.counts[:]})


def quickest(work: Callable[[], object], turns: int) -> float:
    """Return the least processor time of some repetitions, s."""
    spent = []
    for _ in range(turns):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


def transforms(patterns: int, batch: int, modes: int, size: int, count: int) -> None:
    """Transform the modes of every pattern ``count`` times."""
    waves = torch.ones(batch, modes, size, size, dtype=torch.complex64)
    for _ in range(count * patterns // batch):
        torch.fft.fft2(waves, norm="ortho")


def row(scan: Scan, modes: int, name: str, turns: int) -> str:
    """Measure one kind of epoch against its transforms; return a line of the table."""
    count, refined, low_order_phase = CASES[name]
    engine = RefinementEngine(scan, Refinement())
    epoch = quickest(lambda: engine.epoch(refined, 1.0, low_order_phase), turns)
    bare = quickest(lambda: transforms(len(scan), engine.settings.batch_size, modes, scan.size, count), turns)
    spent, least = (1e6 * seconds / len(scan) for seconds in (epoch, bare))
    patterns = f"{len(scan)} of {scan.size} px, {modes} mode{'s' * (modes > 1)}"
    return f"| {patterns} | {name} | {spent:.0f} | {least:.0f} | {bare / epoch:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="of which the quickest counts")
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    print("| patterns | epoch | microseconds a pattern | Fourier transforms | ratio |\n|---|---|--:|--:|--:|")
    for size, modes in ((64, 1), (64, 3), (128, 1), (128, 3)):
        scan = scan_of(size, modes)
        for name in CASES:
            print(row(scan, modes, name, turns), flush=True)


if __name__ == "__main__":
    main()
