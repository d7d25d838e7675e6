"""Expansion of sweeps: a method and, where needed, scans for each combination of values, named from what differs.

A value that changes nothing adds nothing to a name, and each product is named only for the settings that it depends on.
So a product that two combinations share is made once, also if they share it with the method that is varied: a training
when refinement is swept, a simulation when training is.
"""

import itertools
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from ..core.suggestions import did_you_mean
from . import NAME, READS, Config, ConfigError, MethodEntry, Sweep, merge, validate

SCAN_STEPS = ("simulate", "convert", "pack")
METHOD_STEPS = ("train", "infer", "stitch", "refine")
STEP_OF = {section: step for step in (*SCAN_STEPS, *METHOD_STEPS) for section in READS[step]} | {"train_on": "train"}


@dataclass(frozen=True)
class Value:
    """One value of a swept setting.

    Attributes:
        key: the setting, such as ``training.seed``.
        value: its value.
        name: its name in tables: the number, the word, or the name given to it.
    """

    key: str
    value: Any
    name: str

    @property
    def section(self) -> str:
        """Section of the setting; ``train_on`` itself for the scans to train on."""
        return self.key.partition(".")[0]

    @property
    def step(self) -> str:
        """Step that reads the setting."""
        return STEP_OF[self.section]

    @property
    def label(self) -> str:
        """Part that the value adds to the name of a file: ``photons1e5``, ``fno``."""
        return (
            self.name if self.name[0].isalpha() else self.key.rpartition(".")[2] + _short(self.name).replace(".", "p")
        )

    def overrides(self, section: dict | None) -> dict:
        """Return ``{"seed": 1}`` to lay over the section; a bare name keeps the other settings of what it names."""
        path = self.key.split(".")[1:]
        data = self.value
        if isinstance(data, str) and isinstance(_at(section or {}, self.key), dict):
            data = {"name": data}
        for part in reversed(path):
            data = {part: data}
        return data


@dataclass(frozen=True)
class Combination:
    """One combination of a sweep.

    Attributes:
        base: the method that is varied.
        method: name of the combination.
        scans: scans that it reconstructs, by the name of the scan that is varied.
        values: the name of each swept setting's value.
    """

    base: str
    method: str
    scans: dict[str, str]
    values: dict[str, str]


class Plan(Config):
    """A config whose sweeps are expanded to methods and scans.

    Attributes:
        makers: the method or scan that makes a shared product of a step: ``{step: {name: maker}}``.
        helpers: methods that only make shared products; their reconstructions are not requested.
        combinations: combinations of each sweep.
    """

    makers: dict[str, dict[str, str]]
    helpers: frozenset[str]
    combinations: dict[str, list[Combination]]

    def maker(self, step: str, name: str) -> str:
        """Return the method or scan whose product of a step this one uses: itself, or one that it shares with."""
        return self.makers.get(step, {}).get(name, name)

    def reconstructions(self) -> list[tuple[str, str]]:
        """Return every requested ``(method, scan)``."""
        return [pair for pair in super().reconstructions() if pair[0] not in self.helpers]

    def trainings(self) -> list[str]:
        """Return the methods whose networks are trained."""
        networks = (method for method, _ in self.reconstructions() if self.methods[method].initial_object == "network")
        return list(dict.fromkeys(self.maker("train", method) for method in networks))


def plan(config: Config) -> Plan:
    """Expand the sweeps of a config.

    Raises:
        ConfigError: if a sweep names a setting that cannot be swept, changes nothing, or gives two things one name.
    """
    return _Writer(config).plan()


class _Writer:
    """Expansion of sweeps to methods and scans as plain data, one sweep after another."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._original = config.model_dump(mode="json", exclude_unset=True)
        self._data = deepcopy(self._original)
        self._makers: dict[str, dict[str, str]] = {}
        self._requested = set(config.methods)
        self._combinations: dict[str, list[Combination]] = {}
        self._where = ""

    def plan(self) -> Plan:
        """Return the config with its sweeps expanded."""
        for name, sweep in self._config.sweeps.items():
            self._where = f"sweeps.{name}"
            self._combinations[name] = self._write(sweep)
        helpers = frozenset(self._data["methods"]) - self._requested
        expanded = {"makers": self._makers, "combinations": self._combinations, "helpers": helpers}
        return validate(Plan, self._data | expanded)

    def _write(self, sweep: Sweep) -> list[Combination]:
        combinations: list[Combination] = []
        effective: set[str] = set()
        axes = [self._values(key, values) for key, values in sweep.over.items()]
        for base in sweep.method:
            for values in itertools.product(*axes):
                combination, changing = self._combine(base, values, sweep)
                combinations.append(combination)
                effective |= changing
        for key in sweep.over:
            if key not in effective:
                raise self._wrong(f"over.{key} changes nothing in {', '.join(sweep.method)}: remove it")
        return combinations

    def _values(self, key: str, values: tuple | dict) -> list[Value]:
        if key.partition(".")[0] not in STEP_OF or ("." in key) == (key == "train_on"):
            sections = ", ".join(name for name in STEP_OF if name != "train_on")
            raise self._wrong(f"over.{key}: expected train_on or a setting of {sections}, such as training.seed")
        named = values if isinstance(values, dict) else {self._name(key, value): value for value in values}
        for scan in itertools.chain(*named.values()) if key == "train_on" else ():
            if scan not in self._config.scans:
                raise self._wrong(f"over.train_on: no such scan: {scan}{did_you_mean(scan, self._config.scans)}")
        return [Value(key, value, str(name)) for name, value in named.items()]

    def _name(self, key: str, value: Any) -> str:
        if isinstance(value, list | tuple | dict) or value is None:
            raise self._wrong(f"over.{key}: {value!r} has no short name: write {{name: value, ...}} instead of a list")
        return str(value).lower() if isinstance(value, bool) else _short(str(value))

    def _combine(self, base: str, values: tuple[Value, ...], sweep: Sweep) -> tuple[Combination, set[str]]:
        """Add one combination to the data; return it and the settings that made a difference."""
        entry = self._config.methods[base]
        train_on, varied, differs, shaping = self._vary_method(base, values, sweep)
        names = {scan: name for scan, (name, _) in varied.items()}
        finetune_from = self._finetune_from(base, values, sweep)
        names_by_step: dict[str, str] = {}
        for n, step in enumerate(METHOD_STEPS):
            inside = [v for v in values if v.key in shaping or (v in differs and v.step in METHOD_STEPS[: n + 1])]
            names_by_step[step] = "-".join([base, *(v.label for v in inside)])
            changed = [v for v in inside if v in differs]
            self._add_method(names_by_step[step], base, changed, train_on, names, finetune_from)
            for earlier in METHOD_STEPS[:n]:
                if names_by_step[earlier] != names_by_step[step]:
                    self._makers.setdefault(earlier, {})[names_by_step[step]] = names_by_step[earlier]
        method = names_by_step[METHOD_STEPS[-1]]
        self._requested.add(method)
        changing = {v.key for _, found in varied.values() for v in found} | {v.key for v in differs}
        scans = {scan: names[scan] for scan in entry.reconstruct}
        return Combination(base=base, method=method, scans=scans, values={v.key: v.name for v in values}), changing

    def _vary_method(
        self, base: str, values: tuple[Value, ...], sweep: Sweep
    ) -> tuple[tuple[str, ...], dict[str, tuple[str, list[Value]]], list[Value], set[str]]:
        """Return training scans, scans as they vary, values that change the method, keys that affect its training."""
        entry = self._config.methods[base]
        train_on = next((tuple(v.value) for v in values if v.key == "train_on"), entry.train_on)
        varied = {
            scan: self._vary_scan(scan, values if not sweep.scans or scan in sweep.scans else ())
            for scan in dict.fromkeys((*train_on, *entry.reconstruct))
        }
        differs = self._differing(entry, base, values)
        shaping = {v.key for scan in train_on for v in varied[scan][1]} | {v.key for v in differs if v.step == "train"}
        if entry.finetune_from in sweep.method:
            differs = [v for v in differs if v.section != "network"]
            shaping |= self._vary_method(entry.finetune_from, values, sweep)[3]
        return train_on, varied, differs, shaping

    def _finetune_from(self, base: str, values: tuple[Value, ...], sweep: Sweep) -> str | None:
        """Return the method to fine-tune from: its same combination, if the sweep varies that method too."""
        finetune_from = self._config.methods[base].finetune_from
        if finetune_from not in sweep.method:
            return finetune_from
        shaping = self._vary_method(finetune_from, values, sweep)[3]
        return "-".join([finetune_from, *(v.label for v in values if v.key in shaping)])

    def _vary_scan(self, scan: str, values: tuple[Value, ...]) -> tuple[str, list[Value]]:
        """Add a scan with these values; return its name and the values that make a difference."""
        entry = self._config.scans[scan]
        own = [v for v in values if v.step in SCAN_STEPS and (v.section == "packing" or getattr(entry, v.section))]
        differs = self._changes({"scan": scan}, own)
        made = [v for v in differs if v.section != "packing"]
        file, dataset = ("-".join([scan, *(v.label for v in found)]) for found in (made, differs))
        self._add("scans", file, self._overridden("scans", scan, made))
        self._add("scans", dataset, self._overridden("scans", scan, differs))
        for step in ("simulate", "convert") if file != dataset else ():
            self._makers.setdefault(step, {})[dataset] = file
        return dataset, differs

    def _differing(self, entry: MethodEntry, base: str, values: tuple[Value, ...]) -> list[Value]:
        """Return the values that make a difference to a method, other than by its scans."""
        steps = METHOD_STEPS if entry.initial_object == "network" else ("refine",)
        own = [v for v in values if v.step in steps]
        chosen = [v for v in own if v.key == "train_on" and tuple(v.value) != entry.train_on]
        found = self._changes({"method": base}, [v for v in own if v.key != "train_on"])
        return [v for v in values if v in chosen or v in found]

    def _changes(self, owner: dict[str, str], values: list[Value]) -> list[Value]:
        """Return those of the values that their section does not have already."""
        changed = []
        for name in dict.fromkeys(v.section for v in values):
            section, own = self._config.section(name, **owner), [v for v in values if v.section == name]
            data = section.model_dump(mode="json", exclude_unset=True)
            for value in own:
                data = merge(data, value.overrides(data))
            after = validate(type(section), data, f"{self._where}: {name}.").model_dump(mode="json")
            before = section.model_dump(mode="json")
            changed += [v for v in own if _at(before, v.key) != _at(after, v.key)]
        return [v for v in values if v in changed]

    def _overridden(self, kind: str, name: str, values: list[Value]) -> dict:
        """Return an entry of the config as plain data, with the values laid over it."""
        entry = deepcopy(self._original[kind][name])
        for value in values:
            if value.key != "train_on":
                entry[value.section] = merge(entry.get(value.section, {}), value.overrides(entry.get(value.section)))
        return entry

    def _add_method(
        self, name: str, base: str, values: list[Value], train_on: Sequence[str], names: dict, finetune_from: str | None
    ) -> None:
        entry = self._overridden("methods", base, values) | ({"finetune_from": finetune_from} if finetune_from else {})
        already = self._data["methods"][name]["reconstruct"] if name in self._data["methods"] else []
        if train_on:
            entry["train_on"] = [names[scan] for scan in train_on]
        training = merge(self._original.get("training", {}), entry.get("training", {}))
        held_out = _at(training, "training.validation.scans") or []
        if any(names.get(scan, scan) != scan for scan in held_out):
            renamed = {"validation": {"scans": [names.get(scan, scan) for scan in held_out]}}
            entry["training"] = merge(entry.get("training", {}), renamed)
        entry["reconstruct"] = list(dict.fromkeys([*already, *(names[scan] for scan in entry["reconstruct"])]))
        self._add("methods", name, entry)

    def _add(self, kind: str, name: str, entry: dict) -> None:
        """Add an entry, or accept one that is already present with the same content."""
        present = self._data[kind].setdefault(name, entry)
        if not NAME.fullmatch(name) or present | {"reconstruct": None} != entry | {"reconstruct": None}:
            raise self._wrong(
                f"{name} would name two different {kind}, or cannot be a file name: name the values, {{name: value}}"
            )
        self._data[kind][name] = entry

    def _wrong(self, message: str) -> ConfigError:
        return ConfigError(f"config: {self._where}.{message}")


def _at(section: dict, key: str) -> Any:
    """Return the value at a dotted key, or None."""
    value: Any = section
    for part in key.split(".")[1:]:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _short(name: str) -> str:
    """Return a number in its shortest form, ``1e5`` or ``0.05``; a word as it is."""
    try:
        number = Decimal(name).normalize()
    except InvalidOperation:
        return name
    return f"{number:f}" if -4 < number.adjusted() < 4 else f"{number:e}".replace("e+", "e")
