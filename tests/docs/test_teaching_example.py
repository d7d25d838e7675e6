"""The teaching example of the documentation runs as it is printed, and converges."""

import re
from pathlib import Path

import matplotlib
import pytest

PAGE = Path(__file__).parents[2] / "docs/getting-started/ptychography-in-60-lines.md"


def _program() -> str:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    return program


def _phase_psnr(program: str) -> float:
    """Run the program; compute the phase PSNR that it ends with, dB."""
    names: dict = {}
    exec(compile(program, str(PAGE), "exec"), names)
    return names["phase_psnr"]()


@pytest.fixture(autouse=True)
def _in_a_folder_without_a_screen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")


def test_it_has_at_most_sixty_lines():
    assert len(_program().splitlines()) <= 60


def test_it_converges_and_shows_the_object(tmp_path):
    assert _phase_psnr(_program()) > 26
    assert (tmp_path / "sixty_lines.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("step * P.conj()", "step * P"),  # not the adjoint
        ("(constrained - wave)", "(wave - constrained)"),  # away from the counts
        ("P, window = probes[j, 0]", "P, window = shift_probe(probe, -subpixel[j])[0]"),  # elsewhere
    ],
)
def test_a_wrong_update_does_not_converge(right, wrong):
    program = _program().replace("1e5, 15", "1e5, 5")
    assert program.count(right) == 1
    assert not _phase_psnr(program.replace(right, wrong)) > 18


def test_five_epochs_of_the_right_update_do():
    assert _phase_psnr(_program().replace("1e5, 15", "1e5, 5")) > 20
