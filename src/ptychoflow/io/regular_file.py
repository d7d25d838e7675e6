"""Files from outside before anything is read: that they are files, and texts of bounded length."""

import errno
import os
import stat
from pathlib import Path

LARGEST_TEXT = 1 << 28
"""Longest text that is read, bytes."""
SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_not_special(path: Path) -> None:
    """Refuse what has no end or no content to read: pipes, sockets and devices. A missing file passes.

    Raises:
        ValueError: naming what stands in the place of the file.
    """
    _refuse(path, set(SPECIAL) - {stat.S_IFDIR})


def check_regular(path: Path) -> None:
    """Refuse everything but a file, or a link to one. A missing file passes.

    Raises:
        ValueError: naming what stands in the place of the file.
    """
    _refuse(path, set(SPECIAL))


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Read a text in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        largest: its greatest length, bytes.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not a regular file, is too long, or not UTF-8.
    """
    path = Path(path)
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{path} is longer than {largest >> 20} MiB, expected a text: check the path")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not a text in UTF-8 ({error.reason} at byte {error.start}): make it again"
        ) from None


def _refuse(path: Path, kinds: set[int]) -> None:
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path} is a circular symbolic link: correct it") from None
        return
    if kind in kinds:
        raise ValueError(f"{path} is {SPECIAL[kind]}, expected a file: copy the data into a file")
