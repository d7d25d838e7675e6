"""Scans in memory: simulated, or from files and arrays."""

import copy
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..runtime.extras import names_extra
from .config import ConfigManager

if TYPE_CHECKING:
    import numpy as np
    from torch.utils.data import DataLoader

    from ..core.scan import Geometry, Scan
    from ..data.datamodule import TrainingData


SCANS = (".cxi", ".npz", ".h5", ".hdf5")
"""Suffixes of the files in a folder that are taken as scans."""


class Datagen:
    """Simulate scans.

    Args:
        config: section ``simulation``; defaults without it.
    """

    def __init__(self, config: ConfigManager | None = None) -> None:
        self.config = config or ConfigManager()

    def scan(self, name: str = "scan", **changes: Any) -> "Scan":
        """Simulate one scan, with its ground truth.

        Args:
            name: of the scan.
            **changes: of section ``simulation``: ``seed=3``, ``object="siemens_star"``.

        Raises:
            ConfigError: for settings out of range.
            ValueError: if the settings do not suit each other, such as a sample too small for one pattern.
        """
        from ..commands.simulate import simulate
        from ..io.scan_cxi import read_scan

        config = ConfigManager(simulation=self.config.simulation)
        config.update(simulation=changes)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.cxi"
            simulate(path, config.simulation)
            return read_scan(path)

    def scans(self, count: int, **changes: Any) -> list["Scan"]:
        """Simulate scans ``scan1``, ``scan2``, ..., each with the next seed.

        Args:
            count: number of scans.
            **changes: of section ``simulation``; ``seed`` is that of the first scan.
        """
        first = changes.pop("seed", self.config.simulation.seed)
        return [self.scan(f"scan{n + 1}", seed=first + n, **changes) for n in range(count)]


class PtychoDataLoader:
    """Load scans to train on or to reconstruct.

    Args:
        data: a scan, a path (dataset folder, ``.cxi``, PtychoPINN's ``.npz`` or another measurement, or a folder of
            these), an array of counts ``(J, N, N)`` with zero frequency in the middle, or a list of scans and paths.
        config: sections ``network``, ``training`` and ``runtime``: how groups are formed and read.
        positions: with an array, centres ``(y, x)`` in object pixels, ``(J, 2)``.
        probe: with an array, modes in sqrt(photons), ``(N, N)`` or ``(M, N, N)``.
        mask: with an array, True, or 1, for valid detector pixels, ``(N, N)``.
        geometry: with an array, pixel size, wavelength and distance, m; without it products are in units of a pixel.
        domain: with a file that does not say whether its patterns are ``counts`` or ``amplitude``, which they are.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: for invalid counts, or arrays that do not fit together.
    """

    def __init__(
        self,
        data: "Any",
        config: ConfigManager | None = None,
        *,
        positions: "np.ndarray | None" = None,
        probe: "np.ndarray | None" = None,
        mask: "np.ndarray | None" = None,
        geometry: "Geometry | None" = None,
        domain: "Literal['counts', 'amplitude'] | None" = None,
    ) -> None:
        self.config = config or ConfigManager()
        several = isinstance(data, list | tuple)
        arrays = {"positions": positions, "probe": probe, "mask": mask, "geometry": geometry}
        items = [item for entry in (data if several else [data]) for item in _items(entry)]
        self._sources = [(_as_scan(item, arrays, domain), item) for item in items]
        if not self._sources:
            raise ValueError("expected at least one scan, got none: give a scan, a path or an array of counts")

    def with_config(self, config: ConfigManager) -> "PtychoDataLoader":
        """Return a loader of the same scans with other settings."""
        other = copy.copy(self)
        other.config = config
        return other

    @property
    def scans(self) -> list["Scan"]:
        """Scans; counts of a dataset folder stay on disk until they are used."""
        return [scan for scan, _ in self._sources]

    @names_extra
    def module(self) -> "TrainingData":
        """Return a LightningDataModule: groups to train on and, in a separate spatial block, to validate on."""
        from ..training.fit_datamodule import training_data

        return training_data(self.scans, self.config.network, self.config.training, self.config.runtime)

    @names_extra
    def train_dataloader(self) -> "DataLoader":
        """Return batches of groups to train on."""
        return self.module().train_dataloader()

    @names_extra
    def val_dataloader(self) -> "DataLoader | list":
        """Return batches of groups to validate on; an empty list where the settings ask for none."""
        return self.module().val_dataloader()

    @names_extra
    def module_train_dataloader(self) -> "DataLoader":
        """Return batches of groups to train on, under PtychoPINN's name."""
        return self.train_dataloader()

    @names_extra
    def module_val_dataloader(self) -> "DataLoader | list":
        """Return batches of groups to validate on, under PtychoPINN's name."""
        return self.val_dataloader()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.train_dataloader())

    def __len__(self) -> int:
        return len(self.train_dataloader())

    @contextmanager
    def folders(self) -> Iterator[list[Path]]:
        """Yield dataset folders of the scans: their own, or temporary ones for scans without."""
        from ..io.dataset import write_dataset

        with tempfile.TemporaryDirectory() as scratch:
            folders = []
            for number, (scan, source) in enumerate(self._sources):
                folder = Path(source) if isinstance(source, str | Path) and Path(source).is_dir() else None
                if folder is None:
                    folder = Path(scratch) / f"{number}"
                    write_dataset(folder, scan)
                folders.append(folder)
            yield folders


def loader_of(data: "PtychoDataLoader | Any", config: ConfigManager | None, **arrays: Any) -> PtychoDataLoader:
    """Return a loader of data; a loader keeps its own settings where no others are given.

    Args:
        data: as :class:`PtychoDataLoader` takes it, or a loader.
        config: other settings.
        **arrays: ``positions``, ``probe`` and so on, with an array of counts.

    Raises:
        ValueError: if arrays are given with a loader.
    """
    if not isinstance(data, PtychoDataLoader):
        return PtychoDataLoader(data, config, **arrays)
    if arrays:
        raise ValueError(f"{', '.join(arrays)} go with an array of counts, not with a loader")
    return data if config is None else data.with_config(config)


def one_scan(data: "PtychoDataLoader | Any", arrays: dict[str, Any]) -> "Scan":
    """Return the scan of data that hold exactly one.

    Raises:
        ValueError: if they hold several.
    """
    scans = loader_of(data, None, **arrays).scans
    if len(scans) != 1:
        raise ValueError(f"expected one scan, got {len(scans)}: reconstruct them one by one")
    return scans[0]


def _items(entry: Any) -> list[Any]:
    """Return what an entry stands for: itself, or the scans in a folder that is not a dataset."""
    if not isinstance(entry, str | Path) or not Path(entry).is_dir() or (Path(entry) / "manifest.json").exists():
        return [entry]
    inside = sorted(Path(entry).iterdir())
    scans = [path for path in inside if path.suffix in SCANS or (path / "manifest.json").is_file()]
    if not scans:
        raise ValueError(f"{entry} holds neither a dataset nor scans ({', '.join(SCANS)}): give a folder with scans")
    return scans


def _as_scan(item: Any, arrays: Mapping[str, Any], domain: "Literal['counts', 'amplitude'] | None" = None) -> "Scan":
    import numpy as np

    from ..core.scan import Scan
    from ..io.dataset import open_dataset
    from ..io.scan_cxi import is_scan, read_scan

    given = [name for name, array in arrays.items() if array is not None]
    if isinstance(item, np.ndarray):
        return _from_arrays(item, **arrays)
    if given:
        raise ValueError(f"{', '.join(given)} go with an array of counts, not with {type(item).__name__}")
    if isinstance(item, Scan):
        return item
    if not isinstance(item, str | Path):
        raise ValueError(f"expected a Scan, a path or an array of counts, got {type(item).__name__}")
    path = Path(item)
    if path.is_dir():
        return open_dataset(path)
    ours = not path.is_file() or path.suffix == ".cxi" or is_scan(path)
    return read_scan(path) if ours else _measured(path, domain)


def _measured(path: Path, domain: "Literal['counts', 'amplitude'] | None") -> "Scan":
    """Read a file of another program; the object in PtychoPINN's archives is a ground truth unless it is uniform."""
    from ..config import Source
    from ..interop.ptychopinn.npz import read_npz
    from ..readers.formats.npz import is_ptychopinn
    from ..readers.registry import read_scan_of

    if zipfile.is_zipfile(path) and is_ptychopinn(path):
        return read_npz(path, domain)
    return read_scan_of(path, Source(file=str(path), domain=domain or "auto"))


def _from_arrays(
    counts: "np.ndarray",
    positions: "np.ndarray | None",
    probe: "np.ndarray | None",
    mask: "np.ndarray | None",
    geometry: "Geometry | None",
) -> "Scan":
    import numpy as np

    from ..core.scan import Geometry, Scan, check_counts, check_photons

    if positions is None or probe is None:
        raise ValueError("an array of counts needs positions (J, 2) in px and a probe in sqrt(photons)")
    check_counts(counts)
    probe = np.asarray(probe, np.complex64)
    probe = probe[None] if probe.ndim == 2 else probe
    metadata = {} if geometry else {"geometry": "unknown: lengths are in units of an object pixel"}
    lengths = geometry or Geometry(1.0, 1.0, 1.0)
    mask = None if mask is None else np.asarray(mask).astype(bool)
    scan = Scan(counts, np.asarray(positions, np.float64), probe, lengths, mask, name="arrays", metadata=metadata)
    check_photons(scan, float(counts.sum(dtype=np.float64)) / len(counts))
    return scan
