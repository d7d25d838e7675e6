"""The command line: paths in, settings as JSON, paths out. Each verb is imported only when it is called."""

import argparse
import gc
import importlib
import json
import logging
import os
import signal
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .extras import missing_extra

BAD_INPUT, INTERRUPTED, CUT_OFF, TERMINATED = 2, 130, 141, 143
ABOUT = """Ptychography as a workflow. Each verb is one step: it reads files, makes one product, and says on stderr
what it did. A product appears whole or not at all; it replaces an earlier one of its kind, never another folder. The
workflow (`snakemake`) calls these verbs in order; run one by hand to try a setting."""
STEM = {"batch": "run_directory"}
"""Modules of ``commands`` that are not called as their command."""
SETTINGS = {
    "simulate": ("simulation",),
    "convert": ("source",),
    "inspect": ("source",),
    "pack": ("packing",),
    "train": ("network", "training"),
    "infer": ("inference",),
    "stitch": ("stitching",),
    "reconstruct": ("inference", "stitching"),
    "refine": ("refinement",),
    "evaluate": ("evaluation",),
    "batch": ("source", "packing", "inference", "stitching", "refinement"),
}
"""Sections of settings that verbs read, for their help."""


@dataclass(frozen=True)
class Verb:
    """One verb: what help says about it, and its arguments as ``add_argument`` takes them."""

    summary: str
    about: str
    example: str
    arguments: dict[str, dict]
    runs: bool = True
    """Whether it is a step of the workflow, which takes ``--config``."""


def _path(help: str, **more) -> dict:
    return {"type": Path, "help": help} | more


RUNTIME = {"--runtime": {"metavar": "JSON", "help": "devices and workers; never changes the result"}}
TRACKING = {"--tracking": {"metavar": "JSON", "help": "where MLflow keeps runs; never changes the result"}}
BENCHMARK = {"--benchmark": _path("where to say what the step took, as Snakemake does", metavar="OUT.tsv")}
PROBE = {"--probe": _path("a reconstruction whose refined probe to use", metavar="RECON.h5")}

VERBS: dict[str, Verb] = {
    "simulate": Verb(
        "make a scan from an object, a probe and a trajectory",
        "Reads nothing, or the probe of a reconstruction. Makes a CXI file with counts, positions, probe and truth.",
        'ptychoflow simulate star.cxi --config \'{"simulation": {"object": "siemens_star", "photons_per_pattern": 1e4}}\'',
        {"output": _path("the scan, .cxi", metavar="OUT.cxi"), **PROBE, **BENCHMARK},
    ),
    "convert": Verb(
        "read a measurement, downloading it where needed",
        "Reads another program's file (section `source`). Makes a CXI file. The folder in PTYCHOFLOW_DATA is looked in "
        "first and keeps what is downloaded.",
        "ptychoflow convert siemens.cxi --config source.yaml",
        {
            "output": _path("the scan, .cxi", metavar="OUT.cxi"),
            **PROBE,
            "--fetched": _path(
                "copies of the files that the source names by an address", nargs="+", default=[], metavar="FILE"
            ),
        },
    ),
    "inspect": Verb(
        "say what a file is, how to read it and how its scan lies on the detector",
        "Reads a measurement of any format. Says what it holds, what is missing and how to give it, and tries the ways "
        "the positions may lie. Makes, where asked, a folder with a config that is ready to run, the findings as JSON "
        "and a picture.",
        "ptychoflow inspect measurement.h5 --output inspections/measurement",
        {
            "file": {"metavar": "FILE", "help": "the measurement; a bare name is looked for in the data cache too"},
            "--output": _path("folder for config.yaml, inspection.json and inspection.png", metavar="OUTDIR"),
        },
    ),
    "pack": Verb(
        "turn a scan into a dataset that opens in no time",
        "Reads a CXI file in pieces. Makes a folder of plain arrays with a manifest, cropped where asked.",
        'ptychoflow pack star.cxi datasets/star --config \'{"packing": {"crop": 64}}\'',
        {
            "scan": _path("the scan", metavar="SCAN.cxi"),
            "output": _path("the dataset folder", metavar="OUTDIR"),
            "--half": {"choices": ["even", "odd"], "help": "keep every second pattern, for split-half measures"},
            **BENCHMARK,
        },
    ),
    "train": Verb(
        "train a network on datasets",
        "Reads dataset folders. Makes a checkpoint and, beside it, a JSON file with loss curves and timings.",
        'ptychoflow train datasets/leaves pinn.ckpt --config \'{"training": {"stages": [{"epochs": 3}]}}\'',
        {
            "datasets": _path("datasets to train on", nargs="+", metavar="DATASET"),
            "output": _path("the checkpoint", metavar="OUT.ckpt"),
            "--start": _path("a checkpoint to go on with, instead of a fresh network", metavar="MODEL.ckpt"),
            **RUNTIME,
            **TRACKING,
        },
    ),
    "infer": Verb(
        "predict object patches that hold every pattern",
        "Reads a checkpoint and a dataset. Makes a folder of patches, one part per process.",
        "ptychoflow infer pinn.ckpt datasets/star patches/star --runtime '{\"devices\": 2}'",
        {
            "model": _path("the checkpoint", metavar="MODEL.ckpt"),
            "dataset": _path("the scan to reconstruct", metavar="DATASET"),
            "output": _path("the patches", metavar="OUTDIR"),
            **RUNTIME,
        },
    ),
    "stitch": Verb(
        "put predicted patches together to one object",
        "Reads a dataset and its patches. Makes a reconstruction, a ptychodus product.",
        'ptychoflow stitch datasets/star patches/star star.h5 --config \'{"stitching": {"weighting": "uniform"}}\'',
        {
            "dataset": _path("the scan", metavar="DATASET"),
            "patches": _path("its patches", metavar="PATCHES"),
            "output": _path("the reconstruction, .h5", metavar="OUT.h5"),
            **RUNTIME,
        },
    ),
    "reconstruct": Verb(
        "predict and stitch in one go",
        "Reads a checkpoint and a dataset. Makes a reconstruction, a ptychodus product: that of infer and stitch, "
        "with no patches on disk. A network that corrects a fit (network.input: object_estimate) has no patches: it takes this "
        "verb.",
        "ptychoflow reconstruct pinn.ckpt datasets/star star.h5",
        {
            "model": _path("the checkpoint", metavar="MODEL.ckpt"),
            "dataset": _path("the scan to reconstruct", metavar="DATASET"),
            "output": _path("the reconstruction, .h5", metavar="OUT.h5"),
            **RUNTIME,
        },
    ),
    "refine": Verb(
        "fit an object to the counts, from a reconstruction or from nothing",
        "Reads a dataset and where to start. Makes a reconstruction, a ptychodus product. Without --start this is "
        "plain iterative ptychography from a flat object.",
        'ptychoflow refine datasets/star refined.h5 --start star.h5 --config \'{"refinement": {"epochs": 20}}\'',
        {
            "dataset": _path("the scan", metavar="DATASET"),
            "output": _path("the refined reconstruction, .h5", metavar="OUT.h5"),
            "--start": _path("the reconstruction to start from", metavar="RECON.h5"),
            **RUNTIME,
        },
    ),
    "evaluate": Verb(
        "measure how good reconstructions are",
        "Reads a dataset and its reconstructions. Makes a JSON file of measures and the pictures beside it.",
        "ptychoflow evaluate datasets/star star.json --refined refined.h5 --stitched star.h5",
        {
            "dataset": _path("the scan", metavar="DATASET"),
            "output": _path("the measures, .json", metavar="OUT.json"),
            "--refined": _path("the refined reconstruction", metavar="R.h5", required=True),
            "--stitched": _path("the stitched reconstruction", metavar="S.h5"),
            "--halves": _path("refined from even and from odd patterns", nargs=2, metavar=("E.h5", "O.h5")),
            "--stitched-halves": _path("the network's, from even and odd", nargs=2, metavar=("E.h5", "O.h5")),
        },
    ),
    "sweep": Verb(
        "draw what the settings of a sweep do to the measures",
        "Reads metrics of the methods of a sweep. Makes a table of mean and spread over seeds, and a figure of it.",
        'ptychoflow sweep dose.csv metrics/pinn*/star*.json --figure dose.png --combinations \'[{"base": "pinn", '
        '"method": "pinn-seed1", "scans": {"star": "star"}, "values": {"training.seed": "1"}}]\'',
        {
            "output": _path("the table", metavar="OUT.csv"),
            "metrics": _path("measures", nargs="+", metavar="METRICS.json"),
            "--figure": _path("the figure", required=True, metavar="OUT.png"),
            "--combinations": {
                "type": json.loads,
                "required": True,
                "metavar": "JSON",
                "help": "the method varied, what it is called, its scans and values, of each combination",
            },
        },
    ),
    "report": Verb(
        "put everything on one page",
        "Reads measures, training logs and the tables of sweeps. Makes one HTML page that needs no other file, "
        "and a table.",
        "ptychoflow report report.html metrics/*/*.json --networks networks/*.json --csv metrics.csv",
        {
            "output": _path("the page", metavar="OUT.html"),
            "metrics": _path("measures", nargs="+", metavar="METRICS.json"),
            "--networks": _path("records of training", nargs="*", default=[], metavar="M.json"),
            "--sweeps": _path("tables of sweeps", nargs="*", default=[], metavar="S.csv"),
            "--csv": _path("the table", required=True, metavar="OUT.csv"),
            "--title": {"default": "ptychoflow", "help": "heading of the page"},
        },
    ),
    "label": Verb(
        "take a reconstruction as the truth of a measured scan",
        "Reads a dataset and its reconstruction. Makes a dataset with the same counts and with the object, the probe "
        "and the positions that were found, which a network can be trained on as on a simulated one.",
        "ptychoflow label datasets/siemens refined/flat/siemens.h5 datasets/siemens_labelled",
        {
            "dataset": _path("the scan", metavar="DATASET"),
            "reconstruction": _path("what was made of it", metavar="RECON.h5"),
            "output": _path("the labelled dataset", metavar="OUTDIR"),
        },
        runs=False,
    ),
    "compare": Verb(
        "say what differs between two runs and what it did to the measures",
        "Reads two folders of results, reports or files of measures. Makes text: settings and data that differ, and "
        "each measure that got better or worse.",
        "ptychoflow compare results last_week/report.html",
        {
            "first": _path("results, report or measures", metavar="A"),
            "second": _path("what to compare with it", metavar="B"),
        },
        runs=False,
    ),
    "export": Verb(
        "write a reconstruction or a scan as other programs open it",
        "Reads a reconstruction, a product of ptychodus, a dataset or a scan. Makes what the name of the output says: "
        "a folder (no suffix) is ptychodus's standard directory; .h5, .npz and .cxi are its products; .tif is "
        "amplitude and phase; .ptychopinn.npz is PtychoPINN's training archive. `convert` goes the other way.",
        "ptychoflow export refined.h5 for-ptychodus --scan datasets/star --model pinn.ckpt",
        {
            "source": _path("the reconstruction, product, dataset or scan", metavar="SOURCE"),
            "output": _path("the folder or file", metavar="OUT"),
            "--scan": _path("the dataset or scan whose patterns go with a reconstruction", metavar="DATASET"),
            "--model": _path("a checkpoint for the standard directory, so that ptychodus reconstructs with it"),
        },
    ),
    "batch": Verb(
        "reconstruct a directory into a directory",
        "Reads ptychodus's standard directory, or any measurement. Makes OUT/product.h5: converts, packs, predicts "
        "and stitches where there is a model (model.ckpt in IN, or --model), refines. SIGTERM ends it after the epoch "
        "under way with a product that says it is partial. Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped.",
        "ptychoflow batch standard-directory reconstructed --events > events.jsonl",
        {
            "input": _path("the standard directory or measurement", metavar="IN"),
            "output": _path("the directory to write product.h5 to", metavar="OUT"),
            "--model": _path("the checkpoint to start with", metavar="MODEL.ckpt"),
            "--dry-run": {"action": "store_true", "help": "only say what would be done"},
            "--events": {"action": "store_true", "help": "say on stdout what happens, a JSON object a line"},
            **RUNTIME,
        },
    ),
    "ptychodus": Verb(
        "run ptychodus with our engine as its PtychoPINN-Torch backend",
        "Reads what ptychodus 1.7.0 is told to, after `--`; without anything it opens its window. Makes what ptychodus "
        "makes, and ends with its exit code.",
        "ptychoflow ptychodus -- -b train -i standard-directory -o trained",
        {"arguments": {"nargs": "*", "metavar": "ARGS", "help": "arguments of ptychodus"}},
        runs=False,
    ),
    "verify": Verb(
        "check that a dataset is what was packed",
        "Reads a dataset folder and compares each array with its checksum. Makes nothing.",
        "ptychoflow verify datasets/star",
        {"folder": _path("the dataset", metavar="FOLDER")},
        runs=False,
    ),
    "settings": Verb(
        "describe every setting",
        "Reads nothing. Makes a Markdown page, or the JSON schema that editors complete and check a config with.",
        "ptychoflow settings settings.md",
        {"output": _path("the description, .md or .json", metavar="OUT")},
        runs=False,
    ),
    "gallery": Verb(
        "draw everything that can be simulated",
        "Reads nothing. Makes a folder: a Markdown page with a picture and the recipe of each object, probe, path and "
        "detector.",
        "ptychoflow gallery what-can-be-simulated",
        {"output": _path("the folder", metavar="OUTDIR")},
        runs=False,
    ),
    "config": Verb(
        "answer questions about a config",
        "Reads a config, or a file of PtychoPINN. Makes text: `show` every setting with defaults filled in, `check` "
        "whether the config is right, `explain` what a setting means, `migrate` a JSON profile, TensorFlow config or "
        "legacy dictionary of PtychoPINN to a config that runs here, `names` what became of every setting of theirs.",
        "ptychoflow config explain training.learning_rate",
        {
            "question": {"choices": ["show", "check", "explain", "migrate", "names"], "help": "what to answer"},
            "subject": {"nargs": "?", "metavar": "FILE|KEY", "help": "the file, or the setting to explain"},
            "--scan": {"help": "show: with what this scan overrides"},
            "--method": {"help": "show: with what this method overrides"},
            "--leave-out": {
                "nargs": "+",
                "default": [],
                "metavar": "FIELD",
                "help": "migrate: fields to drop on purpose",
            },
        },
        runs=False,
    ),
}


def main(words: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 2 for bad input, 130 when interrupted, 143 when terminated."""
    arguments = vars(_parser().parse_args(words))
    verb, show_traceback = arguments.pop("verb"), arguments.pop("traceback")
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    # of several processes of one step the first speaks for all
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    logging.getLogger("ptychoflow").setLevel(logging.INFO if first else logging.WARNING)
    # a step told to stop leaves no half product: the exception lets it tidy up
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        return _run(verb, arguments) or 0
    except KeyboardInterrupt:
        print(f"ptychoflow {verb}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # who read what is printed has seen enough; nothing is left to say on the way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CUT_OFF
    except (ValueError, OSError) as error:
        if show_traceback:
            raise
        print(f"ptychoflow {verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        remedy = missing_extra(error)
        if show_traceback or remedy is None:
            raise
        print(f"ptychoflow {verb}: {remedy}", file=sys.stderr)
        return BAD_INPUT


def _run(verb: str, arguments: dict) -> int | None:
    """Run a verb; an exit code from those that have one of their own."""
    if verb == "ptychodus":
        return _module("plugins.ptychodus.launcher").launch(**arguments)
    if verb == "verify":
        _verify(arguments["folder"])
    elif verb == "settings":
        _module("cli.settings_reference").settings(arguments["output"])
    elif verb == "gallery":
        _module("commands.gallery").gallery(arguments["output"])
    elif verb == "label":
        _module("commands.label").label(**arguments)
    elif verb == "compare":
        print(_module("commands.compare").compare(**arguments))
    elif verb == "config":
        print(_module("cli.config_command").answer(**arguments))
    elif verb == "inspect":
        settings = _settings(arguments["config"])
        source = settings.get("source", {}) | {"file": arguments["file"]}
        sections = _module("config").step_sections("convert", settings | {"source": source})
        print(_module("commands.inspect_file").inspect(**sections, output=arguments["output"]))
    else:
        benchmark, arguments = arguments.pop("benchmark", None), _with_settings(verb, arguments)
        _take_devices(arguments)
        code = getattr(_module(f"commands.{STEM.get(verb, verb)}"), verb)(**arguments)
        if benchmark is not None:
            _module("orchestration.benchmark").write_benchmark(benchmark)
        return code


def _module(name: str) -> ModuleType:
    """A module of this library.

    No garbage collection while it is imported, and none of what it brought after that: to go through a hundred
    thousand objects that stay anyway again and again takes a third of the time a training needs to begin.
    """
    gc.disable()
    try:
        return importlib.import_module(f"ptychoflow.{name}")
    finally:
        gc.freeze()
        gc.enable()


def _take_devices(arguments: dict) -> None:
    """GPUs of this process's own, before anything looks for them."""
    runtime = arguments.get("runtime")
    if runtime is not None and runtime.accelerator == "gpu":
        _module("runtime.gpu").take_devices(runtime.devices)


def _with_settings(verb: str, arguments: dict) -> dict:
    """The arguments with every settings text in its place as a section."""
    from ..config import Runtime, Tracking, step_sections, validate

    said = _settings(arguments.pop("config"))
    if verb == "batch":
        said["source"] = said.get("source", {}) | {"file": str(arguments["input"])}
    sections = step_sections(verb, said)
    for name, schema in {"runtime": Runtime, "tracking": Tracking}.items():
        if name in arguments:
            sections[name] = validate(schema, _settings(arguments.pop(name)), f"{name}.")
    return arguments | sections


def _settings(text: str | None) -> dict:
    """Settings from JSON text, or from a JSON or YAML file.

    Raises:
        FileNotFoundError: if it is neither JSON text nor a file.
        ValueError: if it does not hold sections.
    """
    import yaml

    if not text:
        return {}
    if not text.lstrip().startswith("{"):
        if not Path(text).is_file():
            raise FileNotFoundError(f"--config is neither JSON text nor a file: there is no {text}")
        text, where = Path(text).read_text(), text
    else:
        where = "--config"
    try:
        data = yaml.safe_load(text) if where != "--config" else json.loads(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(f"{where} is neither JSON nor YAML ({error})") from None
    if not isinstance(data, dict):
        raise ValueError(
            f"{where} holds {type(data).__name__}, expected sections such as {{'packing': {{'crop': 64}}}}"
        )
    return data


def _verify(folder: Path) -> None:
    from ..io.dataset import verify_dataset

    for name, checksum in verify_dataset(folder).items():
        logging.getLogger(__name__).info("%s/%s.npy is whole, XXH3-64 %s", folder, name, checksum)


def _about_settings(sections: tuple[str, ...]) -> str:
    if not sections:
        return "this step reads no settings"
    shape = ", ".join(f'"{section}": {{...}}' for section in sections)
    return (
        f"{{{shape}}} as JSON text or a path to a JSON or YAML file; defaults for what it does not name. What there "
        f"is: ptychoflow config explain {sections[0]}"
    )


def _parser() -> argparse.ArgumentParser:
    shape = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser("ptychoflow", description=ABOUT, **shape)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs")
    for name, verb in VERBS.items():
        sub = verbs.add_parser(
            name,
            help=verb.summary,
            description=textwrap.fill(verb.about, 100),
            epilog=f"example:\n  {verb.example}",
            **shape,
        )
        for argument, how in verb.arguments.items():
            sub.add_argument(argument, **how)
        if verb.runs:
            sub.add_argument("--config", metavar="SETTINGS", help=_about_settings(SETTINGS.get(name, ())))
        sub.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    return parser
