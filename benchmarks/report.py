"""How large a report over many reconstructions is, and how long it takes to build.

    python benchmarks/report.py results/metrics/pinn/star.json results/metrics/rpie/star.json --count 200

Repeats the given metrics, each time as another scan, until there are so many reconstructions; prints the size of the
page and the time of this machine.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from ptychoflow.commands.report import report


def repeat(metrics: list[Path], count: int, folder: Path) -> list[Path]:
    """Write so many files of metrics, their arrays linked to those there are; their paths."""
    made = []
    for number in range(count):
        source = metrics[number % len(metrics)]
        data = json.loads(source.read_text())
        data["scan"]["name"] += f"-{number // len(metrics):03d}"
        path = folder / "metrics" / data["method"] / f"{data['scan']['name']}.json"
        path.with_suffix("").mkdir(parents=True)
        path.write_text(json.dumps(data))
        (path.with_suffix("") / "arrays.npz").symlink_to(source.resolve().with_suffix("") / "arrays.npz")
        made.append(path)
    return made


def main() -> None:
    """Build one report and say what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", nargs="+", type=Path, help="files of metrics to repeat")
    parser.add_argument("--count", type=int, default=200, help="reconstructions in the report")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths = repeat(arguments.metrics, arguments.count, folder)
        began, processor = time.perf_counter(), time.process_time()
        report(folder / "report.html", paths, csv=folder / "metrics.csv")
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        size = (folder / "report.html").stat().st_size * 1e-6
        print(f"{len(paths)} reconstructions: {size:.1f} MB, {seconds:.1f} s, {processor:.1f} s of processor time")


if __name__ == "__main__":
    main()
