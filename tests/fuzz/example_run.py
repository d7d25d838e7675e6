"""One small run with every kind of product; the fuzz damages one file of a copy and gives it to a command."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import lightning
import numpy as np

from ptychoflow.commands.evaluate import evaluate
from ptychoflow.commands.export import export
from ptychoflow.commands.infer import infer
from ptychoflow.commands.label import label
from ptychoflow.commands.reconstruct import reconstruct
from ptychoflow.commands.refine import refine
from ptychoflow.commands.report import report
from ptychoflow.commands.sweep import sweep
from ptychoflow.commands.train import train
from ptychoflow.config import Evaluation, Inference, Network, Refinement, Runtime, Tracking, Training
from ptychoflow.io.dataset import write_dataset
from ptychoflow.io.scan_cxi import write_scan
from ptychoflow.models.checkpoint import read_model
from ptychoflow.models.model_folder import write_model_folder
from ptychoflow.refinement import resume

from ..products import make_scan
from ..readers import golden

CPU = Runtime(accelerator="cpu")
OFF = Tracking(uri=None)
NETWORK = {"group_size": 2, "base_channels": 8, "depth": 1, "physics_iterations": 2, "cascades": 1}
TRAINING = {"stages": [{"epochs": 2}], "batch_size": 8, "groups_per_epoch": 16, "checkpoint": "best"}
REFINEMENT = {"epochs": 4, "probe_start_epoch": 2, "position_start_epoch": 2, "intensity_start_epoch": 2}
REFINEMENT |= {"uncertainty": True}
COMBINATIONS = [{"base": "net", "method": "net", "scans": {"star": "star"}, "values": {"refinement.epochs": "4"}}]
SETTINGS = json.dumps({"network": NETWORK, "training": TRAINING})
WITHOUT_TRACKING = ["--runtime", '{"accelerator": "cpu"}']


@dataclass(frozen=True)
class Kind:
    """A kind of file from outside.

    Attributes:
        files: patterns of the files to damage, relative to the run.
        commands: command lines that read them, relative to the run; their outputs lie in ``out/``.
        keep: parts of the run that these commands read.
        settings: for a measurement of another program, what ``source`` must say.
    """

    files: tuple[str, ...]
    commands: tuple[list[str], ...]
    keep: tuple[str, ...] = ()
    settings: dict = field(default_factory=dict)


SCAN, DATASET, MODEL = "scans/star.cxi", "datasets/star", "networks/net.ckpt"
REFINED, STITCHED, METRICS = "refined/net/star.h5", "reconstructions/net/star.h5", "metrics/net/star.json"
REFINE = ["refine", DATASET, "refined/net/star.h5", *WITHOUT_TRACKING, "--config"]
REFINE += [json.dumps({"refinement": REFINEMENT})]
TRAIN = ["train", DATASET, MODEL, "--config", SETTINGS, *WITHOUT_TRACKING, "--tracking", '{"uri": null}']
EVALUATE = ["evaluate", DATASET, "out/star.json", "--refined", REFINED, "--stitched", STITCHED]
REPORT = ["report", "out/report.html", METRICS, "--csv", "out/metrics.csv", "--networks", "networks/net.json"]
ONE_EPOCH = ["--set", "refinement.epochs=1", *WITHOUT_TRACKING]
PROBE_OF_16 = 'simulation.probe={"name": "gaussian", "diameter_px": 8, "defocus": 0.1}'
PROBE = ["simulate", "out/new.cxi", "--set", "simulation.object=dead_leaves", "--set", "simulation.size=16", "--set"]
PROBE += ['simulation.probe={"name": "reconstruction"}', "--probe"]

KINDS: dict[str, Kind] = {
    "scan": Kind(
        (SCAN,),
        (
            ["pack", SCAN, "out/dataset"],
            ["pack", SCAN, "out/dataset", "--set", "packing.centre=auto", "--set", "packing.invalid_counts=drop"],
            ["convert", "out/again.cxi", "--set", f"source.file={SCAN}"],
            ["export", SCAN, "out/directory"],
            ["export", SCAN, "out/scan.ptychopinn.npz"],
        ),
        ("scans",),
    ),
    "dataset": Kind(
        (f"{DATASET}/*.npy", f"{DATASET}/counts.npy"),
        (
            ["dataset", "verify", DATASET],
            ["refine", DATASET, "out/refined.h5", *ONE_EPOCH],
            ["export", DATASET, "out/directory"],
            EVALUATE,
        ),
        ("datasets", "refined", "reconstructions"),
    ),
    "manifest": Kind(
        (f"{DATASET}/manifest.json",),
        (
            ["dataset", "verify", DATASET],
            ["refine", DATASET, "out/refined.h5", *ONE_EPOCH],
            EVALUATE,
            ["train", DATASET, "out/net.ckpt", *TRAIN[3:]],
        ),
        ("datasets", "refined", "reconstructions"),
    ),
    "checkpoint": Kind(
        (MODEL,),
        (
            ["infer", MODEL, DATASET, "out/patches", *WITHOUT_TRACKING],
            ["reconstruct", MODEL, DATASET, "out/star.h5", *WITHOUT_TRACKING],
            ["train", DATASET, "out/net.ckpt", "--start", MODEL, *TRAIN[3:]],
        ),
        ("datasets", "networks"),
    ),
    "interrupted_training": Kind(
        ("checkpoints/net/*/latest.ckpt", "checkpoints/net/*/best.ckpt"), (TRAIN,), ("datasets", "checkpoints")
    ),
    "patches": Kind(
        ("patches/net/star/*.npy", "patches/net/star/*.json"),
        (["stitch", DATASET, "patches/net/star", "out/star.h5"],),
        ("datasets", "patches"),
    ),
    "reconstruction": Kind(
        (STITCHED,),
        (
            EVALUATE,
            ["refine", DATASET, "out/refined.h5", "--start", STITCHED, *ONE_EPOCH],
            ["dataset", "label", DATASET, STITCHED, "out/labelled"],
            ["export", STITCHED, "out/star.npz"],
            ["export", STITCHED, "out/directory", "--scan", DATASET],
        ),
        ("datasets", "refined", "reconstructions"),
    ),
    "refined": Kind(
        (REFINED,),
        (
            EVALUATE,
            ["convert", "out/again.cxi", "--set", f"source.file={SCAN}", "--probe", REFINED],
            [*PROBE, REFINED],
            ["export", REFINED, "out/star.tif"],
        ),
        ("scans", "datasets", "refined", "reconstructions"),
    ),
    "interrupted_refinement": Kind(("refined/net/.star.h5.resume",), (REFINE,), ("datasets", "refined")),
    "metrics": Kind(
        (METRICS,),
        (
            REPORT,
            ["compare", METRICS, "other/metrics/net/star.json"],
            [
                "sweep",
                "out/sweep.csv",
                METRICS,
                "--figure",
                "out/sweep.png",
                "--combinations",
                json.dumps(COMBINATIONS),
            ],
        ),
        ("metrics", "networks", "other"),
    ),
    "figure_arrays": Kind(("metrics/net/star/arrays.npz",), (REPORT,), ("metrics", "networks")),
    "training_log": Kind(("networks/net.json",), (REPORT, ["compare", ".", "other"]), ("metrics", "networks", "other")),
    "sweep": Kind(("sweeps/dose.csv",), ([*REPORT, "--sweeps", "sweeps/dose.csv"],), ("metrics", "networks", "sweeps")),
    "page": Kind(("report.html",), (["compare", "report.html", "other"],), ("report.html", "other")),
    "benchmarks": Kind(("benchmarks/refine/net/star.tsv",), (REPORT,), ("metrics", "networks", "benchmarks")),
    "labels": Kind(
        ("labelled/*.npy", "labelled/manifest.json"),
        (["dataset", "verify", "labelled"], ["train", "labelled", "out/net.ckpt", *TRAIN[3:]]),
        ("labelled",),
    ),
    "product": Kind(
        ("product/star.h5", "product/star.npz", "product/star.cxi"),
        tuple(["export", f"product/star.{suffix}", "out/star.tif"] for suffix in ("h5", "npz", "cxi")),
        ("product",),
    ),
    "simulation_files": Kind(
        ("inputs/probe.npy", "inputs/probe.npz", "inputs/positions.npy", "inputs/positions.txt"),
        tuple(
            ["simulate", "out/new.cxi", "--set", "simulation.size=16", "--set", PROBE_OF_16, "--set", setting]
            for setting in (
                'simulation.probe={"name": "file", "file": "inputs/probe.npy"}',
                'simulation.probe={"name": "file", "file": "inputs/probe.npz"}',
                'simulation.trajectory={"name": "file", "file": "inputs/positions.npy"}',
                'simulation.trajectory={"name": "file", "file": "inputs/positions.txt"}',
            )
        ),
        ("inputs",),
    ),
    "model_folder": Kind(
        ("model/weights.pt", "model/config.yaml", "model/checksums.json"),
        (["READ", "model_folder", "model"],),
        ("model",),
    ),
} | {
    f"foreign_{name}": Kind(
        (f"foreign/{name}/**/*",),
        (["convert", "out/new.cxi", "--config"], ["inspect"]),
        (f"foreign/{name}",),
        GOLDEN_SETTINGS,
    )
    for name, (_, _, GOLDEN_SETTINGS) in golden.GOLDEN.items()
}
"""Every kind by name."""


class _Copy(lightning.Callback):
    """Copies the state of a training when its second epoch begins: that of a training interrupted then."""

    def __init__(self, folder: Path, to: Path) -> None:
        self.folder, self.to = folder, to

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        if trainer.current_epoch == 1:
            shutil.copytree(self.folder, self.to)


def make_run(root: Path) -> None:
    """Make one product of every kind in ``root``."""
    scan = make_scan()
    write_scan(root / SCAN, scan)
    write_dataset(root / DATASET, scan)
    _train(root)
    infer(root / MODEL, root / DATASET, root / "patches/net/star", Inference(), CPU)
    reconstruct(root / MODEL, root / DATASET, root / STITCHED, Inference(), runtime=CPU)
    _refine(root)
    evaluate(root / DATASET, root / METRICS, refined=root / REFINED, stitched=root / STITCHED, evaluation=Evaluation())
    shutil.copytree(root / "metrics", root / "other/metrics")
    (root / "sweeps").mkdir()
    sweep(root / "sweeps/dose.csv", [root / METRICS], figure=root / "sweeps/dose.png", combinations=COMBINATIONS)
    logs = [root / "networks/net.json"]
    report(root / "report.html", [root / METRICS], csv=root / "metrics.csv", networks=logs)
    benchmark = root / "benchmarks/refine/net/star.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\th:m:s\tmax_rss\tcpu_time\n1.5\t0:00:01\t300.0\t1.4\n")
    label(root / DATASET, root / REFINED, root / "labelled")
    (root / "product").mkdir()
    for suffix in ("h5", "npz", "cxi"):
        export(root / REFINED, root / f"product/star.{suffix}")
    (root / "inputs").mkdir()
    np.save(root / "inputs/probe.npy", scan.probe)
    np.savez_compressed(root / "inputs/probe.npz", probe=scan.probe)
    np.save(root / "inputs/positions.npy", scan.positions + 40)
    np.savetxt(root / "inputs/positions.txt", scan.positions + 40)
    write_model_folder(root / "model", read_model(root / MODEL))
    for name, (_, write, _) in golden.GOLDEN.items():
        place = root / "foreign" / name
        place.mkdir(parents=True)
        (place / "NAME").write_text(write(place, golden.make_scan()).name)


def _train(root: Path) -> None:
    settings = Network(**NETWORK), Training(**TRAINING)
    state = root / "state"
    copy = _Copy(root / "checkpoints/net", state)
    train([root / DATASET], root / MODEL, *settings, CPU, OFF, callbacks=[copy])
    shutil.rmtree(root / "checkpoints")
    state.rename(root / "moved")
    (root / "checkpoints").mkdir()
    (root / "moved").rename(root / "checkpoints/net")


def _refine(root: Path) -> None:
    state = root / "refined/net/.star.h5.resume"

    def keep(row: dict[str, float]) -> bool:
        if row["epoch"] == 3 and state.is_file():
            shutil.copy(state, root / "kept")
        return True

    before, resume.EVERY_S = resume.EVERY_S, 0
    refine(root / DATASET, root / REFINED, Refinement(**REFINEMENT), None, CPU, keep)
    resume.EVERY_S = before
    (root / "kept").rename(state)


def command_of(kind: Kind, run: Path, number: int) -> list[str]:
    """Return one of the commands of a kind; those on measurements name the file and what ``source`` must say."""
    words = kind.commands[number % len(kind.commands)]
    if not kind.keep[0].startswith("foreign"):
        return words
    folder = Path(kind.keep[0])
    measurement = str(folder / (run / folder / "NAME").read_text())
    if words[0] == "inspect":
        options = [f"--set=source.{key}={json.dumps(value)}" for key, value in kind.settings.items()]
        return ["inspect", measurement, "--output", "out/inspection", *options]
    return [*words, json.dumps({"source": {"file": measurement} | kind.settings})]


READ: dict[str, Callable[[Path], object]] = {}
"""Readers without a command, by the name after ``READ``."""
