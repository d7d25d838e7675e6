"""What the rules share: the names in the config, the inputs that depend on it, settings and options."""

import json
import re
from dataclasses import asdict

from ptychoflow.orchestration import resources as estimates
from ptychoflow.config import HALVES, whole_scan

SIMULATED = [name for name, scan in CONFIG.scans.items() if scan.simulation is not None]
MEASURED = [name for name, scan in CONFIG.scans.items() if scan.source is not None]
NETWORKS = [name for name, method in CONFIG.methods.items() if method.initial_object == "network"]
FUSED = [name for name in NETWORKS if CONFIG.patchless(name)]
GPUS = CONFIG.runtime.devices if CONFIG.runtime.accelerator == "gpu" else 0
RANKS = CONFIG.runtime.nodes * CONFIG.runtime.devices
# several nodes: one SLURM job whose command is started with srun, a process for each device
SPREAD = {"mpi": "srun", "nodes": CONFIG.runtime.nodes, "tasks": RANKS, "tasks_per_gpu": 0}
SPREAD = SPREAD if CONFIG.runtime.nodes > 1 else {}


def one_of(names):
    """The wildcard constraint that only these names meet."""
    return "|".join(names) if names else "(?!)"


wildcard_constraints:
    scan=rf"({one_of(CONFIG.scans)})(\.({one_of(HALVES)}))?",
    method=one_of(CONFIG.methods),
    sweep=one_of(CONFIG.combinations),


def settings(step):
    """The parameter function of a step: exactly the sections it reads, as JSON."""

    def of(wildcards):
        return CONFIG.settings(step, scan=wildcards.get("scan"), method=wildcards.get("method"))

    return of


def memory(step):
    """The resource function of a step's memory, MB: from the sizes of its inputs, more with each attempt."""

    def of(wildcards, input, attempt):
        return estimates.memory_mb(step, input, attempt)

    return of


def time(step):
    """The resource function of a step's time, minutes: from the sizes of its inputs, more with each attempt."""

    def of(wildcards, input, attempt):
        return estimates.minutes(step, input, attempt)

    return of


def option(name):
    """The parameter function of an optional input: ``--name PATH``, or nothing where there is none."""

    def of(wildcards, input):
        return f"--{name.replace('_', '-')} {input.get(name)}" if input.get(name) else ""

    return of


def half_option(wildcards):
    half = wildcards.scan.partition(".")[2]
    return f"--half {half}" if half else ""


def probe_source(wildcards):
    """The refined reconstruction that a scan's probe comes from, if any."""
    source = CONFIG.probe_source(wildcards.scan)
    return f"results/refined/{source}.h5" if source else []


def files_named(wildcards):
    """Files that the settings of a scan name: newer ones make it again. Those with an address come from their store."""
    names = CONFIG.files(wildcards.scan)
    return [storage(name) if "://" in name else name for name in names if "://" in name or Path(name).is_file()]


def local_copies(wildcards, input):
    """Where the files with an address were put, for the step that reads them."""
    return f"--local-copy {input.files}" if any("://" in name for name in CONFIG.files(wildcards.scan)) else ""


def measurement(wildcards, input):
    """The file that a measured scan is read from."""
    name = CONFIG.scans[wildcards.scan].source.file
    return input.files[0] if "://" in name else name


def scan_file(wildcards):
    """The file of a scan; its halves share it, and what differs from it in packing only."""
    return f"results/scans/{CONFIG.maker('simulate', whole_scan(wildcards.scan))}.cxi"


def training_datasets(wildcards):
    return [f"results/datasets/{scan}" for scan in CONFIG.methods[wildcards.method].train_on]


def finetuned_from(wildcards):
    """The network that training continues from, if any."""
    method = CONFIG.methods[wildcards.method].finetune_from
    return f"results/networks/{CONFIG.maker('train', method)}.ckpt" if method else []


def network(wildcards):
    """The network of a method, which it may share with others of a sweep."""
    return f"results/networks/{CONFIG.maker('train', wildcards.method)}.ckpt"


def predicted(wildcards):
    return f"results/patches/{CONFIG.maker('infer', wildcards.method)}/{wildcards.scan}"


def stitched(wildcards):
    """What the network made, which refinement starts from; nothing for the baseline, which starts from a flat object."""
    maker = CONFIG.maker("stitch", wildcards.method)
    return f"results/reconstructions/{maker}/{wildcards.scan}.h5" if wildcards.method in NETWORKS else []


def network_behind(wildcards):
    """The network behind a reconstruction; none behind the baseline."""
    return network(wildcards) if wildcards.method in NETWORKS else []


def refined_halves(wildcards):
    """Reconstructions of even and of odd patterns, where the config asks to compare them."""
    if not CONFIG.section("evaluation", method=wildcards.method).split_half:
        return []
    return [f"results/refined/{wildcards.method}/{wildcards.scan}.{half}.h5" for half in HALVES]


def stitched_halves(wildcards):
    """What the network made of even and of odd patterns, where the config asks to compare them."""
    maker = CONFIG.maker("stitch", wildcards.method)
    halves = HALVES if refined_halves(wildcards) and wildcards.method in NETWORKS else []
    return [f"results/reconstructions/{maker}/{wildcards.scan}.{half}.h5" for half in halves]


def metrics_of_sweep(wildcards):
    """Return the metrics files of each combination of a sweep."""
    found = ((each.method, scan) for each in CONFIG.combinations[wildcards.sweep] for scan in each.scans.values())
    return [f"results/metrics/{method}/{scan}.json" for method, scan in dict.fromkeys(found)]


def combinations(wildcards):
    """The values behind each combination of a sweep, as JSON."""
    return json.dumps([asdict(each) for each in CONFIG.combinations[wildcards.sweep]])


def exports():
    """Every export the config asks for."""
    for method, scan in CONFIG.reconstructions():
        for form in CONFIG.methods[method].exports:
            yield f"results/exports/{method}/{scan}" + ("" if form == "directory" else f".{form}")


def last_words(snakemake_logs):
    """The last line in the log of each step that failed."""
    said = "".join(Path(path).read_text() for path in snakemake_logs)
    failed = re.findall(r"log: (\S+) \(check log", said)
    for path in map(Path, dict.fromkeys(failed)):
        lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
        yield f"{path} ends with: {lines[-1] if lines else 'nothing'}"
