"""How fast networks train, and what share of that time they wait for data, each through `train` as users call it.

    python benchmarks/training.py [DATASET ...] [--groups 640] [--rounds 3] [--accelerator gpu] [--only raw]

Without a dataset it simulates one, 400 x 400 px of leaves under 1764 patterns of 64 px. The networks take turns, round
after round; of each the fastest round counts, which a busy machine disturbs least. Raw amplitudes come in groups of
four, as in PtychoPINN, back-projections in groups of the default size; patterns are counted alike. `of the first` is
the speed over that of the first network in this run. Prints a table and, with ``--json FILE``, writes its numbers.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path

from ptychoflow.commands.pack import pack
from ptychoflow.commands.simulate import simulate
from ptychoflow.commands.train import train
from ptychoflow.config import Network, Runtime, Simulation, Stage, Tracking, Training

RAW = {"input": "amplitude", "group_size": 4}
NETWORKS: dict[str, dict] = {
    "default": {},
    "default, one pass": {"cascades": 1},
    "raw amplitudes, the same U-Net": RAW,
    "raw amplitudes, Fourier operator": RAW | {"architecture": "fno"},
    "the usual CNN: raw, merged, two heads": RAW
    | {"architecture": "cnn", "base_channels": 64, "output": "patches", "head": "amplitude_phase"},
}
"""The last one is as large as PtychoPINN's and does as it does: amplitudes in, merged patches, two heads out."""


def measure(datasets: list[Path], network: Network, groups: int, weight: float, runtime: Runtime) -> dict:
    """The record of one short training."""
    training = Training(
        stages=(Stage(epochs=2, physics_weight=weight),), groups_per_epoch=groups // 2, validation=0, on_collapse="warn"
    )
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "models" / "network.ckpt"
        train(datasets, output, network, training, runtime, Tracking(uri=None))
        return json.loads(output.with_suffix(".json").read_text())


def simulated(folder: Path) -> Path:
    """A dataset of the default kind."""
    simulate(folder / "leaves.cxi", Simulation())
    pack(folder / "leaves.cxi", folder / "leaves")
    return folder / "leaves"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", type=Path)
    parser.add_argument("--groups", type=int, default=640, help="groups of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weight", type=float, default=1.0, help="of the physics loss; 0 trains on labels")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", default="", help="networks with this in their name")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    asked = parser.parse_args()
    logging.getLogger("ptychoflow").setLevel(logging.WARNING)
    runtime = Runtime(accelerator=asked.accelerator, threads=asked.threads)
    names = [name for name in NETWORKS if asked.only in name]
    best: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as scratch:
        datasets = asked.datasets or [simulated(Path(scratch))]
        for _ in range(asked.rounds):
            for name in names:
                record = measure(datasets, Network(**NETWORKS[name]), asked.groups, asked.weight, runtime)
                if name not in best or record["patterns_per_second"] > best[name]["patterns_per_second"]:
                    best[name] = record
    show(best)
    if asked.json:
        kept = ("patterns_per_second", "milliseconds_per_group", "data_wait_share", "parameters", "threads", "device")
        asked.json.write_text(
            json.dumps({name: {key: row[key] for key in kept} for name, row in best.items()}, indent=1)
        )


def show(best: dict[str, dict]) -> None:
    """The table, on standard output."""
    first = next(iter(best.values()))
    print(f"{first['device']}, {first['threads']} threads; patterns of {first['size_px']} px, 16 groups a step")
    print(f"{'network':40}{'group':>6}{'million':>9}{'patterns/s':>12}{'ms/group':>10}{'waits':>8}{'of the first':>14}")
    for name, row in best.items():
        group, million, speed = (
            row["config"]["network"]["group_size"],
            row["parameters"] / 1e6,
            row["patterns_per_second"],
        )
        print(
            f"{name:40}{group:6}{million:9.2f}{speed:12.0f}{row['milliseconds_per_group']:10.2f}"
            f"{100 * row['data_wait_share']:7.2f}%{speed / first['patterns_per_second']:13.2f}x"
        )


if __name__ == "__main__":
    main()
