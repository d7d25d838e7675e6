"""An epoch and a prediction hold a few batches in memory, however large the dataset; the limit is the system's."""

import os
import subprocess
import sys

import numpy as np
import pytest

from ptychoflow.core.scan import Scan
from ptychoflow.io.dataset import pieces, write_dataset

READ_WITHIN = """
import resource, sys
from pathlib import Path
from ptychoflow.config import Runtime, Training
from ptychoflow.data.datamodule import PredictionData, TrainingData
from ptychoflow.io.dataset import open_dataset

def held():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1])

resource.setrlimit(resource.RLIMIT_DATA, (held() + int(sys.argv[2]),) * 2)
scan, runtime = open_dataset(Path(sys.argv[1])), Runtime(workers=int(sys.argv[3]), inference_batch_size=16)
training = TrainingData([scan], 4, Training(supervision="amplitude"), runtime)
prediction = PredictionData(scan, 4, runtime)
for loader in (training.train_dataloader(), training.val_dataloader(), prediction.predict_dataloader()):
    print(sum(len(batch.counts) for batch in loader))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs the memory accounts of Linux")
@pytest.mark.parametrize("workers", [0, 2])
def test_reading_needs_little_memory_whatever_the_size_of_the_dataset(tmp_path, scan, workers):
    """512 MiB of patterns within 256 MiB of memory for each process; a batch and the threads' stacks need some 130."""
    patterns, size = 1 << 14, 128
    piece = np.random.default_rng(0).poisson(300, (64, size, size)).astype(np.uint16)
    probe = np.pad(scan.probe, ((0, 0), (48, 48), (48, 48)))
    announced = np.broadcast_to(np.zeros((), np.uint16), (patterns, size, size))
    positions = np.random.default_rng(0).uniform(64, 900, (patterns, 2))
    large = Scan(announced, positions, probe, scan.geometry)
    write_dataset(tmp_path / "d", large, (part for _ in range(patterns // 64) for part in pieces(piece)))
    command = [sys.executable, "-c", READ_WITHIN, tmp_path / "d", str(256 << 20), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    trained, validated, predicted = map(int, done.stdout.split())
    assert trained > 12000 and validated > 800 and predicted == patterns
