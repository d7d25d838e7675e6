"""Tensors and plain data in files of PyTorch: nothing in them is executed, sizes are checked, damage is noticed."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

from .atomic import atomic_file
from .regular_file import check_regular

CHECKSUM = "checksum"
"""Key of the checksum of everything else in the file, XXH3-128: it detects damage, but not forgery."""
MOST_PARTS, DEEPEST = 1_000_000, 64
"""Most parts of the plain data in a file, and most levels of nesting."""


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data with their checksum, atomically."""
    sealed = {key: value for key, value in content.items() if key != CHECKSUM}
    sealed[CHECKSUM] = checksum_of(sealed)
    with atomic_file(path) as partial, partial.open("wb") as file:
        torch.save(sealed, file)


def read_tensors(path: Path) -> Any:
    """Read tensors and plain data to the CPU; the checksum is left to :func:`check_checksum`.

    Raises:
        ValueError: if the file is damaged, not of PyTorch, holds anything else, or claims more than it holds.
    """
    check_regular(path)
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler may raise anything over bytes that were not pickled
        reason = str(error).partition("\n")[0][:200]
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {reason})") from None
    for part in _parts(content):
        if isinstance(part, Tensor):
            _check_tensor(part, path)
    return content


def check_checksum(content: dict[str, Any], where: Path) -> None:
    """Refuse the content of a file that changed since it was written.

    Raises:
        ValueError: if its checksum is missing or another one.
    """
    if content.get(CHECKSUM) != checksum_of(content):
        raise ValueError(f"{where} changed since it was written (checksum)")


def checksum_of(content: Mapping[str, Any]) -> str:
    """Return the checksum of tensors and plain data; that of the file itself, :data:`CHECKSUM`, is left out."""
    hasher = xxhash.xxh3_128()
    for part in _parts({key: value for key, value in content.items() if key != CHECKSUM}):
        if isinstance(part, Tensor):
            hasher.update(f"{part.dtype} {tuple(part.shape)}".encode())
            # tensors without dimensions cannot be viewed as bytes
            hasher.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            hasher.update(f"{type(part).__name__} {part!r}".encode("utf-8", "backslashreplace"))
    return hasher.hexdigest()


def all_finite(tensor: Tensor) -> bool:
    """Return True if no number of a tensor is NaN or infinite."""
    return bool(torch.isfinite(tensor).all())


def _parts(content: Any) -> Iterator[Any]:
    """Yield the leaves of nested data, and for each container its kind and its length or keys, depth first.

    Raises:
        ValueError: if there are too many, or they are nested too deeply.
    """
    waiting, count = [(content, 0)], 0
    while waiting:
        part, depth = waiting.pop()
        count += 1
        if count > MOST_PARTS or depth > DEEPEST:
            raise ValueError(f"the file holds more than {MOST_PARTS} parts or {DEEPEST} levels of data")
        if isinstance(part, Mapping):
            yield sorted(map(repr, part))
            waiting += [(part[key], depth + 1) for key in sorted(part, key=repr)]
        elif isinstance(part, list | tuple):
            yield len(part)
            waiting += [(value, depth + 1) for value in part]
        else:
            yield part


def _check_archive(path: Path) -> None:
    """Refuse what is not an archive of PyTorch, or one that unpacks to more than the file holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a file of PyTorch or is truncated ({error})") from None
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError(f"{path} claims more than it holds: the file is damaged or hostile")


def _check_tensor(tensor: Tensor, path: Path) -> None:
    """Refuse tensors that are not plain arrays in memory, or whose shape claims more than is stored."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{path} holds a tensor that claims more than is stored, or is not a plain array")


def set_aside(path: Path) -> Path:
    """Move a file that cannot be used out of the way, and return its new path; an earlier one there is replaced."""
    aside = path.with_name(f"{path.name}.unusable")
    with contextlib.suppress(FileNotFoundError):  # another process was first
        path.replace(aside)
    return aside
