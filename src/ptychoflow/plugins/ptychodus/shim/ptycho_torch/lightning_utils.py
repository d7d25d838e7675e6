"""Where a training left its network."""

from pathlib import Path

from ptychoflow.plugins.ptychodus.backend import CHECKPOINT


def find_best_checkpoint(run_dir: Path) -> Path | None:
    """The network of a run, or None if the training did not come to an end."""
    path = Path(run_dir) / CHECKPOINT
    return path if path.is_file() else None
