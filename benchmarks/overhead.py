"""What the workflow costs beside the work: a rerun that has nothing to do, and what a job spends before it begins.

    python benchmarks/overhead.py [--reconstructions 200]

``no_op`` is a run whose products are all there (empty stand-ins that Snakemake believes in), targets 10 s for 200
reconstructions. ``jobs`` is what each step spends on imports, by starting it on inputs that are not there, and
``snakemake`` what Snakemake spends on each job, by letting it touch the stand-ins; target 3 s together. Each number is
the least of several tries. ``cpu`` counts processor time, which a busy machine disturbs less. Prints JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
STEPS = {
    "simulate": ["simulate", "out.cxi", "--probe", "none.h5"],
    "pack": ["pack", "none.cxi", "out"],
    "train": ["train", "none", "out.ckpt"],
    "infer": ["infer", "none.ckpt", "none", "out"],
    "stitch": ["stitch", "none", "none", "out.h5"],
    "refine": ["refine", "none", "out.h5"],
    "evaluate": ["evaluate", "none", "out.json", "--refined", "none.h5"],
    "report": ["report", "out.html", "none.json", "--csv", "out.csv"],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reconstructions", type=int, default=200)
    parser.add_argument("--tries", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = _stand_ins(folder, arguments.reconstructions)
        touched = _timed(_snakemake(folder, "--touch", "--forceall"))
        no_op = [_timed(_snakemake(folder)) for _ in range(arguments.tries)]
        steps = {step: _imports(words, arguments.tries) for step, words in STEPS.items()}
    least = {key: min(each[key] for each in no_op) for key in no_op[0]}
    each = {key: round((touched[key] - least[key]) / jobs, 4) for key in least}
    found = {"reconstructions": arguments.reconstructions, "jobs_in_all": jobs, "no_op": least}
    print(json.dumps(found | {"snakemake_per_job": each, "jobs": steps, "load": os.getloadavg()[0]}, indent=1))


def _stand_ins(folder: Path, reconstructions: int) -> int:
    """A config of that many reconstructions and an empty file for every product; how many jobs make them."""
    scans = {f"scan{n}": {"simulation": {"seed": n}} for n in range(max(1, reconstructions // 10))}
    method = {"train_on": ["scan0"], "reconstruct": list(scans)}
    methods = {f"method{n}": method | {"training": {"seed": n}} for n in range(reconstructions // len(scans))}
    (folder / "config.yaml").write_text(yaml.safe_dump({"scans": scans, "methods": methods}))
    summary = subprocess.run(_snakemake(folder, "--summary"), capture_output=True, text=True, cwd=folder, check=True)
    lines = [line.split("\t") for line in summary.stdout.splitlines() if line.startswith("results/")]
    for name, *_ in lines:
        path = folder / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
    return len({(rule, str(Path(name).with_suffix(""))) for name, _, rule, *_ in lines})


def _snakemake(folder: Path, *words: str) -> list:
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    return [*command, "--configfile", folder / "config.yaml", "--cores", "2", "--quiet", "all", *words]


def _imports(words: list[str], tries: int) -> dict[str, float]:
    each = [_timed([sys.executable, "-m", "ptychoflow", *words], fails=True) for _ in range(tries)]
    return {key: min(one[key] for one in each) for key in each[0]}


def _timed(command: list, fails: bool = False) -> dict[str, float]:
    """Seconds by the clock and of the processor."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if (done.returncode != 0) != fails:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-500:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": round(wall, 2), "cpu": round(cpu, 2)}


if __name__ == "__main__":
    main()
