"""Mutates golden files and reads them: run as ``python -m tests.readers.fuzz SEED COUNT`` under a memory limit.

Prints one line per mutation before it is read, so that whoever started it knows which one ended it.
"""

import resource
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from ptychoflow.config import Source
from ptychoflow.io import sandbox as trial
from ptychoflow.readers.registry import read_scan_of

from .golden import GOLDEN, make_scan

LIMIT_BYTES = 3 << 30
LIMIT_SECONDS = 20


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with bits flipped, bytes set, a block zeroed, filled, moved, cut out or cut off."""
    data = np.frombuffer(content, np.uint8).copy()
    start, length = int(rng.integers(len(data))), int(rng.choice([1, 2, 4, 8, 64, 512]))
    # most of what decides how a file is read stands near its beginning
    start = start if rng.random() < 0.5 else start % 4096 % len(data)
    kind = rng.choice(["flip", "set", "zero", "ones", "noise", "move", "cut", "end"])
    if kind == "flip":
        data[start] ^= 1 << int(rng.integers(8))
    elif kind == "set":
        data[start] = int(rng.choice([0, 1, 127, 128, 255]))
    elif kind == "zero":
        data[start : start + length] = 0
    elif kind == "ones":
        data[start : start + length] = 255
    elif kind == "noise":
        block = data[start : start + length]
        block[:] = rng.integers(0, 256, len(block))
    elif kind == "move":
        block = data[start : start + length].copy()
        data[: len(block)] = block
    elif kind == "cut":
        data = np.delete(data, np.s_[start : start + length])
    else:
        data = data[:start]
    return data.tobytes()


def files_of(place: Path) -> list[Path]:
    """The file, and those beside it that belong to it."""
    folder = place if place.is_dir() else place.parent
    return sorted(path for path in folder.rglob("*") if path.is_file())


def run(seed: int, count: int) -> None:
    """Read ``count`` mutations; anything but success or a one-line error ends the process."""
    warnings.simplefilter("ignore")
    trial.LIMIT_SECONDS, trial.LIMIT_BYTES = 5.0, 1 << 30
    names = list(GOLDEN)
    for number in range(seed, seed + count):
        rng = np.random.default_rng(number)
        name = names[number % len(names)]
        print(number, name, flush=True)
        folder = Path(tempfile.mkdtemp())
        place = GOLDEN[name][1](folder, make_scan())
        victim = files_of(place)[int(rng.integers(len(files_of(place))))]
        content = victim.read_bytes()
        for _ in range(int(rng.integers(1, 4))):
            content = mutate(content, rng) if content else content
        victim.write_bytes(content)
        signal.alarm(LIMIT_SECONDS)
        try:
            scan = read_scan_of(place, Source(file=str(place), **GOLDEN[name][2]))
            np.asarray(scan.counts[:2])
        except (ValueError, FileNotFoundError) as error:
            if "\n" in str(error).strip():
                raise
        signal.alarm(0)
        shutil.rmtree(folder)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    run(int(sys.argv[1]), int(sys.argv[2]))
