"""What a report says in words: what was reconstructed, how good it is, what to do next, what to keep in mind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .results import Result

FOUND_NOTHING, AT_THE_NOISE = 0.8, 1.25
"""An R-factor above this share of an empty image's says nothing was found; below this multiple of the noise's, that
there is nothing left to find in the counts."""


FREEDOMS = {
    "probe_start_epoch": "the probe",
    "probe_modes": "further modes of it",
    "position_start_epoch": "the positions",
}
"""Settings of refinement that leave more of the experiment free, by what they free."""
MOST_NAMES = 4
"""Scans or methods that are named one by one; of more, the first three."""


def lead(chosen: Sequence[Result], results: Sequence[Result], records: Sequence[dict]) -> str:
    """The first sentences: what was reconstructed by what, and whether it worked.

    Args:
        chosen: the result to judge each scan by.
        results: all there are.
        records: of the trainings.
    """
    scans = _names([result for result in results if result.from_network])
    parts = []
    if scans:
        methods = [result.method for result in results if result.from_network]
        beside = [result.method for result in results if not result.from_network and result.scan in scans]
        trained = f", trained in {duration(sum(record['seconds'] for record in records))}" if records else ""
        names = list(dict.fromkeys(methods))
        by = f"{'a network' if len(names) == 1 else 'networks'} ({_some(names, 'methods')}{trained})"
        words = f"{_were(scans)} reconstructed by {by} and refined against the counts"
        parts.append(words + (f", beside {_iteration(beside)}" if beside else ""))
    others = [result for result in results if result.scan not in scans]
    if others:
        parts.append(f"{_were(_names(others))} reconstructed by {_iteration([result.method for result in others])}")
    return " ".join(f"{part}." for part in [*parts, _outcome(chosen)])


def _were(scans: Sequence[str]) -> str:
    return f"{_some(scans, 'scans')} {'was' if len(scans) == 1 else 'were'}"


def _iteration(methods: Sequence[str]) -> str:
    return f"plain iteration from a flat object ({_some(list(dict.fromkeys(methods)), 'methods')})"


def _outcome(chosen: Sequence[Result]) -> str:
    """Whether reconstructions are good, in one sentence; of many, those that are not by name."""
    judged = {result.scan: verdict(result) for result in chosen}
    whys = list(dict.fromkeys(why for _, why in judged.values()))
    if len(whys) == 1:
        return f"{'The result' if len(judged) == 1 else 'Each result'} {whys[0]}"
    if len(judged) <= MOST_NAMES:
        return "; ".join(f"{scan} {why}" for scan, (_, why) in judged.items())
    lacking = [scan for scan, (level, _) in judged.items() if level != "good"]
    good = f"{len(judged) - len(lacking)} of {len(judged)}"
    return f"{good} explain the counts down to their noise; see {_some(lacking, 'others')}"


def duration(seconds: float) -> str:
    """A time in the unit it is spoken of."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 3600:.3g} h"


def verdict(result: Result) -> tuple[str, str]:
    """How good a reconstruction is: ``good``, ``fair`` or ``poor``, and why."""
    found = result.refined
    correlation = result.against_truth("refined", "correlation")
    if correlation is not None and correlation < 0.5:
        return "poor", f"hardly like the truth (correlation {correlation:.2f})"
    if found["r_factor"] > FOUND_NOTHING * _empty(result):
        return "poor", "explains the counts hardly better than an empty image"
    ratio = found["r_factor"] / max(found["noise_floor"], 1e-30)
    if ratio < AT_THE_NOISE:
        return "good", "explains the counts down to their noise"
    return "fair", f"leaves {ratio:.1f} times the misfit that noise alone would"


@dataclass(frozen=True)
class Figure:
    """A number worth showing large: what it is, and what to compare it with."""

    value: str
    name: str
    beside: str


def figures(result: Result) -> list[Figure]:
    """The few numbers that say how good a reconstruction is."""
    beside = f"noise alone {result.refined['noise_floor']:.4f}, an empty image {_empty(result):.3f}"
    shown = [Figure(f"{result.refined['r_factor']:.4f}", "R-factor", beside)]
    if result.has_truth:
        network = f"network alone {_db(result, 'network')}, " if result.from_network else ""
        beside = f"{network}an empty image {_db(result, 'uniform')}"
        mean = result.against_truth("refined", "phase_mae_rad")
        shown.insert(0, Figure(_db(result, "refined"), f"phase PSNR, mean error {mean:.3f} rad", beside))
    if "refined" in result.metrics["split_half"]:
        shown.append(_halves(result))
    return shown


def _halves(result: Result) -> Figure:
    """Up to where reconstructions of even and odd patterns agree."""
    length = result.metrics["split_half"]["refined"]["frc"]["crossings"]["1/2"]
    if length["half_period_px"] is None:
        return Figure("nowhere", "halves agree", "even and odd patterns")
    nominal = " nominal" if result.metrics["scan"]["nominal_geometry"] else ""
    value = f"{'< ' if length['beyond_nyquist'] else ''}{length['half_period_px']:.2f} px"
    return Figure(value, "halves agree to", f"half period, {length['half_period_m'] * 1e9:.3g} nm{nominal}")


def compare_starts(network: Result, flat: Result) -> str | None:
    """Network start against flat start at equal time of refinement; None where either kept no history."""
    measure, times, values = network.history()
    _, flat_times, flat_values = flat.history()
    if not times or not flat_times:
        return None
    more_is_better = measure == "phase PSNR"
    until = min(times[-1], flat_times[-1])
    reached, flat_reached = np.interp(until, times, values), np.interp(until, flat_times, flat_values)
    unit = " dB" if more_is_better else ""
    digits = ".1f" if more_is_better else ".4f"
    ahead = reached > flat_reached if more_is_better else reached < flat_reached
    tied = abs(reached - flat_reached) < (0.3 if more_is_better else 0.02 * flat_reached)
    says = "they tie" if tied else "the network start is ahead" if ahead else "the flat start is ahead"
    text = (
        f"After {until:.2g} s of refinement each, {network.method} is at {measure} {reached:{digits}}{unit}, "
        f"{flat.method} (no network) at {flat_reached:{digits}}{unit}: {says}."
    )
    winner, goal = (network, flat_values[-1]) if ahead else (flat, values[-1])
    _, winner_times, winner_values = winner.history()
    first = _first_time(winner_times, winner_values, goal, more_is_better)
    loser_time = (flat_times if ahead else times)[-1]
    if not tied and first is not None and first < loser_time:
        begins = "begins with" if first == 0 else f"reaches in {first:.2g} s"
        text += f" It {begins} what the other has after {loser_time:.2g} s."
    return text


def advise(results: Sequence[Result], records: Sequence[dict]) -> list[tuple[str, str]]:
    """What to do next: what it is about, and the advice, each once."""
    about: dict[str, list[str]] = {}
    for name, advice in _advices(results, records):
        about.setdefault(advice, []).append(name)
    if not about:
        return [("Nothing stands out", "Try it on your own measurement, or see what fewer photons or less overlap do.")]
    return [(_list(list(dict.fromkeys(names))), advice) for advice, names in about.items()]


def _advices(results: Sequence[Result], records: Sequence[dict]) -> Iterator[tuple[str, str]]:
    for result in results:
        for advice in _advise(result):
            yield result.scan, advice
    for record in records:
        for advice in _advise_training(record):
            yield record["method"], advice


def caveats(results: Sequence[Result]) -> list[str]:
    """What to keep in mind when reading the numbers."""
    notes = []
    nominal = [name for name in _names(results) if _scan_facts(results, name)["nominal_geometry"]]
    measured = [name for name in nominal if not _scan_facts(results, name)["has_truth"]]
    if measured:
        notes.append(
            f"Lengths of {_list(measured)} are nominal: the measurement does not say photon energy, distance or pixel "
            "size, and the config supplies them. Trust pixels, not nanometres."
        )
    if any(result.has_truth for result in results):
        notes.append(
            "Global phase and a linear phase ramp, which no measurement can tell, are removed before comparing with "
            "the truth. PSNR takes the truth's own range as its peak; where literature takes 255 for data of unit "
            "range, it reads 48 dB more."
        )
    if any(result.metrics["split_half"] for result in results):
        notes.append(
            "Even and odd patterns were reconstructed apart, but by one network and from one probe: errors that both "
            "share do not lower their agreement."
        )
    if any(result.from_network for result in results):
        notes.append(
            "Times of refinement leave out training and prediction: a network pays back over several scans of one "
            "set-up, not over one."
        )
    notes.append(
        "The R-factor and ring correlation see slowly varying phase errors badly: two objects can tie in both and "
        "differ by several dB in phase."
    )
    return notes


def _advise(result: Result) -> Iterator[str]:
    found, truth = result.refined, result.refined["against_truth"]
    if truth and truth["twin_correlation"] > truth["correlation"] + 0.05:
        yield "The twin image was found. Check the signs of positions and the orientation of patterns."
    if verdict(result)[0] == "poor":
        yield "Check the probe, the positions and the units of the counts before anything else."
    elif found["r_factor"] > 2 * found["noise_floor"]:
        yield f"The counts hold more than was found. {_untried(result)}Look at the patterns that fit worst."
    if result.from_network and result.metrics["stages"]["network"]["r_factor"] > FOUND_NOTHING * _empty(result):
        yield (
            "The network alone found hardly more than an empty image: what is good was found by refinement. Train "
            "longer, or on scans with this probe."
        )
    if _still_improving(result):
        yield "Refinement was still getting better when it stopped. Raise refinement.epochs."
    if truth and truth["phase_low_frequency_rms_rad"] > 0.8 * truth["phase_rms_rad"] and truth["phase_rms_rad"] > 0.03:
        yield (
            "What is left of the phase error varies slowly, which the counts barely feel. A better start, more overlap "
            "or more refinement helps; more photons do not."
        )
    if result.from_network and result.metrics["stages"]["network"]["raster_artifact_ratio"] > 3:
        yield "Patches show their borders in the stitched object. Train longer, or keep more of each patch."
    if not result.has_truth and not result.metrics["split_half"]:
        yield "Set evaluation.split_half to learn up to which resolution halves of the patterns agree."


def _untried(result: Result) -> str:
    """What refinement was not asked to find, in a sentence; nothing where it was asked for everything."""
    config = result.metrics["reconstructions"]["refined"].get("provenance", {}).get("config") or {}
    left = [f"{what} (refinement.{key})" for key, what in FREEDOMS.items() if config.get(key) is None]
    return f"Not refined were {_list(left)}. " if left else ""


def _empty(result: Result) -> float:
    """What an empty image scores: its R-factor."""
    return result.metrics["stages"]["uniform"]["r_factor"]


def _still_improving(result: Result) -> bool:
    """Whether refinement got anywhere over the last third of its time."""
    measure, times, values = result.history()
    if len(times) < 4:
        return False
    earlier = float(np.interp(2 / 3 * times[-1], times, values))
    if measure == "phase PSNR":
        return values[-1] - earlier > 0.5
    return (earlier - values[-1]) / max(earlier, 1e-30) > 0.02


def _advise_training(record: dict) -> Iterator[str]:
    """Whether a network was still learning when its training ended."""
    errors = [error for error in record.get("validation", {}).get("patch_error", []) if error is not None]
    if len(errors) >= 2 and errors[-1] < 0.9 * errors[-2]:
        fell = 1 - errors[-1] / errors[-2]
        yield (
            f"The validation error fell by {fell:.0%} over the last epoch of training. Train longer (training.stages), "
            "or on more scans."
        )


def _first_time(times: Sequence[float], values: Sequence[float], goal: float, more_is_better: bool) -> float | None:
    """When a curve first reaches a goal."""
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
    """A few names; of many, how many there are and the first three."""
    return (
        _list(names)
        if len(names) <= MOST_NAMES
        else f"{len(names)} {what} ({', '.join(names[:3])}, ...)".replace("  ", " ")
    )


def _names(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.scan for result in results))


def _scan_facts(results: Sequence[Result], name: str) -> dict:
    return next(result.metrics["scan"] for result in results if result.scan == name)


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
