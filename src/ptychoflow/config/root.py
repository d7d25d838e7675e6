"""The whole config: scans, methods and sweeps by name, and the defaults of every step."""

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..core.suggestions import did_you_mean
from .base import NAME, Section, listed, merge, whole_scan
from .reconstruction import Evaluation, Inference, Refinement, Stitching
from .runtime import Export, Runtime, Tracking
from .scans import Packing, Simulation, Source
from .training import Network, Training

NAME_RULE = "expected letters, digits, - and _ in a name (at most 100), because files are named so"


class ScanEntry(Section):
    """A scan by name: simulated or measured, with what differs from the defaults."""

    simulation: Simulation | None = None
    """Settings of a simulated scan: what differs from the top-level `simulation`. Give this or `source`."""
    source: Source | None = None
    """Settings of a measured scan: its file and what the file lacks. Give this or `simulation`."""
    packing: Packing | None = None
    """Settings that differ from the top-level `packing`."""


class MethodEntry(Section):
    """A way to reconstruct scans, with what differs from the defaults."""

    initial_object: Literal["network", "uniform"] = "network"
    """Object that refinement begins with. `network` trains a network and takes its reconstruction; `uniform` begins
    from a uniform object: rPIE alone, the iterative baseline."""
    finetune_from: str | None = None
    """Method whose trained network the training starts from, instead of random weights: to fine-tune it, or to adapt it
    to the counts of a measured scan named in `train_on`. The `network` settings of that method apply."""
    train_on: tuple[str, ...] = ()
    """Scans to train the network on."""
    reconstruct: tuple[str, ...]
    """Scans to reconstruct with this method."""
    exports: tuple[Export, ...] = ()
    """Files to write of each refined reconstruction for other programs, in `results/exports/`. `directory` is
    ptychodus's standard directory; `h5`, `npz` and `cxi` are ptychodus products; `tif` holds amplitude and phase;
    `ptychopinn.npz` is a PtychoPINN training file."""
    network: Network | None = None
    """Settings that differ from the top-level `network`."""
    training: Training | None = None
    """Settings that differ from the top-level `training`."""
    inference: Inference | None = None
    """Settings that differ from the top-level `inference`."""
    stitching: Stitching | None = None
    """Settings that differ from the top-level `stitching`."""
    refinement: Refinement | None = None
    """Settings that differ from the top-level `refinement`."""
    evaluation: Evaluation | None = None
    """Settings that differ from the top-level `evaluation`."""


class Sweep(Section):
    """A method run with each combination of some values; each combination becomes a method, named from the values."""

    method: Annotated[
        tuple[str, ...], BeforeValidator(listed, json_schema_input_type=str | tuple[str, ...]), Field(min_length=1)
    ]
    """Method to vary, or a list of methods to vary in the same way. They share what a setting does not affect."""
    over: Annotated[dict[str, tuple[Any, ...] | dict[str | int | float, Any]], Field(min_length=1)]
    """Settings to vary, such as `training.seed` or `train_on`, each with a list of values. A mapping `{name: value}`
    gives the values names for files and tables."""
    scans: tuple[str, ...] = ()
    """Scans whose `simulation`, `source` or `packing` settings vary; empty varies every scan of the method."""


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

"""The sections that each step reads, and so what its rerun depends on."""

IN_ONE = {"reconstruct": (*READS["infer"], *READS["stitch"])}

"""The sections that a step reads which does the work of several."""

OTHER_COMMANDS = {
    "inspect": READS["convert"],
    "run-directory": ("source", "packing", "inference", "stitching", "refinement"),
}

"""The sections that commands read which are not steps of the workflow."""


class Config(Section):
    """A whole run: scans, methods, sweeps, and the defaults of every step."""

    title: str = "ptychoflow"
    """Heading of the report."""
    scans: dict[str, ScanEntry]
    """Scans by name."""
    methods: dict[str, MethodEntry]
    """Methods of reconstruction by name."""
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
    def _names_exist(self) -> "Config":
        problems = [*self._problems_of_scans(), *self._problems_of_methods(), *self._problems_of_sweeps()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def section(self, name: str, scan: str | None = None, method: str | None = None) -> Any:
        """Return the section of this name with the overrides of a scan or a method laid over the defaults."""
        if name == "network" and method is not None and self.methods[method].finetune_from is not None:
            return self.section(name, method=self.methods[method].finetune_from)
        default = getattr(self, name, None)
        owners: list[ScanEntry | MethodEntry] = [self.scans[whole_scan(scan)]] if scan is not None else []
        owners += [self.methods[method]] if method is not None else []
        override = next((getattr(owner, name) for owner in owners if name in type(owner).model_fields), None)
        if default is None or override is None:
            return override or default
        merged = merge(default.model_dump(exclude_unset=True), override.model_dump(exclude_unset=True))
        return type(default).model_validate(merged)

    def settings(self, step: str, scan: str | None = None, method: str | None = None) -> str:
        """Return exactly the sections that a step reads, as canonical JSON: the parameter that its rerun depends on."""
        sections = {name: self.section(name, scan, method).model_dump(mode="json") for name in (READS | IN_ONE)[step]}
        return json.dumps(sections, sort_keys=True, separators=(",", ":"))

    def probe_source(self, scan: str) -> str | None:
        """Return the reconstruction ``METHOD/SCAN`` whose refined probe this scan is made with, if any."""
        entry = self.scans[whole_scan(scan)]
        if entry.source is not None:
            return entry.source.reconstruction
        return self.section("simulation", scan=scan).probe.reconstruction

    def files(self, scan: str) -> list[str]:
        """Return the paths that the settings of a scan name, whether the files exist or not."""
        source = self.scans[whole_scan(scan)].source
        return source.files() if source is not None else self.section("simulation", scan=scan).files()

    def writes_no_patches(self, method: str) -> bool:
        """Return True if prediction and stitching are one step: without `write_patches`, and in learned refinement."""
        learned_refinement = self.section("network", method=method).input == "object_estimate"
        return learned_refinement or not self.section("inference", method=method).write_patches

    def reconstructions(self) -> list[tuple[str, str]]:
        """Return every ``(method, scan)`` to reconstruct, in the order of the config."""
        return [(method, scan) for method, entry in self.methods.items() for scan in entry.reconstruct]

    def _problems_of_scans(self):
        if not self.scans:
            yield "scans is empty: name at least one, such as `leaves: {simulation: {object: dead_leaves}}`"
        for name, entry in self.scans.items():
            if not NAME.fullmatch(name):
                yield f"scans.{name}: {NAME_RULE}"
            yield from _problems_of_files(f"scans.{name}", self.files(name))
            if (entry.simulation is None) == (entry.source is None):
                yield f"scans.{name}: expected either simulation (made here) or source (measured), not both or neither"
            elif (reference := self.probe_source(name)) is not None:
                yield from self._problems_of_reference(f"scans.{name}", reference)

    def _problems_of_reference(self, where: str, reference: str):
        method, _, scan = reference.partition("/")
        if method not in self.methods or scan not in self.methods[method].reconstruct:
            known = [f"{m}/{s}" for m, s in self.reconstructions()]
            suggestion = did_you_mean(reference, known)
            yield f"{where}: takes its probe from {reference}, which is not reconstructed{suggestion}"
        elif where.removeprefix("scans.") in self._scans_of_reconstruction(reference):
            yield f"{where}: takes its probe from {reference}, which depends on this scan itself: use another scan"

    def _scans_of_reconstruction(self, reference: str) -> set[str]:
        """Return every scan that a reconstruction ``METHOD/SCAN`` depends on, directly or through probes of others."""
        scans: set[str] = set()
        waiting = [reference]
        while waiting:
            method, _, scan = waiting.pop().partition("/")
            for name in {scan, *self._training_scans(method)} & self.scans.keys() - scans:
                scans.add(name)
                further = self.probe_source(name)
                waiting += [further] if further and further.partition("/")[0] in self.methods else []
        return scans

    def _training_scans(self, method: str) -> set[str]:
        """Return the scans that a network was trained on, and those of the networks that it is fine-tuned from."""
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
            suggestion = did_you_mean(entry.finetune_from or "", self.methods)
            yield f"methods.{name}.finetune_from: no such method: {entry.finetune_from}{suggestion}"
        elif chain[-1] in chain[:-1]:
            yield f"methods.{name}.finetune_from: circular: {' -> '.join(chain)}; remove it from one of them"
        elif "uniform" in (entry.initial_object, self.methods[entry.finetune_from].initial_object):
            yield (
                f"methods.{name}: finetune_from needs a trained network, and initial_object: uniform trains none: "
                "remove one of them"
            )
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
                yield (
                    f"methods.{name}.{key}: {', '.join(idle)} has no effect, because learned refinement makes no "
                    "patches: remove it"
                )

    def _problems_of_methods(self):
        if not self.methods:
            yield "methods is empty: name at least one, such as `rpie: {initial_object: uniform, reconstruct: [...]}`"
        for name, entry in self.methods.items():
            if not NAME.fullmatch(name):
                yield f"methods.{name}: {NAME_RULE}"
            if entry.initial_object == "network" and not entry.train_on:
                yield (
                    f"methods.{name}.train_on is empty: name the scans to train on, or set initial_object: uniform for "
                    "refinement alone"
                )
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
                yield f"sweeps.{name}: {NAME_RULE}"
            for key, known in (("method", self.methods), ("scans", self.scans)):
                for word in getattr(sweep, key):
                    if word not in known:
                        yield f"sweeps.{name}.{key}: no such name: {word}{did_you_mean(word, known)}"
            for key, values in sweep.over.items():
                if not values:
                    yield f"sweeps.{name}.over.{key} is empty: give values, such as [0, 1, 2]"


def _problems_of_files(where: str, names: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with names of files, which Snakemake and a shell read."""
    for name in names:
        if "{" in name or "}" in name:
            yield f"{where}: {name} holds a brace, which stands for a wildcard in Snakemake: rename the file"
        if name.startswith("-"):
            yield f"{where}: {name} begins with a dash, as options do: write ./{name}"
        if not name.isprintable() or not name.strip():
            yield f"{where}: {name!r} is empty or holds a control character: rename the file"
