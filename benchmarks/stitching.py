"""How fast patches are stitched, against the plain way of doing it and against what memory allows.

    python benchmarks/stitching.py [--device cuda] [--patches 4000] [--noise 300]

The plain way, as PtychoPINN's torch backend has it, a thousand patches at a time: for each of four corners an index for
every pixel of every patch, a bilinear share times the weight of the pixel, and a scattered addition, complex for the
object and real for the weight. Ours is what ``stitch`` runs, weight canvas included. Both get the same patches, weights
and places in one run and must agree. ``whole_px`` is for places on whole pixels, where predicted patches lie.
``us_per_patch`` tells the plain way, all of ours from an empty canvas to the object, the part of it that places
patches, and a plain copy of the patches; ``bandwidth_share`` is the last over the one before. On a CPU one thread is
used and processor time is reported, which other processes disturb least. Synchronisation is timed by itself, from
patches in memory to their phases. ``--noise 300`` asks how well 90,000 phases are found where every pair is measured
with a noise, and what a climb from the true phases to the nearest maximum finds. Prints JSON.

Measured on one thread of an AMD EPYC (Zen 4), us a patch, at places on whole pixels and scan steps of 8 to 4 px: at 64
px 75 the plain way, 4.1 to 3.9 ours, of which placing 3.0 and a copy 2.7; at 32 px 15, 1.25 to 1.0, 0.75 and 0.65. That
is 17 to 20 and 12 to 15 times as fast, 2000, 4000 or 10,000 patches alike, and placing takes little longer than a copy,
which moves as much. What is left is work on pixels of the canvas: zeros, the sum of weights, a look at its median, the
division. Between pixels, where no predicted patch lies, each hit is four and the sum of weights takes three times as
long: 5.9 to 5.4 us at 64 px (12 to 14 times as fast) and 1.8 to 1.5 at 32 px (8.3 to 10). Where the allocator gives
back memory after each run the plain way takes 212 us at 64 px. Without a C compiler all of ours takes 22 to 26 us at 64
px and 7 to 8 at 32 px.
"""

import argparse
import ctypes
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.spatial import KDTree

from ptychoflow.io.patch_store import PatchSet
from ptychoflow.physics.kernels.accumulate import splat_
from ptychoflow.physics.phase_synchronisation import _ascend, _ascent_solver, neighbour_pairs, synchronise
from ptychoflow.stitching.canvas import Canvas, CanvasStorage
from ptychoflow.stitching.phases import find_phases

AT_ONCE = 1000


def places(count: int, whole: bool, step: float = 8.0) -> np.ndarray:
    """A jittered raster, as a scan has it, px."""
    side = int(np.ceil(np.sqrt(count)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)[:count]
    found = step * grid + np.random.default_rng(0).uniform(-2, 2, (count, 2))
    return np.round(found) if whole else found


def plain(
    patches: torch.Tensor,
    corners: torch.Tensor,
    subpixel_shifts: torch.Tensor,
    weights: torch.Tensor,
    shape: tuple[int, int],
) -> torch.Tensor:
    """Four weighted corners, each with its index tensor; the mean."""
    total = torch.zeros(shape[0] * shape[1], dtype=patches.dtype, device=patches.device)
    weight = torch.zeros(shape[0] * shape[1], device=patches.device)
    line = torch.arange(patches.shape[-1], device=patches.device)
    for first in range(0, len(patches), AT_ONCE):
        here = slice(first, first + AT_ONCE)
        y, x = (corners[here, axis, None] + line for axis in (0, 1))
        for down in (0, 1):
            for right in (0, 1):
                share_y, share_x = (abs(1 - k - subpixel_shifts[here, axis]) for axis, k in ((0, down), (1, right)))
                share = (share_y * share_x)[:, None, None] * weights
                pixels = ((y + down)[:, :, None] * shape[1] + (x + right)[:, None, :]).flatten()
                total.scatter_add_(0, pixels, (patches[here] * share).flatten())
                weight.scatter_add_(0, pixels, share.flatten())
    return (total / weight.clamp_min(1e-9)).view(shape)


def keep_memory() -> None:
    """Have glibc keep the memory that it got: fresh pages for its indices can cost the plain way twice its time."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD, its greatest


def best_of(run: Callable[[], object], device: str, repeats: int) -> float:
    """The shortest of several times, s; the first run warms up."""
    clock, times = time.process_time if device == "cpu" else time.perf_counter, []
    for _ in range(repeats + 1):
        began = clock()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(clock() - began)
    return min(times[1:])


def on_device(patches: torch.Tensor, at: torch.Tensor, weights: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """What a canvas does, on another device than the processor: sum and hits, without the last division."""
    total, hits = patches.new_zeros(shape), torch.zeros(shape, device=patches.device)
    splat_(total, patches, at, weights, hits)
    return total


def measure(size: int, step: float, whole: bool, count: int, device: str, repeats: int) -> dict:
    """Times of one size of patch."""
    positions = places(count, whole, step)
    patches = torch.randn(count, size, size, dtype=torch.complex64)
    line = (torch.arange(size) - size // 2) / (size / 4)
    weights = torch.exp(-(line[:, None] ** 2) - line**2)  # a beam
    with tempfile.TemporaryDirectory() as folder:
        storage = CanvasStorage(float("inf"), Path(folder))
        canvas = Canvas.around(positions, weights, np.zeros(2), storage, margin=1)
        at = torch.from_numpy(positions - canvas.origin)
        corners, subpixel_shifts = torch.floor(at).long() - size // 2, (at - torch.floor(at)).float()
        inputs = [part.to(device) for part in (patches, corners, subpixel_shifts, weights)]

        def ours() -> np.ndarray:
            filled = Canvas.around(positions, weights, np.zeros(2), storage, margin=1)
            for first in range(0, count, AT_ONCE):
                here = slice(first, first + AT_ONCE)
                filled.add(patches[here], torch.from_numpy(positions[here]))
            return filled.finish(storage)

        reference, found = plain(*inputs, canvas.total.shape).cpu().numpy(), ours()
        agreed = np.abs(found.object - reference)[found.coverage & (found.weight > 1e-2)].max()
        assert agreed < 1e-4, f"the two ways differ by {agreed}"
        run = ours if device == "cpu" else lambda: on_device(inputs[0], at.to(device), inputs[3], canvas.total.shape)
        total, hits = (torch.zeros(canvas.total.shape, dtype=part.dtype, device=device) for part in (patches, weights))
        copied = torch.empty_like(inputs[0])
        ways = {
            "plain": lambda: plain(*inputs, canvas.total.shape),
            "ours": run,
            "placing": lambda: splat_(total, inputs[0], at.to(device), inputs[3], hits),
            "copy": lambda: copied.copy_(inputs[0]),
        }
        seconds = {name: best_of(way, device, repeats) for name, way in ways.items()}
    return {
        "size": size,
        "step_px": step,
        "whole_px": whole,
        "us_per_patch": {name: round(1e6 * spent / count, 2) for name, spent in seconds.items()},
        "times_as_fast": round(seconds["plain"] / seconds["ours"], 1),
        "bandwidth_share": round(seconds["copy"] / seconds["placing"], 2),
    }


def synchronisation(count: int, size: int) -> dict:
    """Seconds to find the phases of patches of a smooth object, each turned by a random phase."""
    positions = places(count, whole=True)
    rng = np.random.default_rng(1)
    line = np.arange(size) - size // 2
    y, x = positions[:, 0, None] + line, positions[:, 1, None] + line
    turn = np.exp(1j * rng.uniform(-np.pi, np.pi, count))[:, None, None]
    picture = np.exp(0.3j * np.sin(y / 9))[:, :, None] * np.exp(0.3j * np.sin(x / 7))[:, None, :] * turn
    pairs = np.ascontiguousarray(picture.astype(np.complex64)).view(np.float32).reshape(count, size, size, 2)
    patches = PatchSet(positions, np.arange(count)[:, None], size, (pairs.astype(np.float16),), {})
    began = time.process_time()
    found = find_phases(patches, np.arange(count), torch.ones(size, size), "synchronise")
    seconds = time.process_time() - began
    left = np.abs(np.angle(found.factors * turn[:, 0, 0] * np.conj(found.factors[0] * turn[0, 0, 0]))).max()
    metadata = {"patches": count, "size": size, "seconds": round(seconds, 2), "agreement": round(found.agreement, 5)}
    return metadata | {"largest_phase_error_rad": round(float(left), 5)}


def noisy(side: int, noise: float, reach: float | None) -> dict:
    """What is left of random phases where the angle of every pair within ``reach`` px has a noise, rad.

    Without a reach the pairs are those that ``stitch`` compares.
    """
    positions, rng = places(side**2, whole=False), np.random.default_rng(1)
    near = KDTree(positions).query_pairs(reach, output_type="ndarray") if reach else neighbour_pairs(positions, 40)
    phases = rng.uniform(-np.pi, np.pi, side**2)
    angle = phases[near[:, 0]] - phases[near[:, 1]] + rng.normal(0, noise, len(near))
    overlap = np.exp(1j * angle) * rng.uniform(0.5, 1, len(near))
    began = time.process_time()
    found = synchronise(side**2, near, overlap, np.abs(overlap))
    seconds = time.process_time() - began
    half = coo_array((overlap, near.T), (side**2, side**2)).tocsc()
    links = (half + half.conj().T).tocoo()
    best = _ascend(np.exp(1j * phases), links, _ascent_solver(links)).conj()
    left, least = (np.angle(turns * np.exp(1j * phases)) for turns in (found.factors, best))
    agreed = (best[near[:, 0]] * overlap * best[near[:, 1]].conj()).real.sum() / np.abs(overlap).sum()
    metadata = {"patches": side**2, "k_nearest": round(2 * len(near) / side**2, 1), "noise_rad": noise}
    for name, subpixel_shift in (("left_rad", left), ("left_from_truth_rad", least)):
        turned = np.exp(1j * subpixel_shift)
        metadata[name] = round(float(np.sqrt(np.mean(np.angle(turned / turned.mean()) ** 2))), 3)
    metadata |= {"agreement": round(found.agreement, 5), "agreement_from_truth": round(float(agreed), 5)}
    return metadata | {"seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--patches", type=int, default=4000)
    parser.add_argument("--synchronise", type=int, default=100_000, help="patches to synchronise; 0 leaves it out")
    parser.add_argument("--noise", type=int, default=0, help="patches along a side to synchronise despite noise")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    cases = [
        (size, step, whole) for size, step in ((64, 8.0), (64, 4.0), (32, 8.0), (32, 4.0)) for whole in (False, True)
    ]
    rows = [measure(*case, options.patches, options.device, options.repeats) for case in cases]
    results = {"device": options.device, "stitching": rows}
    if options.synchronise:
        results["synchronisation"] = synchronisation(options.synchronise, 32)
    if options.noise:
        cases = [(noise, None) for noise in (0.5, 0.6, 0.7, 0.8)] + [(0.8, 17.0), (1.0, 17.0)]
        results["noise"] = [noisy(options.noise, *case) for case in cases]
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
