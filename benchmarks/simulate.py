"""How fast patterns are simulated, against nothing but the Fourier transforms that they need.

    python benchmarks/simulate.py [--device cuda] [--modes 1]

Expected counts need two transforms per pattern and mode: one to move the probe by the sub-pixel rest, one to the
detector. ``ratio`` is the time of bare ``torch.fft.fft2`` on as many waves, in the batch that suits it best, over the
time of the expected counts, both in this run and on the same threads; the target is 0.4 on a processor and 0.5 on a
GPU. Drawing Poisson counts is timed by itself. Prints JSON.

Each rate is that of the quickest of many blocks, a millisecond or two each: a busy machine disturbs it little.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from ptychoflow.config import Detector, ObjectRecipe, ProbeRecipe, Trajectory
from ptychoflow.simulation.acquisition import Experiment
from ptychoflow.simulation.detector import draw_counts
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.rng import seeded_rng
from ptychoflow.simulation.scan_paths import make_trajectory

BATCHES = {"cpu": (4, 8, 16, 32, 64), "cuda": (256, 1024, 4096)}
PATTERNS = {"cpu": 1024, "cuda": 1 << 15}


def experiment(size: int, modes: int, patterns: int) -> Experiment:
    """Patterns of the default kind, on an object in proportion."""
    shares = tuple(np.full(modes, 1 / modes))
    image = make_object(ObjectRecipe(name="white_noise", size=6 * size), seeded_rng(0, "object"))
    probe = make_probe(ProbeRecipe(diameter_px=0.375 * size, modes=shares), size, 1e5, seeded_rng(0, "probe"))
    path = Trajectory(step_px=4.9 * size / np.sqrt(patterns))
    positions = make_trajectory(path, image.shape, size, 0.375 * size, seeded_rng(0, "trajectory"))[1]
    return Experiment(image, probe, positions[:patterns])


def expected(scan: Experiment, device: str) -> Iterator[int]:
    """The expected counts, block by block: how many patterns each holds."""
    return (len(block) for block in scan.expected(device))


def transforms(waves: torch.Tensor, per_pattern: int, patterns: int) -> Iterator[float]:
    """The bare transforms, batch by batch: how many patterns each would be enough for."""
    for _ in range(patterns * per_pattern // len(waves)):
        torch.fft.fft2(waves)
        yield len(waves) / per_pattern


def drawn(patterns: np.ndarray) -> Iterator[int]:
    """Poisson counts, pattern by pattern."""
    for index, pattern in enumerate(patterns):
        draw_counts(pattern, Detector(), None, 0, index)
        yield 1


def best_rate(begin: Callable[[], Iterator[float]], device: str, turns: int) -> float:
    """Patterns per second of the quickest block of all turns; the first block of each warms up."""
    best = 0.0
    for _ in range(turns):
        began = None
        for done in begin():
            if device != "cpu":
                torch.cuda.synchronize()
            now = time.perf_counter()
            best = best if began is None else max(best, done / (now - began))
            began = time.perf_counter()
    return best


def measure(size: int, modes: int, device: str, turns: int) -> dict:
    """Rates of one size of pattern."""
    scan = experiment(size, modes, PATTERNS[device])
    ours = best_rate(lambda: expected(scan, device), device, turns)
    bare = 0.0
    for batch in BATCHES[device]:
        waves = torch.randn(batch, size, size, dtype=torch.complex64, device=device)
        bare = max(bare, best_rate(lambda waves=waves: transforms(waves, 2 * modes, len(scan)), device, turns))
    poisson = best_rate(lambda: drawn(next(scan.expected()).numpy()), "cpu", turns)
    return {
        "size": size,
        "modes": modes,
        "expected_patterns_per_s": round(ours),
        "bare_fft_patterns_per_s": round(bare),
        "ratio": round(ours / bare, 3),
        "poisson_patterns_per_s_and_thread": round(poisson),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=list(BATCHES), default="cpu")
    parser.add_argument("--modes", type=int, default=1)
    parser.add_argument("--turns", type=int, default=8)
    options = parser.parse_args()
    rows = [measure(size, options.modes, options.device, options.turns) for size in (64, 128)]
    print(json.dumps({"device": options.device, "threads": torch.get_num_threads(), "results": rows}, indent=1))


if __name__ == "__main__":
    main()
