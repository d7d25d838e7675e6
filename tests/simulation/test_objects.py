"""Objects span the ranges asked for, come from their seed alone, and look like what they are called."""

import typing

import numpy as np
import pytest
from skimage import io

from ptychoflow.config import ConfigError, ObjectRecipe, validate
from ptychoflow.simulation.objects import BUNDLED_IMAGES, OBJECTS, load_image, make_object
from ptychoflow.simulation.rng import seeded_rng
from ptychoflow.simulation.shapes import FACES, _thickness, power_law
from ptychoflow.simulation.textures import coloured_noise

RANDOM = [name for name in OBJECTS if name not in ("siemens_star", "photograph")]


def _make(name: str, seed: int = 0, **settings) -> np.ndarray:
    return make_object(ObjectRecipe(**({"name": name, "size": (90, 120)} | settings)), seeded_rng(seed, "object"))


def test_every_name_of_the_config_has_a_recipe():
    assert set(typing.get_args(ObjectRecipe.model_fields["name"].annotation)) == set(OBJECTS)


@pytest.mark.parametrize("name", OBJECTS)
def test_amplitude_and_phase_span_their_ranges_and_the_size_is_the_one_asked(name):
    image = _make(name, amplitude=(0.2, 0.9), phase_rad=(-1.5, 2.5))
    assert image.shape == (90, 120)
    assert image.dtype == np.complex64
    assert [abs(image).min(), abs(image).max()] == pytest.approx([0.2, 0.9], abs=1e-5)
    assert [np.angle(image).min(), np.angle(image).max()] == pytest.approx([-1.5, 2.5], abs=1e-5)


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_gives_one_object_and_another_seed_another(name):
    assert np.array_equal(_make(name, seed=1), _make(name, seed=1))
    assert not np.allclose(_make(name, seed=1), _make(name, seed=2))


def test_phase_may_exceed_pi():
    image = _make("gaussian_random_field", phase_rad=(0, 20), amplitude=(1, 1))
    winding = np.unwrap(np.unwrap(np.angle(image.astype(complex)), axis=0), axis=1)
    assert winding.max() - winding.min() == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize("name", ["dead_leaves", "lines", "gaussian_random_field", "procedural", "white_noise"])
def test_amplitude_and_phase_are_independent_where_they_have_their_own(name):
    image = _make(name, size=(300, 300))
    assert abs(np.corrcoef(abs(image).ravel(), np.angle(image).ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("name", ["polyhedra", "points", "siemens_star"])
def test_amplitude_follows_phase_where_the_sample_is_of_one_material(name):
    image = _make(name)
    assert abs(np.corrcoef(abs(image).ravel(), np.angle(image).ravel())[0, 1]) > 0.99


def test_a_random_field_has_the_spectrum_asked_for():
    spectrum = abs(np.fft.fft2(coloured_noise((256, 256), 1.5, np.random.default_rng(0)))) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    low, high = (spectrum[(frequency > f) & (frequency < 1.1 * f)].mean() for f in (0.02, 0.2))
    assert np.log10(low / high) == pytest.approx(2 * 1.5, abs=0.2)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_leaves_have_radii_by_the_power_law(power):
    radii = power_law(np.random.default_rng(0).random(200_000), (2.0, 40.0), power)
    assert radii.min() >= 2
    assert radii.max() <= 40
    density = [np.mean((radii > r) & (radii < 1.1 * r)) / r for r in (4.0, 16.0)]
    assert np.log(density[0] / density[1]) / np.log(4) == pytest.approx(power, abs=0.15)


def test_an_icosahedron_is_as_thick_as_it_should_be():
    axis = (np.arange(400) - 199.5) / 200
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    volume = _thickness(axis[:, None], axis, FACES @ turn, 1.0).sum() / 200**2
    edge = 1 / np.sin(2 * np.pi / 5)
    assert len(FACES) == 20
    assert volume == pytest.approx(5 * (3 + np.sqrt(5)) / 12 * edge**3, rel=1e-3)


def test_a_star_has_its_spokes():
    image = _make("siemens_star", size=200, spokes=12)
    angle = 2 * np.pi * np.arange(2000) / 2000
    ring = np.angle(image)[
        np.rint(99.5 + 70 * np.sin(angle)).astype(int), np.rint(99.5 + 70 * np.cos(angle)).astype(int)
    ]
    assert np.count_nonzero((ring > 0) & (np.roll(ring, 1) <= 0)) == 12


@pytest.mark.parametrize("name", BUNDLED_IMAGES)
def test_bundled_images_need_no_download(name, monkeypatch):
    monkeypatch.setattr("pooch.retrieve", lambda *args, **kwargs: pytest.fail("downloads"))
    image = load_image(name, (20, 30))
    assert image.shape == (20, 30)
    assert np.ptp(image) > 0


def test_a_photograph_may_be_the_users_own(tmp_path):
    own = np.zeros((40, 40), np.uint8)
    own[:20] = 255
    io.imsave(tmp_path / "own.png", own, check_contrast=False)
    image = _make("photograph", size=40, images=(str(tmp_path / "own.png"), "camera"))
    assert np.angle(image)[:19].mean() > 0.7
    assert np.angle(image)[21:].mean() < -0.7


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_missing_image_is_an_error_that_names_its_setting(tmp_path):
    with pytest.raises(
        ValueError, match=r"simulation\.object\.images: expected an image file .* got nothing\.png.*camera"
    ):
        _make("photograph", images=("nothing.png", "camera"))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="expected an image file"):
        _make("photograph", images=(str(tmp_path / "text.png"), "camera"))


@pytest.mark.parametrize("name", ["dead_leaves", "polyhedra", "points", "lines", "procedural"])
def test_count_feature_size_and_spectral_exponent_act(name):
    usual = _make(name)
    assert not np.array_equal(usual, _make(name, count=7))
    assert not np.array_equal(usual, _make(name, feature_size_px=(5, 6)))
    if name == "dead_leaves":
        assert not np.array_equal(usual, _make(name, spectral_exponent=1.0))


@pytest.mark.parametrize("name", ["points", "white_noise"])
def test_pink_noise_can_be_mixed_into_anything(name):
    assert not np.array_equal(_make(name), _make(name, pink_noise_fraction=0.3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "siemens_stra"}, "name: input should be 'dead_leaves', 'lines'"),
        ({"name": "siemens_star", "count": 4}, "count acts on dead_leaves, .* not on siemens_star: remove it"),
        (
            {"name": "points", "spectral_exponent": 2.0},
            "spectral_exponent acts on dead_leaves, gaussian_random_field, not on points",
        ),
        ({"size": 0}, "size.*greater than 0"),
        ({"amplitude": [-0.1, 1]}, "amplitude: expected 0 or more"),
        ({"feature_size_px": [0, 1]}, "feature_size_px: expected more than 0"),
        ({"pink_noise_fraction": 1.5}, "pink_noise_fraction: input should be less than or equal to 1"),
    ],
)
def test_a_bad_request_names_its_field(settings, message):
    with pytest.raises(ConfigError, match=message):
        validate(ObjectRecipe, settings)
