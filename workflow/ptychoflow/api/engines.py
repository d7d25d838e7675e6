"""Training and reconstruction as objects; the verbs do the work, in a folder that is gone when they are done."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data import PtychoDataLoader, loader_of
from .models import PtychoModel
from .settings import ConfigManager

if TYPE_CHECKING:
    import numpy as np

    from ..data.shards import PatchSet
    from ..reconstruction import Reconstruction


class Trainer:
    """Trains a network on scans.

    Args:
        data: a :class:`PtychoDataLoader`, or what it takes.
        config: sections ``network``, ``training``, ``runtime`` and ``tracking``; those of the loader without it.
    """

    def __init__(self, data: "PtychoDataLoader | Any", config: ConfigManager | None = None) -> None:
        self.loader = loader_of(data, config)
        self.config = self.loader.config

    def train(self, output: Path | str | None = None) -> PtychoModel:
        """Train; with ``output``, a checkpoint and its record stay there and a stopped training resumes.

        Raises:
            ValueError: if the scans do not suit each other or the settings, or the training collapses.
        """
        from ..train import train

        with tempfile.TemporaryDirectory() as scratch, self.loader.folders() as folders:
            path = Path(output) if output is not None else Path(scratch) / "models" / "model.ckpt"
            config = self.config
            train(folders, path, config.network, config.training, config.runtime, config.tracking)
            return PtychoModel.load(path)


@dataclass(frozen=True)
class Found:
    """What was reconstructed.

    Attributes:
        reconstruction: all that is known about it.
        timing: seconds by part.
    """

    reconstruction: "Reconstruction"
    timing: dict[str, float]

    @property
    def image(self) -> "np.ndarray":
        """The object, complex64, ``(H, W)``; 1 where nothing is known."""
        return self.reconstruction.object

    @property
    def coverage(self) -> "np.ndarray":
        """True where the object is known, ``(H, W)``."""
        return self.reconstruction.coverage

    @property
    def origin(self) -> tuple[float, float]:
        """Position ``(y, x)`` of the image's pixel ``[0, 0]``, px."""
        return self.reconstruction.origin

    def save(self, path: Path | str) -> None:
        """Write a ptychodus product (HDF5), whole or not at all."""
        from ..reconstruction import write_reconstruction

        write_reconstruction(Path(path), self.reconstruction)


class InferenceEngine:
    """Reconstructs scans with a network.

    Args:
        model: the network, or the path of its checkpoint.
        config: sections ``inference``, ``stitching``, ``refinement`` and ``runtime``; defaults without it.
    """

    def __init__(self, model: PtychoModel | Path | str, config: ConfigManager | None = None) -> None:
        self.model = model if isinstance(model, PtychoModel) else PtychoModel.load(model)
        self.config = config or ConfigManager()

    def predict(self, data: "PtychoDataLoader | Any", **arrays: Any) -> "PatchSet":
        """The object patch under every pattern of one scan.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            **arrays: ``positions``, ``probe`` and so on, with an array of counts.

        Raises:
            ValueError: if the patterns are of another size than those the network was trained on.
        """
        import numpy as np

        from ..data.shards import read_patches

        with self._predicted(data, arrays) as (_, patches):
            found = read_patches(patches)
            return replace(found, shards=tuple(np.array(shard) for shard in found.shards))

    def predict_and_stitch(self, data: "PtychoDataLoader | Any", **arrays: Any) -> Found:
        """The whole object of one scan.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            **arrays: ``positions``, ``probe`` and so on, with an array of counts.

        Raises:
            ValueError: if the patterns are of another size than those the network was trained on.
        """
        from ..reconstruction import read_reconstruction
        from ..stitch import stitch

        with self._predicted(data, arrays) as (dataset, patches):
            output = patches.parent / "stitched.h5"
            stitch(dataset, patches, output, self.config.stitching)
            found = read_reconstruction(output)
            timing = json.loads((patches / "timing.json").read_text())
        seconds = {f"infer {name}": float(timing[name]) for name in ("load", "inference", "write")}
        seconds |= {f"stitch {name}": float(value) for name, value in found.facts["seconds"].items()}
        return Found(found, seconds)

    def refine(self, data: "PtychoDataLoader | Any", start: Found | None = None, **arrays: Any) -> Found:
        """Fit the object of one scan to its counts.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            start: what to start from, such as :meth:`predict_and_stitch` found; a flat object without it, which is the
                iterative baseline.
            **arrays: ``positions``, ``probe`` and so on, with an array of counts.
        """
        from ..reconstruction import read_reconstruction
        from ..refine import refine

        with tempfile.TemporaryDirectory() as scratch, _one_scan(data, arrays) as dataset:
            begin, output = Path(scratch) / "start.h5", Path(scratch) / "refined.h5"
            if start is not None:
                start.save(begin)
            settings = self.config.refinement
            refine(dataset, output, settings, start=begin if start else None, runtime=self.config.runtime)
            found = read_reconstruction(output)
        return Found(found, {"refine": float(found.facts["seconds"])})

    @contextmanager
    def _predicted(self, data: Any, arrays: dict[str, Any]) -> Iterator[tuple[Path, Path]]:
        """Folders of the one scan and of its patches."""
        from ..infer import infer

        with tempfile.TemporaryDirectory() as scratch, _one_scan(data, arrays) as dataset:
            checkpoint, patches = Path(scratch) / "model.ckpt", Path(scratch) / "patches"
            self.model.save(checkpoint)
            infer(checkpoint, dataset, patches, self.config.inference, self.config.runtime)
            yield dataset, patches


@contextmanager
def _one_scan(data: Any, arrays: dict[str, Any]) -> Iterator[Path]:
    """The dataset folder of data that are one scan."""
    loader = loader_of(data, None, **arrays)
    if len(loader.scans) != 1:
        raise ValueError(f"{len(loader.scans)} scans came: reconstruct them one by one")
    with loader.folders() as (folder,):
        yield folder
