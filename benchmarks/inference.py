"""How fast a scan is reconstructed by a network, from counts on disk to an object on disk.

    python benchmarks/inference.py results/networks/pinn.ckpt results/datasets/star [--accelerator gpu] [--threads 1]

Runs ``infer`` and ``stitch``, and ``reconstruct``, which is both without patches on disk, with every choice of groups
and precision, and prints a row for each: patterns per second of the whole (reading, prediction, stitching and writing,
without the start of Python), of prediction alone after its first batch, and the seconds of each part. Where the scan
has a truth, the error of the phase beside it, ramp removed. Of a network that corrects a fit there is only
``reconstruct``, and no groups.
"""

import argparse
import logging
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

from ptychoflow.commands.infer import infer
from ptychoflow.commands.reconstruct import reconstruct
from ptychoflow.commands.stitch import stitch
from ptychoflow.config import Inference, Runtime
from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.core.scan import Scan
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.metrics.alignment import align
from ptychoflow.metrics.image import image_metrics
from ptychoflow.models.checkpoint import read_model


def phase_error(result: Reconstruction, scan: Scan) -> str:
    """Return the phase error against the ground truth, as text."""
    if scan.truth is None:
        return "-"
    truth = np.asarray(scan.truth.object)
    aligned = align(result.object, result.origin, result.coverage, truth, scan.truth.origin, 2.0)
    metrics = image_metrics(aligned.object, aligned.truth, aligned.mask, scan.size / 8)
    return f"{metrics['phase_rms_rad']:.4f} rad ({metrics['phase_psnr_truth_range']:.1f} dB)"


def measure(model: Path, dataset: Path, inference: Inference, runtime: Runtime, fused: bool, folder: Path) -> str:
    """Measure one way of inference, as a row of text."""
    output, scan, began = folder / "object.h5", open_dataset(dataset), time.perf_counter()
    if fused:
        reconstruct(model, dataset, output, inference, runtime=runtime)
    else:
        infer(model, dataset, folder / "patches", inference, runtime)
        stitch(dataset, folder / "patches", output, runtime=runtime)
    seconds = time.perf_counter() - began
    result = read_reconstruction(output)
    timing = result.metadata["inference"]
    parts = {name: value for name, value in timing["seconds"].items() if name != "total"} | result.metadata["seconds"]
    parts_text = ", ".join(f"{name} {value:.2g}" for name, value in parts.items())
    groups = timing.get("groups", "-")
    name = f"{'fused' if fused else 'steps'} {inference.groups:5} {inference.precision:8}"
    rates = f"{len(scan) / seconds:9.0f} {timing['patterns_per_second'].get('inference', 0):9.0f}"
    return f"{name} {groups:>6} {rates}  {phase_error(result, scan):22} {parts_text}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("lightning").setLevel(logging.ERROR)
    runtime = Runtime(accelerator=options.accelerator, threads=options.threads)
    print("way   groups precision groups  patterns/s inference/s  phase error            seconds by part")
    fits = read_model(options.model).network.settings.input == "object_estimate"
    ways, groups = ((True,), ("minimal_cover",)) if fits else ((False, True), ("minimal_cover", "all"))
    choices = [(True, "minimal_cover", "float32"), *product(ways, groups, ("float32", "bfloat16"))]  # first: warm-up
    for number, (fused, groups, precision) in enumerate(choices):
        with tempfile.TemporaryDirectory() as folder:
            inference = Inference(groups=groups, precision=precision)
            row = measure(options.model, options.dataset, inference, runtime, fused, Path(folder))
        if number:
            print(row, flush=True)


if __name__ == "__main__":
    main()
