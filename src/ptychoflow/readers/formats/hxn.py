"""Reader of the NSLS-II HXN beamline: ``diffamp`` (amplitudes), ``points`` ``(x, y)`` in micrometres, lengths."""

from pathlib import Path

from ...io.safe_hdf5 import Hdf5
from ..raw_scan import Measurement
from ..scan_positions import positions_in


def is_hxn(path: Path) -> bool:
    """Return True if the file holds ``diffamp`` and ``points``."""
    with Hdf5(path) as file:
        return "/diffamp" in file and "/points" in file


def read_hxn(path: Path, dataset: str | None = None) -> Measurement:
    """Read an HXN file; ``dataset`` is another path of the patterns."""
    with Hdf5(path) as file:
        x_y = file.array("/points", 2)
        if len(x_y) != 2:
            raise ValueError(f"{path.name}:/points has shape {x_y.shape}, expected (2, patterns)")
        probe = file.array("/probe", 2, 3, kinds="c") if file.holds_complex("/probe") else None
        return Measurement(
            patterns=file.stack(dataset or "/diffamp"),
            positions=positions_in(x_y[::-1].T, *(file.unit("/points", "um"),) * 2, f"{path.name}:/points"),
            amplitude=True,
            corner=None,
            probe=probe if probe is None else probe.reshape(-1, *probe.shape[-2:]),
            wavelength_m=file.number("/lambda_nm", unit="nm"),
            detector_distance_m=file.number("/z_m", unit="m"),
            detector_pixel_m=file.number("/ccd_pixel_um", unit="um"),
            name=path.stem,
            unread=file.unread,
            metadata={"tomography_angle_deg": file.number("/angle", otherwise=0.0)},
        )
