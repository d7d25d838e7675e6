r"""Does the learned prior draw or swallow a feature? A spot planted in one of two otherwise equal scans.

    python benchmarks/hallucination.py --json hallucination.json

Both scans of a pair have the same object, beam and positions, and noise of their own; the object of one has a spot of
phase. Both are refined without and with the prior. The contrast of the spot is the mean phase error, against the object
*without* it, in the spot less that in a ring around it, relative to the phase that was planted: 1 is right where it was
planted, 0 where it was not. `elsewhere` is the greatest absolute contrast at 12 other places of the scan without it.
Beams, sizes and objects are of kinds that the prior saw in training; their seeds are others.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptychoflow.config import ObjectRecipe, ProbeRecipe, Refinement, Trajectory
from ptychoflow.core.scan import Scan
from ptychoflow.metrics.alignment import align
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.loop import RefinementLoop
from ptychoflow.simulation.acquisition import from_simulation
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.scan_paths import make_trajectory

SIDE, SIZE, DIAMETER, EPOCHS = 144, 48, 20.0, 20
OBJECTS = ("siemens_star", "dead_leaves")
BEAMS = {"kb_mirror": 1.1, "zone_plate": 0.8, "gaussian": 0.6}
"""Kinds of beams and their defocus."""
SCANS = ((6.0, 1e5), (6.0, 1e3), (12.0, 1e5), (12.0, 1e4))
"""Step, px, and photons in a pattern: dense and bright, dense and dim, sparse and bright, sparse and dim."""
RADIUS, STRENGTH = 3.0, 0.4
"""Of the spot: radius, px, and phase, rad."""
PLACES = [(y, x) for y in (56, 66, 78, 88) for x in (60, 72, 84)]
"""Other places, px, where the contrast is measured."""
PLANTED = (72, 66)
"""Centre of the spot, px."""


def discs(centre: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return where the spot is and where the ring around it is, ``(SIDE, SIDE)``."""
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(y - centre[0], x - centre[1])
    return distance <= RADIUS, (distance > RADIUS + 1.5) & (distance <= 2.5 * RADIUS)


def pair_of_scans(kind: str, beam: str, step: float, photons: float) -> tuple[Scan, Scan]:
    """Simulate the scan without and the scan with the spot."""
    rng = np.random.default_rng(101)
    extra = {"spokes": 11} if kind == "siemens_star" else {}
    image = make_object(ObjectRecipe(name=kind, size=(SIDE, SIDE), phase_rad=(-0.6, 0.5), **extra), rng)
    probe = make_probe(ProbeRecipe(name=beam, diameter_px=DIAMETER, defocus=BEAMS[beam]), SIZE, 1.0, rng)
    positions = make_trajectory(Trajectory(step_px=step), (SIDE, SIDE), SIZE, DIAMETER, rng)[1]
    planted = image * np.exp(1j * STRENGTH * discs(PLANTED)[0]).astype(image.dtype)
    return (
        from_simulation(positions, probe, image, photons=photons, seed=1),
        from_simulation(positions, probe, planted, photons=photons, seed=2),
    )


def phase_error(scan: Scan, without: Scan, prior: str) -> np.ndarray:
    """Refine a scan; return its phase less that of the object without the spot, rad, ``(SIDE, SIDE)``."""
    loop = RefinementLoop(RefinementEngine(scan, Refinement.model_validate({"epochs": EPOCHS, "prior": prior})))
    loop.run(scan.name)
    engine, truth = loop.engine, without.truth
    assert truth is not None
    pair = align(engine.object.numpy(), engine.origin, engine.coverage(), np.asarray(truth.object), truth.origin)
    error = np.angle(pair.object * np.conj(pair.truth))
    top, left = (int(first) for first in np.rint(np.subtract(engine.origin, truth.origin)))
    rows, columns = np.mgrid[:SIDE, :SIDE] - np.array([top, left])[:, None, None]
    height, width = error.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, error[rows.clip(0, height - 1), columns.clip(0, width - 1)], 0)


def contrast(error: np.ndarray, centre: tuple[int, int]) -> float:
    """Return the phase in the spot less that in the ring, relative to the phase planted."""
    spot, ring = discs(centre)
    return float((error[spot].mean() - error[ring].mean()) / STRENGTH)


def compare() -> Iterator[dict[str, Any]]:
    """Yield a row for each object, beam, scan and prior."""
    for kind, beam, (step, photons) in itertools.product(OBJECTS, BEAMS, SCANS):
        without, planted = pair_of_scans(kind, beam, step, photons)
        for prior in ("none", "pretrained"):
            empty = phase_error(without, without, prior)
            yield {
                "object": kind,
                "beam": beam,
                "step_px": step,
                "photons": photons,
                "prior": prior,
                "planted": contrast(phase_error(planted, without, prior), PLANTED),
                "not_planted": contrast(empty, PLANTED),
                "elsewhere": max(abs(contrast(empty, place)) for place in PLACES),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in compare():
        rows.append(row)
        print(
            " ".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()), flush=True
        )
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1))
    print("\n| step, photons | prior | planted: least, median | not planted: greatest | elsewhere: greatest |")
    print("|---|---|--:|--:|--:|")
    for (step, photons), prior in itertools.product(SCANS, ("none", "pretrained")):
        some = [row for row in rows if (row["step_px"], row["photons"], row["prior"]) == (step, photons, prior)]
        planted = [row["planted"] for row in some]
        least, median = min(planted), float(np.median(planted))
        empty = max(abs(row["not_planted"]) for row in some)
        elsewhere = max(row["elsewhere"] for row in some)
        print(f"| {step:g} px, {photons:.0e} | {prior} | {least:.2f}, {median:.2f} | {empty:.2f} | {elsewhere:.2f} |")


if __name__ == "__main__":
    main()
