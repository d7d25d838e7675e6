"""Draw everything that can be simulated as a page with pictures."""

from pathlib import Path

from ..reporting.simulation_gallery import write_gallery


def gallery(output: Path) -> None:
    """Draw everything that can be simulated.

    Reads nothing. Makes a folder: a Markdown page, ``README.md``, with a picture and the settings of each object,
    probe, scan path and detector.

    Args:
        output: the folder.

    Example:
        ptychoflow docs gallery docs/reference/simulation
    """
    write_gallery(output)
