"""The whole config: scans, methods and sweeps by name, and the defaults of every step."""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..core.suggestions import did_you_mean
from .base import NAME, Section, listed, merge, whole_scan
from .reconstruction import Evaluation, Inference, Refinement, Stitching
from .runtime import Export, Runtime, Tracking
from .scans import Packing, Simulation, Source
from .training import Network, Training


class ScanEntry(Section):
    """A scan by name: simulated or measured, with what differs from the defaults."""

    simulation: Simulation | None = None
    """Makes it a simulated scan: what differs from the top-level `simulation`."""
    source: Source | None = None
    """Makes it a measured scan."""
    packing: Packing | None = None
    """What differs from the top-level `packing`."""


class MethodEntry(Section):
    """A way to reconstruct scans, with what differs from the defaults."""

    initial_object: Literal["network", "uniform"] = "network"
    """`network` trains one; `uniform` is the iterative baseline, refined from a uniform object."""
    finetune_from: str | None = None
    """Model whose trained network to go on with, instead of a fresh one: to fine-tune it, or to adapt it to the counts
    of a measured scan that `train_on` names. Its `network` settings hold."""
    train_on: tuple[str, ...] = ()
    """Scans to train on."""
    reconstruct: tuple[str, ...]
    """Scans to reconstruct."""
    exports: tuple[Export, ...] = ()
    """Forms to write each refined reconstruction in for other programs, in `results/exports/`: `directory` is
    ptychodus's standard directory, `h5`, `npz` and `cxi` its products, `tif` amplitude and phase, `ptychopinn.npz` a
    training archive."""
    network: Network | None = None
    """What differs from the top-level `network`."""
    training: Training | None = None
    """What differs from the top-level `training`."""
    inference: Inference | None = None
    """What differs from the top-level `inference`."""
    stitching: Stitching | None = None
    """What differs from the top-level `stitching`."""
    refinement: Refinement | None = None
    """What differs from the top-level `refinement`."""
    evaluation: Evaluation | None = None
    """What differs from the top-level `evaluation`."""


class Sweep(Section):
    """A method varied: each combination of values is a method, and scans where their settings vary, named from them."""

    method: Annotated[
        tuple[str, ...], BeforeValidator(listed, json_schema_input_type=str | tuple[str, ...]), Field(min_length=1)
    ]
    """Model to vary, or a list of methods to vary alike; what a setting does not touch they share."""
    over: Annotated[dict[str, tuple[Any, ...] | dict[str | int | float, Any]], Field(min_length=1)]
    """What to vary: a setting such as `training.seed`, or `train_on`, with a list of values; a mapping names them."""
    scans: tuple[str, ...] = ()
    """Scans whose `simulation`, `source` or `packing` settings vary; every scan of the method without it."""


READS: dict[str, tuple[str, ...]] = {
    "simulate": ("simulation",),
    "convert": ("source",),
    "pack": ("packing",),
    "train": ("network", "training"),
    "infer": ("inference",),
    "stitch": ("stitching",),
    "refine": ("refinement",),
    "evaluate": ("evaluation",),
    "sweep": (),
    "report": (),
    "export": (),
}

"""The sections each step reads: what its rerun depends on."""

IN_ONE = {"reconstruct": (*READS["infer"], *READS["stitch"])}

"""What steps read that do the work of several."""

OTHER_COMMANDS = {
    "inspect": READS["convert"],
    "run-directory": ("source", "packing", "inference", "stitching", "refinement"),
}

"""What commands read whose settings no step hands over."""


class Config(Section):
    """A whole run: scans, methods, and the defaults of every step."""

    title: str = "ptychoflow"
    """Heading of the report."""
    scans: dict[str, ScanEntry]
    """Scans by name."""
    methods: dict[str, MethodEntry]
    """Models by name."""
    sweeps: dict[str, Sweep] = {}
    """Sweeps by name."""
    simulation: Simulation = Simulation()
    packing: Packing = Packing()
    network: Network = Network()
    training: Training = Training()
    inference: Inference = Inference()
    stitching: Stitching = Stitching()
    refinement: Refinement = Refinement()
    evaluation: Evaluation = Evaluation()
    runtime: Runtime = Runtime()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _names_meet(self) -> "Config":
        problems = [*self._problems_of_scans(), *self._problems_of_methods(), *self._problems_of_sweeps()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def section(self, name: str, scan: str | None = None, method: str | None = None) -> Section:
        """One section, with what the scan or the method overrides laid over the default."""
        if name == "network" and method is not None and self.methods[method].finetune_from is not None:
            return self.section(name, method=self.methods[method].finetune_from)
        default = getattr(self, name, None)
        owners = [self.scans[whole_scan(scan)]] if scan is not None else []
        owners += [self.methods[method]] if method is not None else []
        override = next((getattr(owner, name) for owner in owners if name in type(owner).model_fields), None)
        if default is None or override is None:
            return override or default
        merged = merge(default.model_dump(exclude_unset=True), override.model_dump(exclude_unset=True))
        return type(default).model_validate(merged)

    def settings(self, step: str, scan: str | None = None, method: str | None = None) -> str:
        """Exactly what a step reads, as canonical JSON: the parameter its rerun depends on."""
        sections = {name: self.section(name, scan, method).model_dump(mode="json") for name in (READS | IN_ONE)[step]}
        return json.dumps(sections, sort_keys=True, separators=(",", ":"))

    def probe_source(self, scan: str) -> str | None:
        """``METHOD/SCAN`` whose refined probe this scan is made with, if any."""
        entry = self.scans[whole_scan(scan)]
        if entry.source is not None:
            return entry.source.reconstruction
        return self.section("simulation", scan=scan).probe.reconstruction

    def files(self, scan: str) -> list[str]:
        """Files that the settings of a scan name, there or not."""
        source = self.scans[whole_scan(scan)].source
        if source is not None:
            named = (source.file, source.positions, source.probe)
        else:
            simulation = self.section("simulation", scan=scan)
            named = (simulation.probe.file, simulation.trajectory.file, *simulation.object.images)
        return [name for name in named if name is not None]

    def patchless(self, method: str) -> bool:
        """Whether a network's object comes in one go: its config wants no patches, or it corrects a fit."""
        fits = self.section("network", method=method).input == "object_estimate"
        return fits or not self.section("inference", method=method).write_patches

    def reconstructions(self) -> list[tuple[str, str]]:
        """Every ``(method, scan)`` to reconstruct, in the order written."""
        return [(method, scan) for method, entry in self.methods.items() for scan in entry.reconstruct]

    def _problems_of_scans(self):
        if not self.scans:
            yield "scans is empty: name at least one, such as `leaves: {simulation: {object: dead_leaves}}`"
        for name, entry in self.scans.items():
            if not NAME.fullmatch(name):
                yield f"scans.{name}: expected letters, digits, - and _ in a name, because files are named so"
            if (entry.simulation is None) == (entry.source is None):
                yield f"scans.{name}: expected either simulation (made here) or source (measured), not both or neither"
            elif (reference := self.probe_source(name)) is not None:
                yield from self._problems_of_reference(f"scans.{name}", reference)

    def _problems_of_reference(self, where: str, reference: str):
        method, _, scan = reference.partition("/")
        if method not in self.methods or scan not in self.methods[method].reconstruct:
            known = [f"{m}/{s}" for m, s in self.reconstructions()]
            nearest = did_you_mean(reference, known)
            yield f"{where}: takes its probe from {reference}, which is not reconstructed{nearest}"
        elif where.removeprefix("scans.") in self._scans_behind(reference):
            yield f"{where}: takes its probe from {reference}, which is itself made from this scan: use another scan"

    def _scans_behind(self, reference: str) -> set[str]:
        """Every scan that a reconstruction ``METHOD/SCAN`` is made from, directly or through the probes of others."""
        behind: set[str] = set()
        waiting = [reference]
        while waiting:
            method, _, scan = waiting.pop().partition("/")
            for name in {scan, *self._learned_from(method)} & self.scans.keys() - behind:
                behind.add(name)
                further = self.probe_source(name)
                waiting += [further] if further and further.partition("/")[0] in self.methods else []
        return behind

    def _learned_from(self, method: str) -> set[str]:
        """The scans that went into a network, also into those that it is fine-tuned from."""
        return {
            scan
            for name in self._finetuning_chain(method)
            if name in self.methods
            for scan in self.methods[name].train_on
        }

    def _finetuning_chain(self, method: str) -> list[str]:
        """List a method, the one that it is fine-tuned from, and so on; the last one twice in a circular chain."""
        chain = [method]
        while (entry := self.methods.get(chain[-1])) is not None and entry.finetune_from is not None:
            chain.append(entry.finetune_from)
            if chain[-1] in chain[:-1]:
                break
        return chain

    def _problems_of_finetuning(self, name: str, entry: MethodEntry):
        chain = self._finetuning_chain(name)
        if entry.finetune_from not in self.methods:
            yield f"methods.{name}.finetune_from: no such method: {entry.finetune_from}{did_you_mean(entry.finetune_from, self.methods)}"
        elif chain[-1] in chain[:-1]:
            yield f"methods.{name}.finetune_from: circular: {' -> '.join(chain)}; remove it from one of them"
        elif "uniform" in (entry.initial_object, self.methods[entry.finetune_from].initial_object):
            yield f"methods.{name}: finetune_from needs a trained network, and initial_object: uniform trains none: remove one of them"
        elif entry.network is not None:
            yield f"methods.{name}.network: a fine-tuned network keeps the settings of {entry.finetune_from}: remove it"

    def _problems_without_patches(self, name: str, entry: MethodEntry):
        chain = self._finetuning_chain(name)
        if (
            chain[-1] in chain[:-1]
            or chain[-1] not in self.methods
            or self.section("network", method=name).input != "object_estimate"
        ):
            return
        for key in ("inference", "stitching"):
            section = getattr(entry, key)
            idle = sorted((section.model_fields_set if section is not None else set()) - {"precision"})
            if idle:
                yield f"methods.{name}.{key}: learned refinement has no patches for {', '.join(idle)} to act on: remove it"

    def _problems_of_methods(self):
        if not self.methods:
            yield "methods is empty: name at least one, such as `rpie: {initial_object: uniform, reconstruct: [...]}`"
        for name, entry in self.methods.items():
            if not NAME.fullmatch(name):
                yield f"methods.{name}: expected letters, digits, - and _ in a name, because files are named so"
            if entry.initial_object == "network" and not entry.train_on:
                yield f"methods.{name}.train_on is empty: name the scans to train on, or set initial_object: uniform for refinement alone"
            if entry.initial_object == "uniform" and entry.train_on:
                yield f"methods.{name}: initial_object: uniform trains nothing, remove train_on"
            if entry.finetune_from is not None:
                yield from self._problems_of_finetuning(name, entry)
            if entry.initial_object == "network":
                yield from self._problems_without_patches(name, entry)
            if not entry.reconstruct:
                yield f"methods.{name}.reconstruct is empty: name the scans to reconstruct"
            for key in ("train_on", "reconstruct"):
                for scan in getattr(entry, key):
                    if scan not in self.scans:
                        yield f"methods.{name}.{key}: no such scan: {scan}{did_you_mean(scan, self.scans)}"

    def _problems_of_sweeps(self):
        for name, sweep in self.sweeps.items():
            if not NAME.fullmatch(name):
                yield f"sweeps.{name}: expected letters, digits, - and _ in a name, because files are named so"
            for key, known in (("method", self.methods), ("scans", self.scans)):
                for word in getattr(sweep, key):
                    if word not in known:
                        yield f"sweeps.{name}.{key}: no such name: {word}{did_you_mean(word, known)}"
            for key, values in sweep.over.items():
                if not values:
                    yield f"sweeps.{name}.over.{key} is empty: give values, such as [0, 1, 2]"
