"""Reconstruct scans in memory: the ``infer``, ``stitch`` and ``reconstruct`` commands as an object."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.extras import names_extra
from .config import ConfigManager
from .data import PtychoDataLoader, loader_of, one_scan
from .model import PtychoModel, predict_patches

if TYPE_CHECKING:
    import numpy as np

    from ..core.reconstruction import Reconstruction
    from ..io.patch_store import PatchSet


@dataclass(frozen=True, repr=False)
class ReconstructionResult:
    """A reconstruction and the time it took.

    Attributes:
        reconstruction: object, probe, positions, history and metadata.
        timing: seconds by part.
    """

    reconstruction: "Reconstruction"
    timing: dict[str, float]

    @property
    def image(self) -> "np.ndarray":
        """Object, complex64, ``(H, W)``; 1 outside the coverage."""
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
        name, share = self.reconstruction.name, self.coverage.mean()
        return f"ReconstructionResult({name}, {height} x {width} px, {share:.0%} of them covered)"

    def save(self, path: Path | str) -> None:
        """Write a ptychodus product (HDF5), atomically.

        Raises:
            ValueError: if the path does not end in ``.h5``, or something else than a reconstruction stands there.
            OSError: if it cannot be written.
        """
        from ..io.output_guard import check_outputs
        from ..io.product_kinds import RECONSTRUCTION
        from ..io.reconstruction_h5 import write_reconstruction

        check_outputs([(Path(path), RECONSTRUCTION)])
        write_reconstruction(Path(path), self.reconstruction)


class InferenceEngine:
    """Reconstruct scans with a network.

    Args:
        model: the network, or the path of its checkpoint.
        config: sections ``inference``, ``stitching``, ``refinement`` and ``runtime``; defaults without it.
    """

    def __init__(self, model: PtychoModel | Path | str, config: ConfigManager | None = None) -> None:
        self.model = model if isinstance(model, PtychoModel) else PtychoModel.load(model)
        self.config = config or ConfigManager()

    @names_extra
    def predict(self, data: "PtychoDataLoader | Any", **arrays: Any) -> "PatchSet":
        """Predict the object patches of one scan; their groups hold every pattern.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            **arrays: ``positions``, ``probe`` and so on, with an array of counts.

        Raises:
            ValueError: if the patterns are of another size than those the network was trained on, or several devices
                are asked for: patches of several processes are written to disk, by the command ``infer``.
        """
        return predict_patches(self.model.model, self.config, data, arrays)

    @names_extra
    def predict_and_stitch(self, data: "PtychoDataLoader | Any", **arrays: Any) -> ReconstructionResult:
        """Reconstruct the object of one scan; nothing is written, unless several devices compute or memory is short.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            **arrays: ``positions``, ``probe`` and so on, with an array of counts.

        Raises:
            ValueError: if the patterns are of another size than those the network was trained on.
        """
        from ..inference.scan_reconstruction import reconstruct_scan

        config, scan = self.config, one_scan(data, arrays)
        with tempfile.TemporaryDirectory() as scratch:
            reconstruction = reconstruct_scan(
                self.model.model, scan, Path(scratch), config.inference, config.stitching, config.runtime
            )
            if reconstruction is None:  # every process but the first
                raise SystemExit
            reconstruction = reconstruction.in_memory()
        return ReconstructionResult(reconstruction, dict(reconstruction.metadata["inference"]["seconds"]))

    def refine(
        self, data: "PtychoDataLoader | Any", start: "ReconstructionResult | Path | str | None" = None, **arrays: Any
    ) -> ReconstructionResult:
        """Refine the object of one scan by rPIE.

        Args:
            data: as :class:`PtychoDataLoader` takes it.
            start: initial object: a result of :meth:`predict_and_stitch`, or the file of a reconstruction; a uniform
                object without it, which is the iterative baseline.
            **arrays: ``positions``, ``probe`` and so on, with an array of counts.

        Raises:
            FileNotFoundError: if the file to start from is missing.
            ValueError: if start and scan do not suit each other, or the refinement diverges.
        """
        from ..commands.refine import refine
        from ..io.reconstruction_h5 import read_reconstruction

        with tempfile.TemporaryDirectory() as scratch, _one_folder(data, arrays) as dataset:
            output, path = Path(scratch) / "refined.h5", None
            if isinstance(start, ReconstructionResult):
                path = Path(scratch) / "start.h5"
                start.save(path)
            elif start is not None:
                path = Path(start)
            refine(dataset, output, self.config.refinement, start=path, runtime=self.config.runtime)
            refined = read_reconstruction(output)
        return ReconstructionResult(refined, {"refine": float(refined.metadata["seconds"])})


@contextmanager
def _one_folder(data: Any, arrays: dict[str, Any]) -> Iterator[Path]:
    """Yield the dataset folder of data that hold exactly one scan."""
    one_scan(data, arrays)
    with loader_of(data, None, **arrays).folders() as (folder,):
        yield folder
