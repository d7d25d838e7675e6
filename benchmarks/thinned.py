r"""Phase PSNR on a measurement thinned in patterns and in dose, by engine.

    make run CONFIG=config/siemens.yaml
    python benchmarks/thinned.py results/datasets/siemens --json thinned.json

A measurement can be thinned honestly: a random part of the patterns is kept, or counts are thinned binomially
(`Binomial(n, f)` of Poisson counts is Poisson). The reference is refined from the odd patterns at full dose with three
modes; candidates see the even patterns only, so nothing is shared. All engines start from a uniform object and the
probe of the dataset, scaled to the dose, on one thread; time is processor time. Phase PSNR is against the range of the
reference, ramp removed, after registration within 2 px. The half-bit column is the frequency, in cycles per pixel, up
to which the Fourier ring correlation with the reference stays above 1/2.

Seeds are fixed. `--json OUT` writes `[{data, patterns, dose, engine, probe, phase_psnr_db, half_bit, seconds}]`.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ptychoflow.config import Refinement
from ptychoflow.core.scan import Scan
from ptychoflow.io.dataset import open_dataset
from ptychoflow.metrics.alignment import align, normalise_gauge
from ptychoflow.metrics.frc import ring_correlation
from ptychoflow.metrics.image import image_metrics
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.loop import RefinementLoop
from refinement import Theirs, ptychi

ORDER_SEED, DOSE_SEED = 5, 0
PATTERN_FRACTIONS = (1, 1 / 2, 1 / 3, 1 / 4, 3 / 16)
"""Fractions of the even patterns, at full dose."""
DOSES = (1 / 16, 1 / 64, 1 / 256)
"""Fractions of the dose, of all even patterns."""
STEPS = {"step_size": (1.5, 0.1), "low_order_phase_epochs": 6}
"""Settings of rPIE for dense, bright measurements, as in `config/siemens.yaml`."""


class Image(NamedTuple):
    """Object ``(H, W)``, position ``(y, x)`` of its pixel ``[0, 0]`` in px, and coverage ``(H, W)``."""

    object: np.ndarray
    origin: tuple[float, float]
    coverage: np.ndarray


class Engine(NamedTuple):
    """Name, whether the probe is kept or refined, and the function from a scan to its object."""

    name: str
    probe: str
    run: Callable[[Scan], Image]


def rpie(**settings: Any) -> Callable[[Scan], Image]:
    """Return an engine of rPIE with these settings of refinement."""

    def run(scan: Scan) -> Image:
        loop = RefinementLoop(RefinementEngine(scan, Refinement.model_validate(STEPS | settings)))
        loop.run(scan.name)
        return image_of(loop.engine)

    return run


def lsqml(epochs: int) -> Callable[[Scan], Image]:
    """Return pty-chi's LSQ-ML with momentum, in clusters of neighbours, probe refined."""

    def run(scan: Scan) -> Image:
        frame = RefinementEngine(scan, Refinement())
        how = Theirs("LSQML", 64, learns_probe=True, momentum=0.5)
        *_, last = ptychi(scan, frame, how, epochs)
        return Image(last.object, frame.origin, frame.coverage())

    return run


ENGINES = (
    Engine("rPIE, 20 epochs", "kept", rpie(epochs=20)),
    Engine("rPIE, 100 epochs", "kept", rpie(epochs=100, low_order_phase_epochs=12)),
    Engine("rPIE, 20 epochs", "refined", rpie(epochs=20, probe_start_epoch=2)),
    Engine("rPIE, 60 epochs, three modes", "refined", rpie(epochs=60, probe_start_epoch=2, probe_modes=3)),
    Engine("rPIE, 40 epochs, two modes", "refined", rpie(epochs=40, probe_start_epoch=2, probe_modes=2)),
    Engine("pty-chi LSQ-ML, 100 epochs", "refined", lsqml(100)),
    Engine("prior, 20 epochs", "kept", rpie(epochs=20, prior="pretrained")),
    Engine("prior, 20 epochs", "refined", rpie(epochs=20, prior="pretrained", probe_start_epoch=2)),
    Engine(
        "prior, 40 epochs, two modes",
        "refined",
        rpie(epochs=40, prior="pretrained", probe_start_epoch=2, probe_modes=2),
    ),
)


def image_of(engine: RefinementEngine) -> Image:
    """Return what an engine has made."""
    return Image(engine.object.numpy(), engine.origin, engine.coverage())


def thinned(scan: Scan) -> Iterator[tuple[float, Scan]]:
    """Yield the dose and the scan of each row."""
    even, rng = np.arange(0, len(scan), 2), np.random.default_rng(ORDER_SEED)
    chosen = {f: np.sort(rng.permutation(even)[: round(f * len(even))]) for f in PATTERN_FRACTIONS}
    yield from ((1.0, part(scan, indices)) for indices in chosen.values())
    yield from ((dose, part(scan, even, dose)) for dose in DOSES)
    half = np.sort(rng.permutation(even)[: len(even) // 2])
    yield DOSES[0], part(scan, half, DOSES[0])


def part(scan: Scan, indices: np.ndarray, dose: float = 1.0) -> Scan:
    """Return these patterns of a scan at a fraction of its dose."""
    counts, probe = np.asarray(scan.counts)[indices], scan.probe
    if dose < 1:
        drawn = np.random.default_rng(DOSE_SEED).binomial(counts.astype(np.int64), dose)
        counts, probe = drawn.astype(np.uint32), (probe * np.sqrt(dose)).astype(np.complex64)
    return dataclasses.replace(scan, counts=counts, positions=scan.positions[indices], probe=probe)


def judge(image: Image, reference: Image) -> dict[str, float | None]:
    """Return phase PSNR, dB, and the frequency where the ring correlation falls below 1/2, cycles per px."""
    truth = normalise_gauge(reference.object, reference.coverage)
    pair = align(*image, truth, reference.origin, 2.0, truth_coverage=reference.coverage)
    metrics = image_metrics(pair.object, pair.truth, pair.mask, 3.0)
    rings = ring_correlation(pair.object, pair.truth, pair.mask)
    return {"phase_psnr_db": metrics["phase_psnr_truth_range"], "half_bit": rings.crossing("1/2")}


def compare(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each thinned copy of a dataset and each engine."""
    scan = open_dataset(folder)
    odd = part(scan, np.arange(1, len(scan), 2))
    reference = rpie(epochs=60, probe_start_epoch=2, probe_modes=3)(odd)
    for dose, candidate in thinned(scan):
        for engine in ENGINES:
            began = time.process_time()
            image = engine.run(candidate)
            row = {"data": folder.name, "patterns": len(candidate), "dose": dose}
            row |= {"engine": engine.name, "probe": engine.probe}
            yield row | judge(image, reference) | {"seconds": time.process_time() - began}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the phase PSNR of each engine, one scan a line, as Markdown."""
    names = list(dict.fromkeys(f"{row['engine']}, probe {row['probe']}" for row in rows))
    lines = ["| data, patterns, dose | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    scans: dict[str, list[str]] = {}
    for row in rows:
        dose = "full" if row["dose"] == 1 else f"1/{round(1 / row['dose'])}"
        scans.setdefault(f"{row['data']}, {row['patterns']}, {dose}", []).append(f"{row['phase_psnr_db']:.1f}")
    return "\n".join([*lines, *(f"| {scan} | " + " | ".join(cells) + " |" for scan, cells in scans.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+", help="packed measurements")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for folder in arguments.datasets:
        for row in compare(folder):
            rows.append(row)
            scan = f"{row['data']} {row['patterns']:5d} patterns, dose {row['dose']:.4f}"
            print(
                f"{scan}  {row['engine']}, probe {row['probe']}: {row['phase_psnr_db']:.2f} dB, {row['seconds']:.1f} s"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
