"""Probes carry the photons asked for, have the diameter asked for, and their modes are orthogonal."""

import typing

import numpy as np
import pytest

from ptychoflow.config import Aberration, ConfigError, ProbeRecipe, validate
from ptychoflow.simulation.aberrations import ZERNIKE, zernike
from ptychoflow.simulation.probes import PROBES, adapt_probe, beam_diameter, incoherent_modes, load_probe, make_probe
from ptychoflow.simulation.rng import seeded_rng

SIZE = 64


def _make(name: str, seed: int = 0, photons: float = 1e5, size: int = SIZE, **settings) -> np.ndarray:
    return make_probe(ProbeRecipe(name=name, **settings), size, photons, seeded_rng(seed, "probe"))


def _probe_intensity(probe: np.ndarray) -> np.ndarray:
    return np.sum(np.abs(probe.astype(np.complex128)) ** 2, axis=0)


def test_every_name_of_the_config_has_a_recipe():
    names = set(typing.get_args(ProbeRecipe.model_fields["name"].annotation))
    assert names == {*PROBES, "file", "reconstruction"}
    assert set(typing.get_args(Aberration)) == set(ZERNIKE)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("photons", [3.0, 1e5, 1e9])
def test_a_probe_carries_the_photons_requested_for(name, photons):
    probe = _make(name, photons=photons, modes=(0.7, 0.3))
    assert probe.dtype == np.complex64
    assert _probe_intensity(probe).sum() == pytest.approx(photons, rel=1e-5)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize(("diameter", "size"), [(16, 64), (24, 64), (48, 128)])
def test_the_spot_is_about_as_wide_as_asked_and_in_the_middle(name, diameter, size):
    intensity = _probe_intensity(_make(name, diameter_px=diameter, size=size))
    assert 0.7 * diameter < beam_diameter(intensity) < 1.4 * diameter
    axis = np.arange(size) - size // 2
    assert [intensity.sum(1) @ axis, intensity.sum(0) @ axis] / intensity.sum() == pytest.approx([0, 0], abs=0.2)


def test_the_default_probe_is_compact_and_curved_with_a_central_stop_in_the_far_field():
    probe = _make("zone_plate")[0]
    radius = np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE // 2))
    assert _probe_intensity(probe[None])[radius < 16].sum() > 0.94e5
    far = np.fft.fftshift(abs(np.fft.fft2(probe)) ** 2)
    assert far[radius < 5].mean() < 0.01 * far[(radius > 8) & (radius < 16)].mean()
    assert np.ptp(np.unwrap(np.angle(probe[SIZE // 2, SIZE // 2 : SIZE // 2 + 12]))) > np.pi


@pytest.mark.parametrize("name", PROBES)
def test_probes_are_band_limited_enough_to_shift(name):
    far = np.fft.fftshift(abs(np.fft.fft2(_make(name)[0].astype(complex))) ** 2)
    edge = far[[0, -1]].sum() + far[:, [0, -1]].sum()
    assert edge < 2e-3 * far.sum()


@pytest.mark.parametrize("name", PROBES)
def test_modes_are_orthogonal_with_the_occupancies_asked_for(name):
    modes = _make(name, modes=(0.5, 0.3, 0.15, 0.05)).astype(complex).reshape(4, -1)
    overlaps = modes @ modes.conj().T
    assert np.diag(overlaps).real / 1e5 == pytest.approx([0.5, 0.3, 0.15, 0.05], rel=1e-4)
    assert abs(overlaps - np.diag(np.diag(overlaps))).max() < 1


def test_the_first_mode_is_the_coherent_beam():
    beam, modes = _make("zone_plate")[0], _make("zone_plate", modes=(0.6, 0.4))
    np.testing.assert_allclose(modes[0], np.sqrt(0.6) * beam, atol=1e-2)


@pytest.mark.parametrize("name", ZERNIKE)
def test_aberrations_are_orthonormal_over_the_disc(name):
    axis = (np.arange(400) - 199.5) / 200
    y, x = axis[:, None], axis
    disc = np.hypot(y, x) < 1
    for other in ZERNIKE:
        mean = (zernike(name, y, x) * zernike(other, y, x))[disc].mean()
        assert mean == pytest.approx(float(other == name), abs=0.02)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("aberration", ["astigmatism", "coma_y", "spherical"])
def test_an_aberration_changes_the_probe_and_conserves_its_photons(name, aberration):
    plain, bent = _make(name), _make(name, aberrations={aberration: 0.3})
    assert _probe_intensity(bent).sum() == pytest.approx(_probe_intensity(plain).sum(), rel=1e-5)
    overlap = abs(np.vdot(plain, bent)) / 1e5
    assert overlap < 0.95


@pytest.mark.parametrize("name", PROBES)
def test_scans_differ_in_defocus_and_aberrations_by_their_seed(name):
    varied = {"defocus_spread": 0.5, "aberration_spread": 0.1}
    assert np.array_equal(_make(name, seed=1, **varied), _make(name, seed=1, **varied))
    assert abs(np.vdot(_make(name, seed=1, **varied), _make(name, seed=2, **varied))) < 0.95e5
    assert np.array_equal(_make(name, seed=1), _make(name, seed=2))


def test_an_adapted_probe_keeps_its_modes_and_takes_photons_and_defocus():
    found = _make("zone_plate", modes=(0.8, 0.2))
    same = adapt_probe(found, ProbeRecipe(name="reconstruction"), 1e3, seeded_rng(0, "probe"))
    np.testing.assert_allclose(same, found / 10, atol=1e-3)
    moved = adapt_probe(found, ProbeRecipe(name="reconstruction", defocus=0.5), 1e3, seeded_rng(0, "probe"))
    assert _probe_intensity(moved).sum() == pytest.approx(1e3, rel=1e-5)
    assert abs(np.vdot(moved[0], same[0])) < 0.9 * 800


@pytest.mark.parametrize("key", ["probe", "probeGuess"])
def test_a_probe_is_read_from_arrays(tmp_path, key):
    probe = _make("disc")
    np.save(tmp_path / "probe.npy", probe[0])
    np.savez(tmp_path / "probe.npz", **{key: probe[0][..., None]})
    for name in ("probe.npy", "probe.npz"):
        found, geometry = load_probe(tmp_path / name)
        assert np.array_equal(found, probe)
        assert geometry is None


def test_files_without_a_probe_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"simulation\.probe\.file: file not found"):
        load_probe(tmp_path / "nothing.npy")
    wrong = {
        "flat": np.zeros((4, 4)),
        "nan": np.full((4, 4), np.nan + 0j),
        "long": np.ones((4, 5)),
        "none": np.zeros((0, 4, 4)),
        "words": np.array(["a"]),
    }
    for name, array in wrong.items():
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(ValueError, match=r"simulation\.probe\.file: .* holds no probe"):
            load_probe(tmp_path / f"{name}.npy")
    np.savez(tmp_path / "other.npz", objectGuess=np.ones((4, 4)))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object))
    (tmp_path / "text.npy").write_text("not an array")
    for name in ("other.npz", "pickled.npy", "text.npy"):
        with pytest.raises(ValueError, match=r"simulation\.probe\.file"):
            load_probe(tmp_path / name)


def test_incoherent_modes_need_one_wave_and_shares():
    wave = np.exp(-((np.arange(16)[:, None] - 8) ** 2 + (np.arange(16) - 8) ** 2) / 8.0).astype(complex)
    assert incoherent_modes(wave, (1.0,)).shape == (1, 16, 16)
    assert incoherent_modes(wave, tuple(np.full(10, 0.1))).shape == (10, 16, 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modes": [0.5, 0.4]}, "modes: expected fractions that sum to 1, got .* sum to 0.9"),
        ({"name": "zone_plat"}, "name: input should be 'zone_plate'"),
        ({"aberrations": {"comma_x": 1}}, "aberrations.*comma_x"),
        ({"diameter_px": 0}, "diameter_px: input should be greater than 0"),
        ({"name": "disc", "central_stop": 0.2}, "central_stop acts on zone_plate, not on disc"),
        ({"name": "file"}, "file is missing"),
        ({"file": "x.npy"}, "file acts on file, not on zone_plate"),
    ],
)
def test_a_bad_request_names_its_field(settings, message):
    with pytest.raises(ConfigError, match=message):
        validate(ProbeRecipe, settings)


@pytest.mark.parametrize("settings", [{"defocus": 6.0}, {"defocus": 0.0, "diameter_px": 60.0}])
def test_a_pupil_that_the_patterns_cannot_hold_is_refused(settings):
    with pytest.raises(ValueError, match=r"simulation\.probe: .* expected 2 to 32: change the diameter or the defocus"):
        _make("zone_plate", **settings)


def test_a_spot_wider_than_the_patterns_is_refused():
    with pytest.raises(
        ValueError, match=r"simulation\.probe\.diameter_px is 80, more than the 64 px of simulation\.size"
    ):
        _make("disc", diameter_px=80.0)
