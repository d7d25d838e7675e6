"""Export a reconstruction or a scan to the formats of other programs."""

import logging
import time
from pathlib import Path

from ..interop.export_formats import format_of, write_export

logger = logging.getLogger(__name__)


def export(source: Path, output: Path, scan: Path | None = None, model: Path | None = None) -> None:
    """Export a reconstruction or a scan to the formats of other programs.

    Reads a reconstruction, a product of ptychodus, a dataset or a scan. Makes what the name of the output says. The
    command ``convert`` goes the other way.

    Args:
        source: a reconstruction, a product of ptychodus (HDF5, NPZ or CXI), a dataset folder or a scan; a scan is
            exported with its ground truth as the object, or with a uniform object.
        output: a folder (no suffix) becomes ptychodus's standard directory; ``.h5``, ``.npz``, ``.cxi`` its product;
            ``.tif`` amplitude and phase; ``.ptychopinn.npz`` PtychoPINN's training archive. It is written atomically.
        scan: the dataset folder or scan with the patterns of a reconstruction, for formats that hold patterns.
        model: a checkpoint to put into the standard directory, with which ptychodus then reconstructs.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, scan and reconstruction differ, or the format is unknown.

    Example:
        ptychoflow export refined.h5 for-ptychodus --scan datasets/star --model pinn.ckpt
    """
    began = time.perf_counter()
    export_format = format_of(output)
    write_export(source, output, export_format, scan, model)
    seconds = time.perf_counter() - began
    logger.info("exported %s to %s, %s, in %.1f s", source, output, export_format.summary, seconds)
