"""The guard of outputs: what a command is about to write never destroys an input or a file that is not its product.

An output is never an input nor holds one. It replaces only a product of the same kind that ptychoflow wrote; anything
else needs ``--force``. The guard runs before anything is read, so that a wrong output costs no time.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from .atomic import LEFT_BY_OTHERS
from .product_kinds import ANY_FOLDER, ProductKind

Output = tuple[Path, ProductKind]
"""A path to write, and the kind of product that is written there."""


def check_outputs(outputs: Sequence[Output], inputs: Iterable[Path] = (), force: bool = False) -> None:
    """Refuse outputs that would destroy an input or something that is not a product of their kind.

    Args:
        outputs: everything that the command writes.
        inputs: everything that it reads; files that do not exist are left out.
        force: True replaces things of other kinds too, but never an input, a folder by a file or a file by a folder.

    Raises:
        ValueError: naming the output, what stands there and the remedy.
        OSError: if a place is not writable.
    """
    sources = [path for path in inputs if path.exists()]
    for number, (path, kind) in enumerate(outputs):
        _check_ending(path, kind)
        for source in sources:
            _check_apart(path, kind, source)
        for other, _ in outputs[:number]:
            if _location(other) == _location(path):
                raise ValueError(f"{path} is named for two outputs: give each its own name")
        _check_place(path, kind, force)
        _check_writable(path)


def _check_ending(path: Path, kind: ProductKind) -> None:
    if kind.endings and path.suffix.lower() not in kind.endings:
        raise ValueError(
            f"the output is called {path.name}, expected a name that ends in {' or '.join(kind.endings)}: rename it"
        )


def _check_apart(path: Path, kind: ProductKind, source: Path) -> None:
    """Refuse an output that is an input, holds one, or is a part of one; links of both kinds are followed."""
    target, origin = path.resolve(), source.resolve()
    if target == origin or _location(path) == _location(source) or (path.exists() and path.samefile(source)):
        raise ValueError(f"{path} is an input of this command, which it would destroy: name another output")
    if kind is not ANY_FOLDER and path.is_dir() and origin.is_relative_to(target):
        raise ValueError(f"{path} holds {source}, an input of this command: name another output")
    inside = source.is_dir() and target.is_relative_to(origin)
    if inside and ((source / "manifest.json").is_file() or (path.exists() and not kind.is_product(path))):
        raise ValueError(f"{path} lies in {source}, an input of this command: name an output elsewhere")


def _check_place(path: Path, kind: ProductKind, force: bool) -> None:
    """Refuse an output where something stands that must not be replaced."""
    if not os.path.lexists(path):
        return
    if path.is_dir() and not kind.files:
        raise ValueError(f"{path} is a folder: name a file")
    if path.exists() and not path.is_dir() and kind.files:
        raise ValueError(f"{path} is a file: name a folder")
    if path.exists() and not path.is_dir() and not path.is_file():
        raise ValueError(f"{path} is a {_special(path)}, expected a place for the {kind.name}: name another output")
    if kind.is_product(path):
        return
    if path.is_dir():
        _check_folder(path, kind, force)
    elif not force:
        found = f"something else than the {kind.name} to write" if path.exists() else "a link to nothing"
        raise ValueError(f"{path} is {found}: name another output, or replace it with --force")


def _check_folder(path: Path, kind: ProductKind, force: bool) -> None:
    """Refuse a folder that is not a product of the kind, unless it is empty or may be replaced."""
    if all(entry.name in LEFT_BY_OTHERS for entry in path.iterdir()):
        return
    if not force:
        others = kind.foreign_files(path)
        found = (
            f"holds other files ({', '.join(others[:3])})"
            if others
            else f"is something else than the {kind.name} to write"
        )
        raise ValueError(f"{path} {found}: name a new folder, or replace it with --force")
    if os.path.ismount(path) or any(place.is_relative_to(path.resolve()) for place in (Path.cwd(), Path.home())):
        raise ValueError(f"{path} holds the home or the working folder, or is a disk: name another output")


def _check_writable(path: Path) -> None:
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        reason = "is not writable" if place.is_dir() else "is a file"
        raise OSError(f"{path} cannot be written ({place} {reason}): choose a writable location")


def _location(path: Path) -> Path:
    """Return where a path itself stands: its folder's links are followed, it may be a link."""
    return path.parent.resolve() / path.name


def _special(path: Path) -> str:
    mode = path.stat().st_mode
    kinds = {"pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK, "device": lambda m: stat.S_ISCHR(m) or stat.S_ISBLK(m)}
    return next((name for name, test in kinds.items() if test(mode)), "special file")
