"""Near-field scans are told by moving shadows, keep their lengths on disk, and refuse settings of the far field."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from ptychoflow.commands.export import export
from ptychoflow.config import MeasuredGeometry, NominalGeometry, Packing, Source
from ptychoflow.core.scan import Geometry, Scan, near_field_geometry
from ptychoflow.interop.ptychopinn.npz import write_npz
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.scan_cxi import read_scan, write_scan
from ptychoflow.preprocessing.cropping import crop
from ptychoflow.preprocessing.near_field_signs import find_moving_shadows
from ptychoflow.preprocessing.scan_doubts import doubt_scan
from ptychoflow.preprocessing.scan_packing import pixel_operations, survey_scan
from ptychoflow.readers.registry import read_scan_of
from ptychoflow.simulation.acquisition import from_simulation

SIZE, OBJECT = 48, 84
NEAR, FAR = near_field_geometry(6.5e-6, 7e-11, 0.3, 0.01), Geometry(5e-8, 7e-11, 2.0)


def _scan(geometry: Geometry) -> Scan:
    """Points seen by a wide beam."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    probe = np.exp(-((np.hypot(y, x) / 17) ** 4) + 0j)
    image = np.exp(1j * (rng.random((OBJECT, OBJECT)) > 0.97))
    axis = np.linspace(SIZE // 2 + 2, OBJECT - SIZE // 2 - 3, 7)
    positions = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2) + rng.uniform(-1, 1, (49, 2))
    return from_simulation(positions, probe, image, 1e6, geometry=geometry)


def test_shadows_move_with_the_scan_in_the_near_field():
    scan = _scan(NEAR)
    found = find_moving_shadows(scan.counts, scan.positions)
    assert found is not None and found.scale == pytest.approx(1, abs=0.15)


def test_speckle_of_a_flat_beam_does_not_move_in_the_far_field():
    scan = _scan(FAR)
    assert find_moving_shadows(scan.counts, scan.positions) is None


def test_a_sound_near_field_scan_raises_no_doubt_of_the_far_field():
    assert not {"beam", "background", "mask", "transmission"} & {doubt.kind for doubt in doubt_scan(_scan(NEAR))}


def test_lengths_of_the_near_field_survive_scans_and_datasets(tmp_path):
    scan = _scan(NEAR)
    write_scan(tmp_path / "scan.cxi", scan)
    write_dataset(tmp_path / "dataset", scan)
    for read in (read_scan(tmp_path / "scan.cxi"), open_dataset(tmp_path / "dataset")):
        assert dataclasses.astuple(read.geometry) == pytest.approx(dataclasses.astuple(NEAR))


def test_a_smaller_near_field_detector_sees_less_of_the_sample_at_the_same_pixel():
    scan = _scan(NEAR)
    cut = crop(scan, 32)
    assert cut.geometry == scan.geometry
    np.testing.assert_array_equal(cut.positions, scan.positions)
    np.testing.assert_array_equal(cut.probe, scan.probe[:, 8:40, 8:40])


@pytest.mark.parametrize(
    ("packing", "reason"), [({"centre": "auto"}, "do not have: remove it"), ({"binning": 2}, "wider object pixels")]
)
def test_packing_settings_of_the_far_field_are_refused(tmp_path, packing, reason):
    scan, settings = _scan(NEAR), Packing(**packing)
    write_scan(tmp_path / "scan.cxi", scan)
    found = survey_scan(tmp_path / "scan.cxi", scan, settings)
    with pytest.raises(ValueError, match=reason):
        pixel_operations(scan, settings, found)


@pytest.mark.parametrize("setting", [{"defocus_m": 1e-3}, {"zero_frequency": "corner"}])
def test_source_settings_of_the_far_field_are_refused(setting):
    with pytest.raises(ValidationError, match="does not act on near-field patterns"):
        Source(file="x.cxi", geometry=MeasuredGeometry(propagation="near_field"), **setting)


def test_a_focus_distance_without_the_near_field_is_refused():
    with pytest.raises(ValidationError, match="acts in the near field only"):
        MeasuredGeometry(focus_distance_m=0.01)
    with pytest.raises(ValidationError, match="acts in the near field only"):
        NominalGeometry(energy_ev=1e4, detector_distance_m=1, detector_pixel_m=1e-5, focus_distance_m=0.01)


def test_ptychopinn_gets_no_near_field_scan(tmp_path):
    with pytest.raises(ValueError, match="reads the far field only"):
        write_npz(tmp_path / "scan.npz", _scan(NEAR))


def test_a_directory_of_ptychodus_keeps_the_near_field(tmp_path):
    write_dataset(tmp_path / "dataset", _scan(NEAR))
    export(tmp_path / "dataset", tmp_path / "standard")
    read = read_scan_of(tmp_path / "standard", Source(file=str(tmp_path / "standard")))
    assert read.geometry.near_field
    for name in ("pixel_size_m", "wavelength_m", "detector_distance_m", "focus_distance_m"):
        assert getattr(read.geometry, name) == pytest.approx(getattr(NEAR, name), rel=1e-5)
    np.testing.assert_allclose(np.diff(read.positions, axis=0), np.diff(_scan(NEAR).positions, axis=0), atol=1e-4)
