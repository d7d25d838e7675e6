"""Schemas of the files that a report and a comparison read: metrics, training logs, and the arrays of figures."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from ..io.json_file import Schema
from ..io.metadata import Metadata, Provenance
from ..io.npz_archive import open_npz

MOST_DIGITS = 1e15
"""Greatest number that a table or a chart shows."""
Number = Annotated[float, Field(ge=-MOST_DIGITS, le=MOST_DIGITS)]
Seconds = Annotated[float, Field(ge=0, le=MOST_DIGITS)]
Length = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Column = list[Number | None]
LoggedColumn = list[Annotated[float, Field(allow_inf_nan=True)] | None]
"""Column of a training log, where a loss may have diverged."""
ABSENT: Any = Field(default=None)
"""A part that may be missing, but not null."""


class Crossing(Schema):
    """Crossing of a Fourier ring correlation with a threshold."""

    half_period_px: Number | None
    half_period_m: Number | None
    beyond_nyquist: bool = False


class Correlation(Schema):
    """A Fourier ring correlation; its curve may have been left out."""

    area: Number | None
    crossings: dict[str, Crossing]
    frequency_cycles_per_px: Column = ABSENT
    correlation: Column = ABSENT
    half_bit: Column = ABSENT

    @model_validator(mode="after")
    def _has_resolution(self) -> "Correlation":
        if "1/2" not in self.crossings:
            raise ValueError("the crossing 1/2 is missing")
        return self


class AgainstTruth(Schema):
    """Metrics against the ground truth; None where one is undefined."""

    phase_psnr_truth_range: Number | None
    phase_mae_rad: Number | None
    phase_rms_rad: Number | None
    phase_low_frequency_rms_rad: Number | None
    phase_ssim_truth_range: Number | None
    amplitude_psnr_truth_range: Number | None
    correlation: Number | None
    twin_correlation: Number | None
    frc: Correlation


class StageMetrics(Schema):
    """Metrics of one stage."""

    r_factor: Number
    noise_floor: Number
    raster_artifact_ratio: Number | None
    against_truth: AgainstTruth | None


class Stages(Schema):
    """Metrics of the stages of a reconstruction."""

    network: StageMetrics = ABSENT
    refined: StageMetrics
    uniform: StageMetrics


class HalfSet(Schema):
    """Agreement of the reconstructions of two halves."""

    frc: Correlation


class Halves(Schema):
    """Agreement of halves, by stage."""

    network: HalfSet = ABSENT
    refined: HalfSet = ABSENT


class ScanSummary(Schema):
    """Summary of the scan that was reconstructed."""

    name: Name
    patterns: Count
    size_px: Annotated[int, Field(gt=0, le=1 << 16)]
    counts_per_pattern: Number
    probe_photons: Number
    probe_modes: Count
    has_truth: bool
    pixel_size_m: Length
    wavelength_m: Length
    nominal_geometry: bool
    metadata: Metadata


class Reconstructions(Schema):
    """Metadata of the reconstructions, by stage."""

    network: Metadata = ABSENT
    refined: Metadata


class ComparedMetrics(Schema):
    """Metrics of a reconstruction without its curves, as a report embeds them."""

    method: Name
    scan: ScanSummary
    stages: Stages
    split_half: Halves
    reconstructions: Reconstructions
    provenance: Provenance
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _belongs_together(self) -> "ComparedMetrics":
        stages = {name: stage for name, stage in self.stages if isinstance(stage, StageMetrics)}
        if any((stage.against_truth is not None) != self.scan.has_truth for stage in stages.values()):
            raise ValueError("scan.has_truth does not agree with the metrics against the ground truth")
        if "dataset" not in self.provenance.inputs:
            raise ValueError("provenance.inputs.dataset is missing")
        return self


class Snapshots(Schema):
    """Progress of refinement at some epochs."""

    cpu_seconds: Column
    phase_psnr: Column


class Progress(Schema):
    """Progress of refinement by epoch."""

    cpu_seconds: Column
    r_factor: Column
    held_out_r_factor: Column = ABSENT
    snapshots: Snapshots


class PatternFit(Schema):
    """Fit of one pattern."""

    which: str
    index: Count
    r_factor: Number


class Metrics(ComparedMetrics):
    """A metrics file of ``evaluate``."""

    progress: Progress
    patterns: list[PatternFit]

    @model_validator(mode="after")
    def _has_curves(self) -> "Metrics":
        for curve in self._correlations():
            columns = (curve.frequency_cycles_per_px, curve.correlation, curve.half_bit)
            if None in columns or len({len(column) for column in columns}) > 1 or not columns[0]:
                raise ValueError("a curve of a Fourier ring correlation is missing or has columns of different lengths")
        return self

    def _correlations(self) -> Iterator[Correlation]:
        for stage in (self.stages.network, self.stages.refined, self.stages.uniform):
            if stage is not None and stage.against_truth is not None:
                yield stage.against_truth.frc
        yield from (half.frc for half in (self.split_half.network, self.split_half.refined) if half is not None)


class TrainedSettings(Schema):
    """Settings of a training, by section."""

    network: dict[str, Any]
    training: dict[str, Any]


class ComparedLog(Schema):
    """A training log without its curves, as a report embeds it."""

    method: Name
    seconds: Seconds
    config: TrainedSettings
    provenance: Provenance
    groups: dict[str, dict[str, Any]] = ABSENT
    parameters: Count = ABSENT
    steps: Count = ABSENT
    patterns_per_second: Number = ABSENT
    device: str = ABSENT
    validation: dict[str, LoggedColumn] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_columns(self) -> "ComparedLog":
        for group in (self.groups or {}).values():
            if type(group.get("training")) is not int:
                raise ValueError("groups lack the number for training")
        _check_columns(self.validation, "validation")
        return self


class TrainingLog(ComparedLog):
    """A training log of ``train``."""

    curves: dict[str, LoggedColumn]

    @model_validator(mode="after")
    def _has_epochs(self) -> "TrainingLog":
        if "epoch" not in self.curves:
            raise ValueError("curves lack the epochs")
        _check_columns(self.curves, "curves")
        return self


def _check_columns(table: Mapping[str, list], what: str) -> None:
    if table and ("epoch" not in table or len({len(column) for column in table.values()}) > 1):
        raise ValueError(f"{what} have no epochs, or columns of different lengths")
    if any(value is None for value in table.get("epoch", ())):
        raise ValueError(f"{what} have epochs that are null")


FINITE = "finite"
FIGURE_ARRAYS = {
    "origin": ("2", "fiu", FINITE),
    "truth": ("HW", "c", FINITE),
    "weight": ("HW", "f", ""),
    "phase_uncertainty": ("HW", "f", ""),
    "probe": ("MNN", "c", FINITE),
    "probe_variations": ("VNN", "c", FINITE),
    "variation_weights": ("JV", "f", FINITE),
    "variation_map": ("HW", "f", ""),
    "background": ("NN", "f", FINITE),
    "patterns_expected": ("KNN", "f", FINITE),
    "patterns_measured": ("KNN", "f", ""),
    "positions": ("J2", "f", FINITE),
    "positions_recorded": ("J2", "f", FINITE),
    "r_factors": ("J", "f", ""),
    "browse_indices": ("B", "iu", FINITE),
    "browse_patterns": ("2BSS", "u", FINITE),
    "browse_binning": ("", "iu", FINITE),
    "browse_most": ("", "f", FINITE),
}
"""Of each array of figures: its sides, equal letters for equal lengths; its kinds of number; whether all are finite."""
STAGE_ARRAYS = {"": ("HW", "c", FINITE), "_mask": ("HW", "b", ""), "_r_map": ("HW", "f", "")}
"""Likewise of the arrays of each stage, by what follows its name."""
OPTIONAL = ("truth", "phase_uncertainty", "probe_variations", "variation_weights", "variation_map", "background")
LARGEST_ARRAYS = 1 << 31
"""Bytes of all arrays of one result together."""


def read_figure_arrays(path: Path, stages: list[str], patterns: int) -> dict[str, np.ndarray]:
    """Read the arrays that ``evaluate`` wrote for figures.

    Args:
        path: the archive.
        stages: whose objects it must hold.
        patterns: number of patterns that it must hold.

    Returns:
        The arrays by name, see :func:`ptychoflow.reporting.figure_arrays.figure_arrays`.

    Raises:
        ValueError: naming the array that is missing, damaged or does not belong to the others.
    """
    expected = FIGURE_ARRAYS | {f"{stage}{end}": entry for stage in stages for end, entry in STAGE_ARRAYS.items()}
    with open_npz(path) as archive:
        names = [name for name in expected if name in archive]
        missing = [name for name in expected if name not in archive and name not in OPTIONAL]
        if missing:
            raise ValueError(f"{path.name} lacks {', '.join(missing)}")
        mapped = {name: archive.array(name, len(expected[name][0]), kinds=expected[name][1]) for name in names}
        if sum(array.nbytes for array in mapped.values()) > LARGEST_ARRAYS:
            raise ValueError(f"{path.name} holds more than {LARGEST_ARRAYS >> 30} GiB")
        arrays = {name: np.array(array) for name, array in mapped.items()}
    lengths: dict[str, int] = {"2": 2}
    for name, array in arrays.items():
        sides, _, finite = expected[name]
        for side, length in zip(sides, array.shape, strict=True):
            if lengths.setdefault(side, length) != length or not length:
                raise ValueError(f"{name} has shape {array.shape}, which does not belong to the other arrays")
        if finite and not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")
    indices = arrays["browse_indices"]
    if indices.min() < 0 or indices.max() >= lengths["J"] or lengths["K"] < patterns:
        raise ValueError(f"patterns to show are not among the {lengths['J']} of the scan")
    return arrays
