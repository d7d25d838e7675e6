"""Summary text of a report: introduction, verdicts, advice and caveats."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.doubt import Doubt
from .results import Result

LEAST_EXPLAINED, AT_NOISE_FLOOR = 0.2, 1.25
"""Share of what can be explained below which a reconstruction failed; R-factor relative to the noise floor up to which
it explains the counts."""
REFINED_QUANTITIES = {
    "probe_start_epoch": "the probe",
    "probe_modes": "additional probe modes",
    "position_start_epoch": "the scan positions",
}
"""Quantities that refinement can fit beside the object, by the setting that turns each on."""
MOST_NAMES = 4
"""Scans or methods up to which all are named; of more, the first three."""


def lead(chosen: Sequence[Result], results: Sequence[Result], records: Sequence[dict]) -> str:
    """Return the first sentences: scans, methods, and verdicts.

    Args:
        chosen: the result by which each scan is judged.
        results: all results.
        records: training logs.
    """
    scans = _names([result for result in results if result.from_network])
    parts = []
    if scans:
        methods = [result.method for result in results if result.from_network]
        others = [result.method for result in results if not result.from_network and result.scan in scans]
        trained = f", trained in {duration(sum(record['seconds'] for record in records))}" if records else ""
        names = list(dict.fromkeys(methods))
        by = f"{'a network' if len(names) == 1 else 'networks'} ({_some(names, 'methods')}{trained})"
        text = f"{_were(scans)} reconstructed by {by} and refined against the counts"
        parts.append(text + (f", and by {_without_network(others)}" if others else ""))
    no_network = [result for result in results if result.scan not in scans]
    if no_network:
        by = _without_network([result.method for result in no_network])
        parts.append(f"{_were(_names(no_network))} reconstructed by {by}")
    return " ".join(f"{part}." for part in [*parts, _outcome(chosen)])


def _were(scans: Sequence[str]) -> str:
    return f"{_some(scans, 'scans')} {'was' if len(scans) == 1 else 'were'}"


def _without_network(methods: Sequence[str]) -> str:
    return f"iterative refinement of a uniform initial object ({_some(list(dict.fromkeys(methods)), 'methods')})"


def _outcome(chosen: Sequence[Result]) -> str:
    """Return the verdicts in one sentence; of many scans, only those that fell short are named."""
    judged = {result.scan: verdict(result) for result in chosen}
    reasons = list(dict.fromkeys(reason for _, reason in judged.values()))
    if len(reasons) == 1:
        return f"{'The result' if len(judged) == 1 else 'Each result'} {reasons[0]}"
    if len(judged) <= MOST_NAMES:
        return "; ".join(f"{scan} {reason}" for scan, (_, reason) in judged.items())
    lacking = [scan for scan, (level, _) in judged.items() if level != "good"]
    good = f"{len(judged) - len(lacking)} of {len(judged)}"
    return f"{good} explain the counts down to the noise floor; see {_some(lacking, 'others')}"


def duration(seconds: float) -> str:
    """Format a time in s, min or h."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 3600:.3g} h"


def verdict(result: Result) -> tuple[str, str]:
    """Return the verdict on a refined object, ``good``, ``fair`` or ``poor``, and its reason."""
    r_factor, noise_floor = result.refined["r_factor"], result.refined["noise_floor"]
    correlation = result.against_truth("refined", "correlation")
    if correlation is not None and correlation < 0.5:
        return "poor", f"does not resemble the ground truth (correlation {correlation:.2f})"
    if explained_share(result, result.refined) < LEAST_EXPLAINED:
        return "poor", "explains the counts hardly better than a uniform object"
    serious = [doubt for doubt in result.doubts if doubt.serious]
    if serious:
        return "fair", f"is in doubt: {serious[0].finding}"
    ratio = r_factor / max(noise_floor, 1e-30)
    if ratio < AT_NOISE_FLOOR:
        return "good", "explains the counts down to the noise floor"
    return "fair", f"has an R-factor {ratio:.1f} times the noise floor"


def explained_share(result: Result, stage: dict) -> float:
    """Return the share of what an object can explain of the counts that a stage's object explains, at most 1.

    A uniform object explains 0 of it, one at the noise floor 1: with few photons noise is most of any R-factor. Where
    a uniform object is at the noise floor itself, there is nothing to explain, and the share is 0.
    """
    uniform, noise_floor = _uniform_r_factor(result), result.refined["noise_floor"]
    explainable = uniform - noise_floor
    return 0.0 if explainable <= 0 else min(1.0, (uniform - stage["r_factor"]) / explainable)


@dataclass(frozen=True)
class Figure:
    """A number shown large: its value, its name, and what to compare it with."""

    value: str
    name: str
    comparison: str


def figures(result: Result) -> list[Figure]:
    """Return the few numbers that summarise a result."""
    comparison = f"noise floor {result.refined['noise_floor']:.4f}, uniform object {_uniform_r_factor(result):.3f}"
    shown = [Figure(f"{result.refined['r_factor']:.4f}", "R-factor", comparison)]
    if result.has_truth:
        network = f"network {_db(result, 'network')}, " if result.from_network else ""
        comparison = f"{network}uniform object {_db(result, 'uniform')}"
        mean = _known(result.refined["against_truth"], "phase_mae_rad")
        shown.insert(0, Figure(_db(result, "refined"), f"phase PSNR, mean error {mean:.3f} rad", comparison))
    if "refined" in result.metrics["split_half"]:
        shown.append(_half_set_resolution(result))
    return shown


def _half_set_resolution(result: Result) -> Figure:
    """Return the half period at which the FRC between even and odd patterns falls below 1/2."""
    name = "half-set FRC resolution"
    crossing = result.metrics["split_half"]["refined"]["frc"]["crossings"]["1/2"]
    if crossing["half_period_px"] is None:
        return Figure("none", name, "FRC of even and odd patterns is below 1/2")
    nominal = " nominal" if result.metrics["scan"]["nominal_geometry"] else ""
    value = f"{'< ' if crossing.get('beyond_nyquist') else ''}{crossing['half_period_px']:.2f} px"
    return Figure(value, name, f"half period, {crossing['half_period_m'] * 1e9:.3g} nm{nominal}")


def compare_initial_objects(network: Result, uniform: Result) -> str | None:
    """Compare refinement from the network's and from a uniform object at equal processor time.

    Returns:
        One or two sentences; None where either has no history.
    """
    metric, times, values = network.history()
    _, uniform_times, uniform_values = uniform.history()
    if not times or not uniform_times:
        return None
    more_is_better = metric == "phase PSNR"
    until = min(times[-1], uniform_times[-1])
    reached = np.interp(until, times, values)
    uniform_reached = np.interp(until, uniform_times, uniform_values)
    unit = " dB" if more_is_better else ""
    digits = ".1f" if more_is_better else ".4f"
    ahead = reached > uniform_reached if more_is_better else reached < uniform_reached
    tied = abs(reached - uniform_reached) < (0.3 if more_is_better else 0.02 * uniform_reached)
    leader = "the two are equal" if tied else f"{network.method if ahead else uniform.method} is ahead"
    text = (
        f"After {until:.2g} s of refinement, {network.method} (initial object from the network) has {metric} "
        f"{reached:{digits}}{unit} and {uniform.method} (uniform initial object) {uniform_reached:{digits}}{unit}: "
        f"{leader}."
    )
    winner, goal = (network, uniform_values[-1]) if ahead else (uniform, values[-1])
    _, winner_times, winner_values = winner.history()
    first = _first_time(winner_times, winner_values, goal, more_is_better)
    slower_time = (uniform_times if ahead else times)[-1]
    if not tied and first is not None and first < slower_time:
        reaches = "starts from" if first == 0 else f"needs {first:.2g} s for"
        text += f" It {reaches} the value that the other has after {slower_time:.2g} s."
    return text


def advise(results: Sequence[Result], records: Sequence[dict]) -> list[tuple[str, str]]:
    """Return the advice of what to do next, each once, with the scans or methods that it is about."""
    about: dict[str, list[str]] = {}
    for name, advice in _advices(results, records):
        about.setdefault(advice, []).append(name)
    if not about:
        return [("No problem found", "Reconstruct a measurement of your own, or vary photons and overlap in a sweep.")]
    return [(_list(list(dict.fromkeys(names))), advice) for advice, names in about.items()]


def _advices(results: Sequence[Result], records: Sequence[dict]) -> Iterator[tuple[str, str]]:
    for result in results:
        for advice in _advise(result):
            yield result.scan, advice
    for record in records:
        for advice in _advise_training(record):
            yield record["method"], advice


def caveats(results: Sequence[Result]) -> list[str]:
    """Return the limits of the metrics that a reader must know."""
    notes = []
    nominal = [name for name in _names(results) if _scan_summary(results, name)["nominal_geometry"]]
    measured = [name for name in nominal if not _scan_summary(results, name)["has_truth"]]
    if measured:
        notes.append(
            f"Lengths of {_list(measured)} are nominal: photon energy, detector distance or pixel size come from the "
            "config, not from the file. Rely on lengths in px, not in nm."
        )
    if any(result.has_truth for result in results):
        notes.append(
            "Global phase and a linear phase ramp are ambiguities of ptychography; they are removed before comparison "
            "with the ground truth. The peak of the PSNR is the range of the ground truth. With a peak of 255, as some "
            "of the literature uses for data of unit range, the PSNR is 48 dB higher."
        )
    if any(result.metrics["split_half"] for result in results):
        notes.append(
            "Even and odd patterns were reconstructed separately, but with the same network and initial probe: errors "
            "that both halves share do not lower the half-set FRC."
        )
    if any(result.from_network for result in results):
        notes.append(
            "Refinement times exclude training and inference: a network saves time over several scans of one "
            "experiment, not over a single scan."
        )
    notes.append(
        "R-factor and Fourier ring correlation are insensitive to low-frequency phase errors: two objects with equal "
        "values can differ by several dB in phase PSNR."
    )
    return notes


def _advise(result: Result) -> Iterator[str]:
    refined, truth = result.refined, result.refined["against_truth"]
    network = result.metrics["stages"].get("network")
    if truth and _known(truth, "twin_correlation") > _known(truth, "correlation") + 0.05:
        yield "The reconstruction is the twin image: check the signs of the positions and the detector orientation."
    yield from map(_sentence, result.doubts)
    if result.doubts:
        pass
    elif verdict(result)[0] == "poor":
        yield "Check the probe, the positions and the unit of the counts first."
    elif refined["r_factor"] > 2 * refined["noise_floor"]:
        yield f"R-factor above twice the noise floor. {_not_refined(result)}Check the patterns with the worst fit."
    if network and explained_share(result, network) < LEAST_EXPLAINED:
        yield (
            "The network's object explains the counts hardly better than a uniform object; the contrast comes from "
            "refinement. Train for longer, or on scans with this probe."
        )
    if _still_improving(result):
        yield "Refinement had not converged when it stopped. Increase refinement.epochs."
    rms = _known(truth or {}, "phase_rms_rad")
    if truth and _known(truth, "phase_low_frequency_rms_rad") > 0.8 * rms and rms > 0.03:
        yield (
            "The phase error is mostly of low spatial frequency, to which the counts are insensitive. A better initial "
            "object, more overlap or more epochs reduce it; more photons do not."
        )
    if network and _known(network, "raster_artifact_ratio") > 3:
        yield (
            "The stitched object has raster artefacts at patch borders. Train for longer, or increase "
            "inference.patch_crop_px."
        )
    if not result.has_truth and not result.metrics["split_half"]:
        yield "Set evaluation.split_half to estimate the resolution by FRC between halves of the patterns."


def _known(metrics: dict, name: str) -> float:
    """Return a metric; NaN, which is neither above nor below another, where it is undefined."""
    value = metrics.get(name)
    return math.nan if value is None else value


def _sentence(doubt: Doubt) -> str:
    """Return a doubt as a sentence."""
    text = str(doubt)
    return f"{text[0].upper()}{text[1:]}."


def _not_refined(result: Result) -> str:
    """Return a sentence on the quantities that were kept fixed; empty where all were refined."""
    config = result.metrics["reconstructions"]["refined"].get("provenance", {}).get("config") or {}
    fixed = [f"{name} (refinement.{key})" for key, name in REFINED_QUANTITIES.items() if config.get(key) is None]
    return f"Kept fixed: {_list(fixed)}. " if fixed else ""


def _uniform_r_factor(result: Result) -> float:
    """Return the R-factor of the uniform object, the baseline."""
    return result.metrics["stages"]["uniform"]["r_factor"]


def _still_improving(result: Result) -> bool:
    """Return True if refinement improved over the last third of its time."""
    metric, times, values = result.history()
    if len(times) < 4:
        return False
    earlier = float(np.interp(2 / 3 * times[-1], times, values))
    if metric == "phase PSNR":
        return values[-1] - earlier > 0.5
    return (earlier - values[-1]) / max(earlier, 1e-30) > 0.02


def _advise_training(record: dict) -> Iterator[str]:
    """Yield advice where the validation error still fell when training ended."""
    errors = [error for error in record.get("validation", {}).get("patch_error", []) if error is not None]
    if len(errors) >= 2 and errors[-1] < 0.9 * errors[-2]:
        fell = 1 - errors[-1] / errors[-2]
        yield (
            f"The validation error fell by {fell:.0%} over the last epoch. Train for longer (training.stages) or on "
            "more scans."
        )


def _first_time(times: Sequence[float], values: Sequence[float], goal: float, more_is_better: bool) -> float | None:
    """Return the time at which a curve first reaches a goal, s; None if it never does."""
    sign = 1 if more_is_better else -1
    for k, value in enumerate(values):
        if sign * (value - goal) >= 0:
            if k == 0:
                return times[0]
            return float(np.interp(sign * goal, sorted((sign * values[k - 1], sign * value)), [times[k - 1], times[k]]))
    return None


def _db(result: Result, stage: str) -> str:
    value = result.against_truth(stage, "phase_psnr_truth_range")
    return "undefined" if value is None else f"{value:.1f} dB"


def _some(names: Sequence[str], what: str) -> str:
    """Return all of a few names; of many, their number and the first three."""
    return (
        _list(names)
        if len(names) <= MOST_NAMES
        else f"{len(names)} {what} ({', '.join(names[:3])}, ...)".replace("  ", " ")
    )


def _names(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.scan for result in results))


def _scan_summary(results: Sequence[Result], name: str) -> dict:
    return next(result.metrics["scan"] for result in results if result.scan == name)


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
