"""Measures see what they should, agree with scikit-image, and do not flatter a flat image."""

import numpy as np
import pytest
import torch
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from ptychoflow.metrics.alignment import align
from ptychoflow.metrics.image import crop_to, image_metrics, low_frequency_rms, relative_std, unwrapped_phase

from .objects import SHAPE, disc, ramp, sample

ALL = np.ones(SHAPE, bool)
LOW = 8


def _noisy(truth: np.ndarray, sigma: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(2)
    return truth * np.exp(1j * rng.normal(0, sigma, truth.shape)) + rng.normal(0, sigma / 4, truth.shape)


def test_a_perfect_object_has_no_error():
    found = image_metrics(sample(), sample(), disc(), LOW)
    assert max(found["complex_nrmse"], found["phase_mae_rad"], found["amplitude_mae"]) < 1e-15
    assert [found["phase_ssim_truth_range"], found["amplitude_ssim_truth_range"]] == pytest.approx([1, 1])
    assert [found["phase_correlation"], found["correlation"]] == pytest.approx([1, 1])
    assert found["phase_psnr_truth_range"] == pytest.approx(200)


def test_known_noise_is_measured_as_such():
    truth = sample()
    rng = np.random.default_rng(4)
    found = image_metrics(truth * np.exp(1j * rng.normal(0, 0.1, SHAPE)), truth, ALL, LOW)
    assert found["phase_rms_rad"] == pytest.approx(0.1, rel=0.02)
    assert found["phase_mae_rad"] == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.02)
    assert found["phase_psnr_truth_range"] == pytest.approx(20 * np.log10(found["phase_range_rad"] / 0.1), abs=0.2)
    # white noise: the share of its power below 8 cycles is that of the ellipse in the Fourier plane
    assert found["phase_low_frequency_rms_rad"] == pytest.approx(0.1 * np.sqrt(np.pi * 64 / ALL.size), rel=0.2)


def test_they_agree_with_scikit_image():
    truth = sample(phase=0.3)
    image = _noisy(truth)
    found = image_metrics(image, truth, ALL, LOW)
    centre = np.conj(truth.sum())  # SSIM depends on the mean phase, which is free: ours is 0
    phases, amplitudes = (np.angle(image * centre), np.angle(truth * centre)), (np.abs(image), np.abs(truth))
    assert found["phase_range_rad"] < np.pi  # nothing wraps here
    for name, (of, to) in {"phase": phases, "amplitude": amplitudes}.items():
        peak = np.ptp(to)
        expected = peak_signal_noise_ratio(to, of, data_range=peak)
        assert found[f"{name}_psnr_truth_range"] == pytest.approx(expected, abs=1e-6)
        whole = structural_similarity(to, of, data_range=peak)  # crops half a window itself
        assert found[f"{name}_ssim_truth_range"] == pytest.approx(whole, abs=1e-6)
    parts = (np.stack([part.real, part.imag]) for part in (truth, image))  # it takes real images only
    assert found["complex_nrmse"] == pytest.approx(normalized_root_mse(*parts), rel=1e-9)


def test_they_agree_with_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics.functional")
    truth = sample(phase=0.3)
    image = _noisy(truth)
    found = image_metrics(image, truth, ALL, LOW)
    of, to = (torch.from_numpy(np.abs(part))[None, None] for part in (image, truth))
    peak = float(np.ptp(np.abs(truth)))
    assert found["amplitude_mae"] == pytest.approx(float(torchmetrics.mean_absolute_error(of, to)), rel=1e-9)
    correlation = torchmetrics.pearson_corrcoef(of.flatten(), to.flatten())
    assert found["amplitude_correlation"] == pytest.approx(float(correlation), rel=1e-9)
    noise_ratio = torchmetrics.image.peak_signal_noise_ratio(of, to, data_range=peak)
    assert found["amplitude_psnr_truth_range"] == pytest.approx(float(noise_ratio), abs=1e-5)
    similarity = torchmetrics.image.structural_similarity_index_measure(
        of, to, gaussian_kernel=False, kernel_size=7, data_range=peak
    )
    # it divides by the number of pixels in a window where scikit-image, and we, divide by one less
    assert found["amplitude_ssim_truth_range"] == pytest.approx(float(similarity), abs=5e-3)


def test_global_phase_ramp_and_scale_do_not_count():
    truth, mask = sample(), disc()
    image = _noisy(truth)
    free = align(image * 0.3j * ramp((0.3, -0.2)), (0, 0), mask, truth)
    plain = align(image, (0, 0), mask, truth)
    assert image_metrics(free.object, truth, mask, LOW) == pytest.approx(
        image_metrics(plain.object, truth, mask, LOW), rel=1e-6
    )


@pytest.mark.parametrize("kind", ["blur", "noise", "curved", "wrong"])
def test_errors_show_in_the_metrics(kind):
    truth, mask = sample(), disc()
    y = np.indices(SHAPE)[0] / SHAPE[0]
    image = {
        "blur": sample(blur=3),
        "noise": _noisy(truth, 0.3),
        "curved": truth * np.exp(1j * np.cos(2 * np.pi * y)),
        "wrong": sample(seed=9),
    }[kind]
    found = image_metrics(align(image, (0, 0), mask, truth).object, truth, mask, LOW)
    assert found["phase_psnr_truth_range"] < 25
    assert found["complex_nrmse"] > 0.1


def test_a_uniform_image_never_scores_well():
    truth, mask = sample(phase=0.1), disc()  # a weak object, where the data error of a flat image is small
    found = image_metrics(align(np.ones(SHAPE, complex), (0, 0), mask, truth).object, truth, mask, LOW)
    assert abs(found["phase_correlation"]) < 1e-6
    assert found["amplitude_correlation"] == 0
    assert found["correlation"] == 0
    assert found["phase_ssim_truth_range"] < 0.1
    assert relative_std(np.full(SHAPE, 1j), mask) == pytest.approx(0, abs=1e-6)


def test_pixels_outside_the_mask_do_not_count():
    truth, mask = sample(), disc()
    image = np.where(mask, _noisy(truth), 1e6)
    expected = image_metrics(_noisy(truth), truth, mask, LOW)
    assert image_metrics(image, truth, mask, LOW) == pytest.approx(expected)


def test_phases_beyond_pi_do_not_wrap():
    y, x = np.indices(SHAPE)
    angle = 7 * np.exp(-((y - 40) ** 2 + (x - 60) ** 2) / 600)  # 7 rad high
    truth = np.exp(1j * angle)
    found = image_metrics(truth * np.exp(1j * 0.1), truth, ALL, LOW)
    assert found["phase_range_rad"] == pytest.approx(7, abs=0.01)
    assert found["phase_rms_rad"] == pytest.approx(0.1)
    assert found["phase_correlation"] == pytest.approx(1)
    assert np.ptp(unwrapped_phase(truth, ALL) - angle) < 1e-6


def test_a_slow_error_is_low_frequency_and_a_fast_one_is_not():
    y = np.indices(SHAPE)[0]
    slow, fast = (np.sin(2 * np.pi * cycles * y / SHAPE[0]) for cycles in (3, 20))
    assert low_frequency_rms(slow, ALL, LOW) == pytest.approx(np.sqrt(0.5))
    assert low_frequency_rms(fast, ALL, LOW) == pytest.approx(0, abs=1e-9)


def test_a_truth_without_contrast_leaves_measures_undefined():
    found = image_metrics(np.exp(0.1j) * sample() / np.abs(sample()), np.ones(SHAPE, complex), ALL, LOW)
    assert found["amplitude_psnr_truth_range"] is None
    assert found["phase_psnr_truth_range"] is None
    assert found["phase_ssim_truth_range"] is None


def test_an_empty_or_ill_fitting_mask_is_refused():
    with pytest.raises(ValueError, match="coverage is empty"):
        image_metrics(sample(), sample(), ~ALL, LOW)
    with pytest.raises(ValueError, match="shape"):
        image_metrics(sample(), sample(), ALL[1:], LOW)


def test_a_crop_holds_the_whole_mask():
    mask = np.zeros(SHAPE, bool)
    mask[10:20, 33:35] = True
    assert mask[crop_to(mask)].all()
