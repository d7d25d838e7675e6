"""How fast patterns are simulated, against nothing but the Fourier transforms that they need.

    python benchmarks/simulate.py [--device cuda] [--modes 1]

Expected counts need two transforms per pattern and mode: one to move the probe by the sub-pixel rest, one to the
detector. ``ratio`` is the time of bare ``torch.fft.fft2`` on as many waves, in the batch that suits it best, over the
time of the expected counts, both in this run and on the same threads; the target is 0.4 on a processor and 0.5 on a
GPU. Drawing Poisson counts is timed by itself. Prints JSON.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from ptychoflow.config import Detector, ObjectRecipe, ProbeRecipe, Trajectory
from ptychoflow.datagen.detectors import count
from ptychoflow.datagen.experiments import Experiment
from ptychoflow.datagen.objects import make_object
from ptychoflow.datagen.probes import make_probe
from ptychoflow.datagen.streams import stream
from ptychoflow.datagen.trajectories import make_trajectory

BATCHES = {"cpu": (4, 8, 16, 32, 64), "cuda": (256, 1024, 4096)}


def experiment(size: int, modes: int) -> Experiment:
    """About 1800 patterns of the default kind, on an object in proportion."""
    shares = tuple(np.full(modes, 1 / modes))
    image = make_object(ObjectRecipe(name="white_noise", size=6 * size), stream(0, "object"))
    probe = make_probe(ProbeRecipe(diameter_px=0.375 * size, modes=shares), size, 1e5, stream(0, "probe"))
    path = Trajectory(step_px=size / 8.5)
    positions = make_trajectory(path, image.shape, size, 0.375 * size, stream(0, "trajectory"))[1]
    return Experiment(image, probe, positions)


def best_of(run: Callable[[], object], device: str, repeats: int) -> float:
    """The shortest of several times, s: what the machine can do when nothing else disturbs it."""
    times = []
    for _ in range(repeats + 1):  # the first warms up
        began = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def bare_transforms(waves: int, size: int, device: str, repeats: int) -> float:
    """Seconds for ``torch.fft.fft2`` of that many waves, at the best batch size."""

    def run(batch: torch.Tensor) -> None:
        for _ in range(waves // len(batch)):
            torch.fft.fft2(batch)

    batches = (torch.randn(n, size, size, dtype=torch.complex64, device=device) for n in BATCHES[device])
    return min(best_of(lambda batch=batch: run(batch), device, repeats) * waves / (waves // len(batch) * len(batch))
               for batch in batches)  # fmt: skip


def measure(size: int, modes: int, device: str, repeats: int) -> dict:
    """Rates of one size of pattern."""
    scan = experiment(size, modes)

    def expect() -> None:
        for _ in scan.expected(device):
            pass

    expected = best_of(expect, device, repeats)
    bare = bare_transforms(2 * modes * len(scan), size, device, repeats)
    patterns = next(scan.expected()).numpy()
    began = time.perf_counter()
    for index, pattern in enumerate(patterns):
        count(pattern, Detector(), None, 0, index)
    poisson = (time.perf_counter() - began) / len(patterns)
    return {
        "size": size,
        "modes": modes,
        "patterns": len(scan),
        "expected_patterns_per_s": round(len(scan) / expected),
        "bare_fft_patterns_per_s": round(len(scan) / bare),
        "ratio": round(bare / expected, 3),
        "poisson_patterns_per_s_and_thread": round(1 / poisson),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=list(BATCHES), default="cpu")
    parser.add_argument("--modes", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = [measure(size, options.modes, options.device, options.repeats) for size in (64, 128)]
    print(json.dumps({"device": options.device, "threads": torch.get_num_threads(), "results": rows}, indent=1))


if __name__ == "__main__":
    main()
