"""Helpers that the rules share: names in the config, inputs that depend on it, settings and options."""

import json
import re
from dataclasses import asdict

from ptychoflow.orchestration import resources as estimates
from ptychoflow.config import HALVES, whole_scan
from ptychoflow.readers.source_files import source_files

SIMULATED = [name for name, scan in CONFIG.scans.items() if scan.simulation is not None]
MEASURED = [name for name, scan in CONFIG.scans.items() if scan.source is not None]
NETWORKS = [name for name, method in CONFIG.methods.items() if method.initial_object == "network"]
FUSED = [name for name in NETWORKS if CONFIG.writes_no_patches(name)]
GPUS = CONFIG.runtime.devices if CONFIG.runtime.accelerator == "gpu" else 0
RANKS = CONFIG.runtime.nodes * CONFIG.runtime.devices
# several nodes: one SLURM job whose command is started with srun, a process for each device
SPREAD = {"mpi": "srun", "nodes": CONFIG.runtime.nodes, "tasks": RANKS, "tasks_per_gpu": 0}
SPREAD = SPREAD if CONFIG.runtime.nodes > 1 else {}


def one_of(names):
    """Return the wildcard constraint that only these names meet."""
    return "|".join(names) if names else "(?!)"


wildcard_constraints:
    scan=rf"({one_of(CONFIG.scans)})(\.({one_of(HALVES)}))?",
    method=one_of(CONFIG.methods),
    sweep=one_of(CONFIG.combinations),


def settings(step):
    """Return the parameter function of a step: exactly the sections that it reads, as JSON."""

    def of(wildcards):
        return CONFIG.settings(step, scan=wildcards.get("scan"), method=wildcards.get("method"))

    return of


def memory(step):
    """Return the resource function of a step's memory, MB: from the sizes of its inputs, more with each attempt."""

    def of(wildcards, input, attempt):
        return estimates.memory_mb(step, input, attempt)

    return of


def time(step):
    """Return the resource function of a step's time, min: from the sizes of its inputs, more with each attempt."""

    def of(wildcards, input, attempt):
        return estimates.minutes(step, input, attempt)

    return of


def option(name):
    """Return the parameter function of an optional input, as words: ``--name PATH``, or none without the input."""

    def of(wildcards, input):
        paths = input.get(name) or []
        paths = [paths] if isinstance(paths, str) else paths
        return [f"--{name.replace('_', '-')}", *map(str, paths)] if paths else []

    return of


def half_option(wildcards):
    half = wildcards.scan.partition(".")[2]
    return ["--half", half] if half else []


def probe_source(wildcards):
    """Return the refined reconstruction that a scan's probe comes from, if any."""
    source = CONFIG.probe_source(wildcards.scan)
    return f"results/refined/{source}.h5" if source else []


def addresses(wildcards):
    """Return the files with an address, such as ``s3://bucket/scan.h5``, that the settings of a scan name."""
    return [name for name in CONFIG.files(wildcards.scan) if "://" in name]


def files_named(wildcards):
    """Return the files that a scan is made from, as inputs: first those with an address, from their storage.

    A measurement brings what belongs to it: the files of a folder, the other one of a pair, positions beside it.
    """
    source = CONFIG.scans[wildcards.scan].source
    names = [name for name in CONFIG.files(wildcards.scan) if "://" not in name]
    local = source_files(source, cached=False) if source is not None else filter(Path.is_file, map(Path, names))
    return [*map(storage, addresses(wildcards)), *map(str, local)]


def local_copies(wildcards, input):
    """Return words that say where the files with an address were put, for the step that reads them."""
    count = len(addresses(wildcards))
    return ["--local-copy", *map(str, input.files[:count])] if count else []


def measurement(wildcards, input):
    """Return the file that a measured scan is read from."""
    name = CONFIG.scans[wildcards.scan].source.file
    return str(input.files[0]) if "://" in name else name


def scan_file(wildcards):
    """Return the file of a scan, which its halves and scans that differ only in packing share."""
    return f"results/scans/{CONFIG.maker('simulate', whole_scan(wildcards.scan))}.cxi"


def training_datasets(wildcards):
    return [f"results/datasets/{scan}" for scan in CONFIG.methods[wildcards.method].train_on]


def finetuned_from(wildcards):
    """Return the network to fine-tune, if any."""
    method = CONFIG.methods[wildcards.method].finetune_from
    return f"results/networks/{CONFIG.maker('train', method)}.ckpt" if method else []


def network(wildcards):
    """Return the network of a method, which methods of a sweep may share."""
    return f"results/networks/{CONFIG.maker('train', wildcards.method)}.ckpt"


def predicted(wildcards):
    return f"results/patches/{CONFIG.maker('infer', wildcards.method)}/{wildcards.scan}"


def stitched(wildcards):
    """Return the network's reconstruction, which refinement starts from; nothing for a uniform initial object."""
    maker = CONFIG.maker("stitch", wildcards.method)
    return f"results/reconstructions/{maker}/{wildcards.scan}.h5" if wildcards.method in NETWORKS else []


def network_behind(wildcards):
    """Return the network of a reconstruction; nothing for a uniform initial object."""
    return network(wildcards) if wildcards.method in NETWORKS else []


def refined_halves(wildcards):
    """Return the refined reconstructions of even and of odd patterns, if `split_half` is set."""
    if not CONFIG.section("evaluation", method=wildcards.method).split_half:
        return []
    return [f"results/refined/{wildcards.method}/{wildcards.scan}.{half}.h5" for half in HALVES]


def stitched_halves(wildcards):
    """Return the network's reconstructions of even and of odd patterns, if `split_half` is set."""
    maker = CONFIG.maker("stitch", wildcards.method)
    halves = HALVES if refined_halves(wildcards) and wildcards.method in NETWORKS else []
    return [f"results/reconstructions/{maker}/{wildcards.scan}.{half}.h5" for half in halves]


def metrics_of_sweep(wildcards):
    """Return the metrics of each combination of a sweep."""
    combinations = CONFIG.combinations[wildcards.sweep]
    pairs = ((combination.method, scan) for combination in combinations for scan in combination.scans.values())
    return [f"results/metrics/{method}/{scan}.json" for method, scan in dict.fromkeys(pairs)]


def combinations(wildcards):
    """Return the values of each combination of a sweep, as JSON."""
    return json.dumps([asdict(combination) for combination in CONFIG.combinations[wildcards.sweep]])


def exports():
    """Yield every export in the config."""
    for method, scan in CONFIG.reconstructions():
        for form in CONFIG.methods[method].exports:
            yield f"results/exports/{method}/{scan}" + ("" if form == "directory" else f".{form}")


def last_log_lines(snakemake_logs):
    """Yield the last line in the log of each step that failed."""
    text = "".join(Path(path).read_text() for path in snakemake_logs)
    failed = re.findall(r"log: (\S+) \(check log", text)
    for path in map(Path, dict.fromkeys(failed)):
        lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
        yield f"{path} ends with: {lines[-1] if lines else 'nothing'}"
