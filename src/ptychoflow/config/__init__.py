"""The one schema: every setting of every step, with its unit, range and default.

A setting has one reader. Sections are named for the command or noun that reads them. Defaults are at the top level; a
scan or a method overrides what it names. What cannot change a result (devices, workers, tracking) is in ``runtime`` and
``tracking`` and triggers no rerun.
"""

from .base import HALVES, NAME, ConfigError, Recipe, Section, merge, whole_scan
from .loading import load_config, read_yaml, step_sections, validate
from .reconstruction import Constraints, Evaluation, Inference, Refinement, Stitching
from .root import IN_ONE, READS, Config, MethodEntry, Sweep
from .runtime import Runtime, Tracking
from .scans import (
    FORMATS,
    Aberration,
    BeamStability,
    Detector,
    KeyEntry,
    Keys,
    MeasuredGeometry,
    NominalGeometry,
    ObjectRecipe,
    Orientation,
    Packing,
    ProbeRecipe,
    Raster,
    Simulation,
    Source,
    Trajectory,
)
from .training import Grouping, Network, Regularisation, Shorthand, Stage, Training, Validation

__all__ = [
    "FORMATS",
    "HALVES",
    "IN_ONE",
    "NAME",
    "READS",
    "Aberration",
    "BeamStability",
    "Config",
    "ConfigError",
    "Constraints",
    "Detector",
    "Evaluation",
    "Grouping",
    "Inference",
    "KeyEntry",
    "Keys",
    "MeasuredGeometry",
    "MethodEntry",
    "Network",
    "NominalGeometry",
    "ObjectRecipe",
    "Orientation",
    "Packing",
    "ProbeRecipe",
    "Raster",
    "Recipe",
    "Refinement",
    "Regularisation",
    "Runtime",
    "Section",
    "Shorthand",
    "Simulation",
    "Source",
    "Stage",
    "Stitching",
    "Sweep",
    "Tracking",
    "Training",
    "Trajectory",
    "Validation",
    "load_config",
    "merge",
    "read_yaml",
    "step_sections",
    "validate",
    "whole_scan",
]
