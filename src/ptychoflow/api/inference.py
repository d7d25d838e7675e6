"""Reconstruct scans in memory: the ``infer``, ``stitch`` and ``reconstruct`` commands as an object."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import ConfigManager
from .data import PtychoDataLoader, loader_of, one_scan
from .model import PtychoModel, predict_patches

if TYPE_CHECKING:
    import numpy as np

    from ..core.reconstruction import Reconstruction
    from ..io.patch_store import PatchSet


@dataclass(frozen=True, repr=False)
class ReconstructionResult:
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

    def __repr__(self) -> str:
        height, width = self.image.shape
        return f"Found({self.reconstruction.name}, {height} x {width} px, {self.coverage.mean():.0%} of them known)"

    def save(self, path: Path | str) -> None:
        """Write a ptychodus product (HDF5), whole or not at all.

        Raises:
            ValueError: if the path does not end in ``.h5``, or a folder stands there.
            OSError: if it cannot be written.
        """
        from ..io.atomic import check_output
        from ..io.reconstruction_h5 import ENDINGS, write_reconstruction

        check_output(Path(path), *ENDINGS)
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
        """Object patches whose groups hold every pattern of one scan.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            **arrays: ``positions``, ``probe`` and so on, with an array of counts.

        Raises:
            ValueError: if the patterns are of another size than those the network was trained on, or several devices
                are asked for: patches of several processes meet on disk, by the command ``infer``.
        """
        return predict_patches(self.model.model, self.config, data, arrays)

    def predict_and_stitch(self, data: "PtychoDataLoader | Any", **arrays: Any) -> ReconstructionResult:
        """The whole object of one scan; nothing is written, unless several devices compute or memory is short.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            **arrays: ``positions``, ``probe`` and so on, with an array of counts.

        Raises:
            ValueError: if the patterns are of another size than those the network was trained on.
        """
        from ..commands.reconstruct import reconstruct_scan

        config, scan = self.config, one_scan(data, arrays)
        with tempfile.TemporaryDirectory() as scratch:
            found = reconstruct_scan(
                self.model.model, scan, Path(scratch), config.inference, config.stitching, config.runtime
            )
            if found is None:  # another process of several
                raise SystemExit
            found = found.in_memory()
        return ReconstructionResult(found, dict(found.metadata["inference"]["seconds"]))

    def refine(
        self, data: "PtychoDataLoader | Any", start: "ReconstructionResult | Path | str | None" = None, **arrays: Any
    ) -> ReconstructionResult:
        """Fit the object of one scan to its counts.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            start: what to start from, such as :meth:`predict_and_stitch` found, or the file of a reconstruction; a flat
                object without it, which is the iterative baseline.
            **arrays: ``positions``, ``probe`` and so on, with an array of counts.

        Raises:
            FileNotFoundError: if the file to start from is missing.
            ValueError: if start and scan do not suit each other, or the fit fails.
        """
        from ..commands.refine import refine
        from ..io.reconstruction_h5 import read_reconstruction

        with tempfile.TemporaryDirectory() as scratch, _one_folder(data, arrays) as dataset:
            begin, output = start, Path(scratch) / "refined.h5"
            if isinstance(start, ReconstructionResult):
                begin = Path(scratch) / "start.h5"
                start.save(begin)
            begin = None if begin is None else Path(begin)
            refine(dataset, output, self.config.refinement, start=begin, runtime=self.config.runtime)
            found = read_reconstruction(output)
        return ReconstructionResult(found, {"refine": float(found.metadata["seconds"])})


@contextmanager
def _one_folder(data: Any, arrays: dict[str, Any]) -> Iterator[Path]:
    """The dataset folder of data that are one scan."""
    one_scan(data, arrays)
    with loader_of(data, None, **arrays).folders() as (folder,):
        yield folder
