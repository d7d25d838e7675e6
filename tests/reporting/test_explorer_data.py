"""Values that the explorer of a report shows: to 16 bits, beside the page where they are too large for it."""

import base64
import dataclasses
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from ptychoflow.metrics.stage_metrics import judge_stages, reference_object
from ptychoflow.reporting import explorer_data
from ptychoflow.reporting.explorer_data import PackedData, colour_tables, pack
from ptychoflow.reporting.figure_arrays import MASKED, STEPS, browsed_patterns
from ptychoflow.reporting.results import Result

from ..products import make_reconstruction, make_scan

SHAPE = (40, 50)


def _plane(text: str, dtype: type = np.uint16) -> np.ndarray:
    data = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    if dtype is not np.uint16:
        return data.view(dtype).reshape(SHAPE)
    high, low = data.reshape(2, *SHAPE).astype(int)
    return high << 8 | low


def _data(image: np.ndarray, packed: PackedData | None = None) -> dict:
    mask = np.ones(SHAPE, bool)
    arrays = {"refined_mask": mask, "weight": np.linspace(0, 1, image.size).reshape(SHAPE).astype(np.float16)}
    arrays["probe"] = np.ones((1, 8, 8), np.complex64)
    scan = {"name": "star", "pixel_size_m": 1e-8, "nominal_geometry": False}
    result = Result({"method": "rpie", "scan": scan}, Path("arrays.npz"))
    packed = packed or PackedData("report_data")
    return explorer_data.explorer_data([result], [arrays], [("0-refined", "rpie, refined", image, mask)], packed)


def test_amplitude_and_phase_are_those_of_the_object():
    rng = np.random.default_rng(0)
    image = rng.uniform(0.1, 2, SHAPE) * np.exp(1j * rng.uniform(-np.pi, np.pi, SHAPE))
    picture = _data(image)["pictures"][0]
    amplitude = _plane(picture["planes"]["amplitude"]) / 65535 * picture["amplitude_max"]
    phase = _plane(picture["planes"]["phase"]) / 65536 * 2 * np.pi - np.pi
    assert np.abs(amplitude - np.abs(image)).max() < 2e-5
    assert np.abs(np.angle(image * np.exp(-1j * phase))).max() < 5e-5


def test_turns_unwrap_a_phase_that_goes_round():
    ramp = np.linspace(0, 30, SHAPE[1]) * np.ones(SHAPE)
    picture = _data(np.exp(1j * ramp))["pictures"][0]
    phase = _plane(picture["planes"]["phase"]) / 65536 * 2 * np.pi - np.pi
    unwrapped = phase + 2 * np.pi * _plane(picture["planes"]["turns"], np.int8)
    assert np.ptp(unwrapped - ramp) < 1e-3


def test_planes_beyond_what_a_page_holds_go_into_files(monkeypatch):
    monkeypatch.setattr(explorer_data, "EMBEDDED_BYTES", 100)
    packed = PackedData("report_data")
    picture = _data(np.ones(SHAPE, complex), packed)["pictures"][0]
    assert "planes" not in picture and picture["file"] == f"report_data/{picture['key']}.js"
    planes = json.loads(packed.files[f"{picture['key']}.js"].partition("] = ")[2].rstrip(";\n"))
    assert (_plane(planes["mask"], np.uint8) == 1).all()


def test_each_colour_map_has_256_colours():
    assert all(len(base64.b64decode(text)) == 3 * 256 for text in colour_tables().values())


def test_sixteen_bits_are_packed_high_bytes_first():
    assert zlib.decompress(base64.b64decode(pack(np.array([[0x0102, 0x0304]], np.uint16)))) == b"\x01\x03\x02\x04"


@pytest.mark.parametrize("masked", [False, True], ids=["all known", "masked"])
def test_browsed_patterns_are_the_counts_on_a_logarithmic_scale(masked):
    scan = make_scan()
    if masked:
        mask = np.ones(scan.counts.shape[1:], bool)
        mask[3, 4] = False
        scan = dataclasses.replace(scan, mask=mask)
    refined = make_reconstruction(scan, scan.truth.object)
    stage = judge_stages({"refined": refined}, scan, reference_object(scan, refined), 2.0)["refined"]
    found = browsed_patterns(stage, scan)
    measured, _ = found["browse_patterns"]
    assert len(found["browse_indices"]) == len(scan) == len(measured)
    levels = np.log10(1.0 + scan.counts) / found["browse_most"] * STEPS
    known = measured != MASKED
    assert known[:, 3, 4].all() != masked and known.sum() == measured.size - masked * len(scan)
    assert np.abs(measured - levels)[known].max() <= 0.51
