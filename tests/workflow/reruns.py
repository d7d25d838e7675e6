"""Which rules a changed setting reruns: the page `docs/reference/reruns.md`, from READS and the graph of the rules.

python tests/workflow/reruns.py > docs/reference/reruns.md
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from ptychoflow.config import READS, Config, Section, Source

ROOT = Path(__file__).parents[2]
STEPS_OF: dict[str, list[str]] = {}
"""Steps that read a section: one, or those that a method runs instead of it."""
for step, sections in READS.items():
    for section in sections:
        STEPS_OF.setdefault(section, []).append(step)
SECTIONS: dict[str, type[Section]] = {
    name: Source if name == "source" else Config.model_fields[name].annotation for name in STEPS_OF
}
HEAD = """# What a change reruns

A changed setting reruns the step that reads it, for the scans and methods it holds for, and the steps after it, nothing
else. Settings of a scan or a method act as those at the top level, on that scan or method only. The same value in
another notation (`100000` for `1.0e+5`, a default written out, another order of keys, a comment) changes nothing.

This page is made from the code and the graph of the rules, and a test keeps it true:
`python tests/workflow/reruns.py > docs/reference/reruns.md`.

| setting | read by | then reruns |
|---|---|---|
"""
OTHERS = {
    "title": ("report", ()),
    "runtime": ("nothing", ()),
    "tracking": ("nothing", ()),
    "methods.*.train_on": ("train", ()),
    "methods.*.initial_object": ("refine", ("evaluate", "report")),
}
FOOT = """
- `evaluation.split_half` also makes the halves of each scan it holds for: `pack`, `infer`, `stitch` and `refine` of
  `SCAN.even` and `SCAN.odd`, where they are not there.
- With `inference.write_patches: false` or `network.input: object_estimate` one step, `reconstruct`, stands for `infer`
  and `stitch`: a setting of either predicts again.
- A scan in `methods.*.reconstruct`, or a combination of `sweeps`, that is new makes what is missing and the report;
  one that is taken away reruns the report. What it made stays in `results/` and is not on the page.
- A file that a setting names by its path (`source.file`, `simulation.probe.file` and the like) is an input: when it is
  newer, the scan is made again. So is what belongs to a measurement: positions and probe found beside it, the other one
  of a fold_slice pair, the data files of a master, every file of a folder. Only a measurement in the data cache is not
  watched: `source.sha256` is for that.
- Cores, threads, resources, profiles and environment variables rerun nothing.
- The code of the library reruns nothing. Every product says which version and commit made it; each run
  names the outdated products and the rules to give to `--forcerun`.
"""


def page() -> str:
    """The whole page."""
    after = followers()
    rows = []
    for section, key in keys():
        steps = STEPS_OF[section]
        reruns = [rule for rule in READS if rule not in steps and any(rule in after[step] for step in steps)]
        rows.append((f"`{key}`", " or ".join(f"`{step}`" for step in steps), _listed(reruns)))
    for key, (step, more) in OTHERS.items():
        reruns = _listed(more or after.get(step, ()))
        rows.append((f"`{key}`", f"`{step}`" if step in READS else step, reruns))
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows) + FOOT


def keys() -> Iterator[tuple[str, str]]:
    """Section and dotted name of every setting that a step reads."""
    for section, schema in SECTIONS.items():
        for path, _ in leaves(schema):
            yield section, ".".join((section, *path))


def leaves(schema: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and default of every setting of a section, also within sections of its own."""
    for name, field in schema.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from leaves(type(field.default), (*path, name))
        else:
            yield (*path, name), field.default


def followers() -> dict[str, list[str]]:
    """What follows from each rule, in the order of the steps, by the graph that Snakemake draws."""
    edges = edges_of_rules()
    return {step: [rule for rule in READS if rule in _reachable(step, edges)] for step in READS}


def _reachable(rule: str, edges: set[tuple[str, str]]) -> set[str]:
    found, waiting = set(), [rule]
    while waiting:
        here = waiting.pop()
        new = {after for before, after in edges if before == here} - found
        found |= new
        waiting += new
    return found


def edges_of_rules() -> set[tuple[str, str]]:
    """Pairs of rules, the second of which reads what the first makes, for a config that has everything."""
    config = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    config["scans"]["measured"] = {"source": {"file": "a.npz"}}
    config["methods"]["rpie"]["reconstruct"].append("measured")
    for name, keeps in (("with_patches", True), ("without_patches", False)):
        config["methods"][name] = config["methods"]["tiny"] | {"inference": {"write_patches": keeps}}
    config["sweeps"] = {"seeds": {"method": "tiny", "over": {"training.seed": [0, 1]}}}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
        command += ["--configfile", Path(folder) / "config.yaml", "--rulegraph"]
        drawn = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', drawn))
    return {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", drawn)}


def _listed(rules) -> str:
    return ", ".join(f"`{rule}`" for rule in rules) or "–"


if __name__ == "__main__":
    print(page(), end="")
