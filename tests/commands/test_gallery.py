"""The page of what can be simulated is the code's own, its pictures too, and small."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ptychoflow.cli.main import main
from ptychoflow.config import Aberration
from ptychoflow.simulation.objects import OBJECTS
from ptychoflow.simulation.probes import PROBES
from ptychoflow.simulation.scan_paths import TRAJECTORIES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "simulation"
AGAIN = "run: ptychoflow docs gallery docs/reference/simulation"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "simulation"
    assert main(["docs", "gallery", str(folder)]) == 0
    return folder


def test_what_stands_in_the_repository_is_what_the_code_writes(drawn):
    assert (PAGE / "README.md").read_text() == (drawn / "README.md").read_text(), AGAIN
    assert {path.name for path in PAGE.iterdir()} == {path.name for path in drawn.iterdir()}, AGAIN


def test_the_pictures_are_those_that_the_code_draws(drawn):
    for path in drawn.glob("*.webp"):
        here, there = (np.asarray(Image.open(folder / path.name), float) for folder in (PAGE, drawn))
        assert here.shape == there.shape, AGAIN
        assert abs(here - there).mean() < 2, f"{path.name} has changed: {AGAIN}"


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("objects", OBJECTS),
        ("probes", PROBES),
        ("paths", set(TRAJECTORIES) - {"file"}),
        ("aberrations", Aberration.__args__),
    ],
)
def test_everything_that_has_a_name_is_shown(drawn, section, names):
    assert {path.stem for path in drawn.glob(f"{section}-*.webp")} == {f"{section}-{name}" for name in names}
    assert all(
        f"| `{name}` | ![{name}]({section}-{name}.webp) |" in (drawn / "README.md").read_text() for name in names
    )


def test_all_of_it_is_small(drawn):
    assert sum(path.stat().st_size for path in drawn.iterdir()) < 400_000
