"""Self-test of an installation: a small simulated scan through all steps of the core, with the numbers to expect."""

import time
from dataclasses import dataclass
from pathlib import Path

from ..commands.evaluate import evaluate
from ..commands.pack import pack
from ..commands.refine import refine
from ..commands.simulate import simulate
from ..config import Refinement, Simulation
from ..io.json_file import read_json

SIMULATION = Simulation.model_validate(
    {
        "object": {"name": "siemens_star", "size": 128},
        "probe": {"diameter_px": 20, "defocus": 1.0},
        "trajectory": {"step_px": 6},
        "size": 64,
        "photons_per_pattern": 1e5,
        "seed": 1,
    }
)
EPOCHS = 20


@dataclass(frozen=True)
class Check:
    """A number of the self-test and the range in which it lies where everything works.

    Attributes:
        name: of the number.
        value: measured.
        low: lower end of the range.
        high: upper end of the range.
        unit: of all three.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        """True within the range."""
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        """Return the number with its range, as one line."""
        expected = f"expected {self.low:g} to {self.high:g}{self.unit}"
        return f"{self.name} {self.value:.4g}{self.unit} ({expected}){'' if self.passed else ': WRONG'}"


def self_test(folder: Path) -> tuple[list[Check], float]:
    """Simulate a Siemens star, reconstruct it from the counts and compare it with the ground truth.

    Args:
        folder: an empty folder for the products.

    Returns:
        The numbers with their ranges, and the wall-clock time, s.
    """
    began = time.perf_counter()
    scan, dataset, refined, metrics = (folder / name for name in ("star.cxi", "star", "refined.h5", "metrics.json"))
    simulate(scan, SIMULATION)
    pack(scan, dataset)
    refine(dataset, refined, Refinement(epochs=EPOCHS))
    evaluate(dataset, metrics, refined=refined)
    stage = read_json(metrics)["stages"]["refined"]
    checks = [
        Check("phase PSNR", stage["against_truth"]["phase_psnr_truth_range"], 30.0, 40.0, " dB"),
        Check("R-factor over noise floor", stage["r_factor"] / stage["noise_floor"], 0.7, 1.25),
    ]
    return checks, time.perf_counter() - began
