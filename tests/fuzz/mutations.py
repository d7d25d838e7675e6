"""Damage to a file: of its bytes, of what its format names, and of what stands in its place; all drawn from a seed."""

import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from ptychoflow.io.provenance import sha256

from ..readers.fuzz import mutate as mutate_bytes

SECRET = b"\xc7\x5e\x11\xa7" * 2
"""Eight bytes of which the private files are made, and which no product may hold."""
HUGE = 1 << 40
JUNK: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**63, 10**400, 1e308, -1e308, float("nan"), float("inf"), 1e-300, 0.5, 800000),
    *("", "text", "../../private/secret.h5", "/etc/passwd", "1", "x" * 100_000, "\x00", "\ud800", "<script>"),
    *([], {}, [[]], [None], {"": None}, [1, "a", None, {}], {"format": 1}, 10**9, 3, 1000, 2**31),
)


class Private:
    """Files that belong to somebody else, beside the run: what damaged files point to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        content = np.frombuffer(SECRET * (1 << 16), np.uint8)
        self.raw, self.h5, self.npy = folder / "secret.raw", folder / "secret.h5", folder / "secret.npy"
        if not self.raw.exists():
            self.raw.write_bytes(content.tobytes())
            np.save(self.npy, content)
            with h5py.File(self.h5, "w") as file:
                file["data"] = content
            self._pack_bomb()

    def _pack_bomb(self) -> None:
        packer, checksum, size, packed = zlib.compressobj(1, zlib.DEFLATED, -15), 0, 0, b""
        for piece in (_with_header(np.zeros(0), "<f4", False, (805306368,)), *[bytes(1 << 24)] * 192):
            checksum, size = zlib.crc32(piece, checksum), size + len(piece)
            packed += packer.compress(piece)
        (self.raw.parent / "bomb").write_bytes(json.dumps([checksum, size]).encode() + b"\n" + packed + packer.flush())

    def bomb(self) -> tuple[int, int, bytes]:
        """Return checksum and size of much data, and the same packed."""
        head, _, packed = (self.raw.parent / "bomb").read_bytes().partition(b"\n")
        checksum, size = json.loads(head)
        return checksum, size, packed


def damage(path: Path, rng: np.random.Generator, private: Private) -> str:
    """Damage a file in one to three ways; return what was done."""
    done = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if not path.is_file() or path.is_symlink():
            break
        makers = BY_SUFFIX.get("".join(path.suffixes[-1:]), ())
        choice = rng.random()
        if makers and choice < 0.72:
            make = makers[int(rng.integers(len(makers)))]
        elif choice < 0.93 or (not makers and choice < 0.9):
            make = _bytes
        else:
            make = _replace
        try:
            done.append(f"{make.__name__}: {make(path, rng, private)}")
            if "bomb" in done[-1]:
                break  # to unpack it takes long
        except Exception as error:  # a file that is damaged already
            done.append(f"{make.__name__} failed: {type(error).__name__}")
    return "; ".join(done).replace("\n", " ")[:400]


def _bytes(path: Path, rng: np.random.Generator, private: Private) -> str:
    content = path.read_bytes()
    if rng.random() < 0.15:
        content = content + rng.bytes(int(rng.integers(1, 4096)))
    for _ in range(int(rng.integers(1, 5))):
        content = mutate_bytes(content, rng) if content else content
    path.write_bytes(content)
    return ""


def _replace(path: Path, rng: np.random.Generator, private: Private) -> str:
    """Put something else in the place of the file."""
    what = str(rng.choice(["fifo", "zero", "random", "directory", "broken", "loop", "secret", "empty", "missing"]))
    path.unlink()
    if what == "fifo":
        os.mkfifo(path)
    elif what in ("zero", "random"):
        path.symlink_to(f"/dev/{what}")
    elif what == "directory":
        path.mkdir()
    elif what == "broken":
        path.symlink_to("nowhere")
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "secret":
        secret = {".h5": private.h5, ".cxi": private.h5, ".npy": private.npy}.get(path.suffix, private.raw)
        path.write_bytes(secret.read_bytes()[:4096])
    elif what == "empty":
        path.touch()
    return what


# HDF5


def _hdf5_object(path: Path, rng: np.random.Generator, private: Private) -> str:
    """Replace a dataset or a group by another object under its name."""
    with h5py.File(path, "r+") as file:
        name = _some_object(file, rng)
        old = file[name]
        shape = old.shape if isinstance(old, h5py.Dataset) and old.shape else (4, 4)
        dtype = old.dtype if isinstance(old, h5py.Dataset) and not old.dtype.hasobject else np.dtype("f4")
        values = old[()] if isinstance(old, h5py.Dataset) and old.dtype.kind in "uifcb" else None
        what, make = _pick(_HDF5_OBJECTS, rng)
        del file[name]
        make(file, name, shape, dtype, values, private, rng)
    return f"{name} {what}"


def _some_object(file: h5py.File, rng: np.random.Generator) -> str:
    names: list[str] = []
    file.visit(names.append)
    datasets = [name for name in names if isinstance(file[name], h5py.Dataset)]
    pool = datasets if datasets and rng.random() < 0.85 else names
    return pool[int(rng.integers(len(pool)))]


def _external_storage(file, name, shape, dtype, values, private, rng) -> None:
    file.create_dataset(name, shape, dtype, external=[(str(private.raw), 0, h5py.h5s.UNLIMITED)])


def _virtual(file, name, shape, dtype, values, private, rng) -> None:
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(str(private.h5), "data", shape, dtype)
    file.create_virtual_dataset(name, layout)


def _virtual_of_itself(file, name, shape, dtype, values, private, rng) -> None:
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(".", name, shape, dtype)
    file.create_virtual_dataset(name, layout)


def _huge(file, name, shape, dtype, values, private, rng) -> None:
    sides = (int(rng.choice([10**5, 10**6, 10**9])), *shape[1:]) if rng.random() < 0.5 else (10**5,) * len(shape)
    data = file.create_dataset(name, sides, dtype, chunks=tuple(min(side, 16) for side in sides))
    if rng.random() < 0.7:
        data[(0,) * len(sides)] = 1


def _compressed_bomb(file, name, shape, dtype, values, private, rng) -> None:
    sides = (int(5e7) // max(1, int(np.prod(shape[1:]))), *shape[1:])
    file.create_dataset(name, data=np.zeros(sides, dtype), compression="gzip", compression_opts=1)


def _unknown_filter(file, name, shape, dtype, values, private, rng) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk(tuple(max(1, side) for side in shape))
    creation.set_filter(int(rng.choice([300, 32000, 444])), h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))
    space = h5py.h5s.create_simple(shape)
    data = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, creation)
    data.write_direct_chunk((0,) * len(shape), b"junk" * 16, 0)


def _bad_chunk(file, name, shape, dtype, values, private, rng) -> None:
    data = file.create_dataset(name, shape, dtype, chunks=shape, compression=str(rng.choice(["gzip", "lzf"])))
    data.id.write_direct_chunk((0,) * len(shape), rng.bytes(64))


def _strange_values(file, name, shape, dtype, values, private, rng) -> None:
    values = np.array(np.ones(shape, dtype) if values is None else values)
    flat = values.reshape(-1)
    number = rng.choice([np.nan, np.inf, -1, 1e300, -1e9, 1e9, 0])
    with np.errstate(all="ignore"):
        flat[rng.integers(0, len(flat), max(1, len(flat) // 3))] = np.asarray(number).astype(dtype)
    file[name] = values


_HDF5_OBJECTS: dict[str, Callable[..., None]] = {
    "external link": lambda f, n, s, d, v, p, r: f.__setitem__(n, h5py.ExternalLink(str(p.h5), "/data")),
    "external storage": _external_storage,
    "external storage again": _external_storage,
    "soft link to itself": lambda f, n, s, d, v, p, r: f.__setitem__(n, h5py.SoftLink("/" + n)),
    "soft link to the root": lambda f, n, s, d, v, p, r: f.__setitem__(n, h5py.SoftLink("/")),
    "broken soft link": lambda f, n, s, d, v, p, r: f.__setitem__(n, h5py.SoftLink("/nothing")),
    "hard link to the root": lambda f, n, s, d, v, p, r: f.__setitem__(n, f["/"]),
    "virtual": _virtual,
    "virtual of itself": _virtual_of_itself,
    "group": lambda f, n, s, d, v, p, r: f.create_group(n),
    "missing": lambda f, n, s, d, v, p, r: None,
    "null": lambda f, n, s, d, v, p, r: f.__setitem__(n, h5py.Empty(d)),
    "scalar": lambda f, n, s, d, v, p, r: f.__setitem__(n, np.ones((), d)),
    "empty": lambda f, n, s, d, v, p, r: f.create_dataset(n, (0, *s[1:]), d),
    "shorter": lambda f, n, s, d, v, p, r: f.create_dataset(n, data=np.ones((max(1, s[0] - 1), *s[1:]), d)),
    "one more dimension": lambda f, n, s, d, v, p, r: f.create_dataset(n, data=np.ones((*s, 2), d)),
    "other dtype": lambda f, n, s, d, v, p, r: f.create_dataset(
        n, data=np.ones(s, r.choice(["f2", "i8", "u1", "c16", "f8", "i2", "?", ">f4"]))
    ),
    "text": lambda f, n, s, d, v, p, r: f.__setitem__(n, "text"),
    "fixed text": lambda f, n, s, d, v, p, r: f.create_dataset(n, data=np.full(s, b"abcd")),
    "vlen": lambda f, n, s, d, v, p, r: f.create_dataset(n, s, h5py.vlen_dtype(np.float32)),
    "vlen text": lambda f, n, s, d, v, p, r: f.create_dataset(n, s, h5py.string_dtype()),
    "references": lambda f, n, s, d, v, p, r: f.create_dataset(n, s, h5py.ref_dtype),
    "records": lambda f, n, s, d, v, p, r: f.create_dataset(n, s, [("a", "f4"), ("b", "S4")]),
    "enumeration": lambda f, n, s, d, v, p, r: f.create_dataset(n, s, h5py.enum_dtype({"A": 1})),
    "opaque": lambda f, n, s, d, v, p, r: f.create_dataset(n, data=np.zeros(s, "V8")),
    "times": lambda f, n, s, d, v, p, r: f.create_dataset(
        n, data=np.zeros(s, "M8[s]").astype(h5py.opaque_dtype("M8[s]"))
    ),
    "huge": _huge,
    "bomb": _compressed_bomb,
    "unknown filter": _unknown_filter,
    "bad chunk": _bad_chunk,
    "strange values": _strange_values,
    "strange values again": _strange_values,
}


def _hdf5_attribute(path: Path, rng: np.random.Generator, private: Private) -> str:
    """Replace an attribute by one of another kind; the content of a JSON text by another one."""
    with h5py.File(path, "r+") as file:
        owners: list[str] = [""]
        file.visit(owners.append)
        pairs = [(owner, key) for owner in owners for key in file[owner or "/"].attrs]
        if not pairs:
            return "none"
        owner, key = pairs[int(rng.integers(len(pairs)))]
        attributes = file[owner or "/"].attrs
        old = attributes[key]
        if isinstance(old, str) and old.startswith("{") and rng.random() < 0.8:
            attributes[key] = _dump(_changed(json.loads(old), rng), rng)
            return f"{owner}@{key} JSON"
        what, make = _pick(_ATTRIBUTES, rng)
        value = make()
        del attributes[key]
        if value is not None:
            attributes[key] = value
    return f"{owner}@{key} {what}"


_ATTRIBUTES: dict[str, Callable[[], Any]] = {
    "missing": lambda: None,
    "text": lambda: "text",
    "bytes": lambda: np.bytes_(b"\xff\xfe"),
    "NaN": lambda: np.nan,
    "infinity": lambda: np.inf,
    "zero": lambda: 0.0,
    "negative": lambda: -1.0,
    "great": lambda: 1e300,
    "small": lambda: 1e-300,
    "array": lambda: np.ones(3),
    "empty": lambda: h5py.Empty("f8"),
    "complex": lambda: 1j,
    "texts": lambda: ["a", "b"],
    "integer": lambda: 2**62,
    "long text": lambda: "x" * 60_000,
    "deep JSON": lambda: "[" * 30_000,
    "zeros": lambda: np.zeros(2),
    "great pair": lambda: np.array([1e18, -1e18]),
}


# JSON


def _json(path: Path, rng: np.random.Generator, private: Private) -> str:
    data = _changed(json.loads(path.read_text()), rng)
    path.write_text(
        _dump(data, rng), encoding=str(rng.choice(["utf-8"] * 12 + ["utf-16", "utf-8-sig"])), errors="replace"
    )
    return ""


def _json_text(path: Path, rng: np.random.Generator, private: Private) -> str:
    what, text = _pick(_JSON_TEXTS, rng)
    path.write_text(text(path.read_text()))
    return what


_JSON_TEXTS: dict[str, Callable[[str], str]] = {
    "deep list": lambda text: "[" * 100_000 + "]" * 100_000,
    "deep object": lambda text: '{"a":' * 100_000 + "1" + "}" * 100_000,
    "deep inside": lambda text: text.rstrip().removesuffix("}") + ', "metadata": ' + "[" * 5000 + "]" * 5000 + "}",
    "long integer": lambda text: text.replace(": 1", ": 1" + "0" * 5000, 3),
    "twice": lambda text: text.rstrip().removesuffix("}") + ', "format": 1, "shards": 3, "stages": 4}',
    "list": lambda text: f"[{text}]",
    "comment": lambda text: "// note\n" + text,
    "two": lambda text: text + text,
    "null": lambda text: "null",
    "NaN": lambda text: text.replace("0.", "NaN, 0.", 1).replace(": 0", ": NaN", 4),
    "cut": lambda text: text[: len(text) // 2],
    "many": lambda text: text.rstrip().removesuffix("}") + "".join(f', "k{n}": {n}' for n in range(200_000)) + "}",
}


def _changed(data: Any, rng: np.random.Generator) -> Any:
    """Return the data with one to three of its parts replaced by junk, removed, or of another type."""
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        parts = [part for part in _parts(data)]
        if not parts:
            return JUNK[int(rng.integers(len(JUNK)))]
        # every level is as likely, so that the few names at the top are not lost among numbers
        depths = sorted({len(part) for part in parts})
        depth = depths[int(rng.integers(len(depths)))]
        same = [part for part in parts if len(part) == depth]
        *above, last = same[int(rng.integers(len(same)))]
        owner = data
        for key in above:
            owner = owner[key]
        if rng.random() < 0.15:
            del owner[last]
        else:
            owner[last] = JUNK[int(rng.integers(len(JUNK)))]
    return data


def _parts(data: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path to every part of nested lists and dictionaries, at most twenty of a list."""
    keys = data.keys() if isinstance(data, dict) else range(min(20, len(data))) if isinstance(data, list) else ()
    for key in keys:
        yield (*path, key)
        yield from _parts(data[key], (*path, key))


def _dump(data: Any, rng: np.random.Generator) -> str:
    return json.dumps(data, ensure_ascii=bool(rng.random() < 0.8)).replace("\ud800", "?")


# NumPy


def _npy(path: Path, rng: np.random.Generator, private: Private) -> str:
    what, content = _pick(_NPY, rng)
    path.write_bytes(content(np.load(path, allow_pickle=False), rng))
    if rng.random() < 0.6:
        _correct_manifest(path)
    return what


def _saved(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def _with_header(array: np.ndarray, descr: Any, order: Any, shape: Any, version: int = 1) -> bytes:
    text = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode("latin1", "replace") + b"\n"
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + array.tobytes()


def _strange_array(array: np.ndarray, rng: np.random.Generator) -> bytes:
    flat = np.array(array).reshape(-1)
    number = rng.choice([np.nan, np.inf, -1, 1e300, -1e9, 1e12, 0])
    with np.errstate(all="ignore"):
        flat[rng.integers(0, len(flat), max(1, len(flat) // 3))] = np.asarray(number).astype(array.dtype)
    return _saved(flat.reshape(array.shape))


_NPY: dict[str, Callable[[np.ndarray, np.random.Generator], bytes]] = {
    "huge": lambda a, r: _with_header(a, a.dtype.str, False, (HUGE, *a.shape[1:])),
    "overflowing": lambda a, r: _with_header(a, a.dtype.str, False, (2**62, 2**62, 4)),
    "negative": lambda a, r: _with_header(a, a.dtype.str, False, (-1, *a.shape[1:])),
    "text shape": lambda a, r: _with_header(a, a.dtype.str, False, "shape"),
    "many dimensions": lambda a, r: _with_header(a, a.dtype.str, False, (1,) * 70),
    "objects": lambda a, r: _saved(np.array([print, {}], object), allow_pickle=True),
    "records": lambda a, r: _saved(np.zeros(a.shape[:1], [("a", "f4"), ("b", "S3")])),
    "strange dtype": lambda a, r: _with_header(
        a, str(r.choice(["x", "O", "|V0", "f99", "<M8[s]", "S0"])), False, a.shape
    ),
    "deep header": lambda a, r: _with_header(a, "f4", False, "(" * 3000),
    "long header": lambda a, r: _with_header(a, "f4" + " " * 70_000, False, a.shape, 2),
    "version": lambda a, r: _saved(a, version=(2, 0)),
    "fortran": lambda a, r: _saved(np.asfortranarray(a)),
    "big endian": lambda a, r: _saved(a.astype(a.dtype.newbyteorder(">"))),
    "empty": lambda a, r: _saved(a[:0]),
    "scalar": lambda a, r: _saved(np.ones((), a.dtype)),
    "shorter": lambda a, r: _saved(a[:-1]),
    "longer": lambda a, r: _saved(np.concatenate([a, a])),
    "narrower": lambda a, r: _saved(a[..., :-1]),
    "flat": lambda a, r: _saved(a.reshape(-1)),
    "one more dimension": lambda a, r: _saved(a[None]),
    "text": lambda a, r: _saved(np.array(["a", "b"])),
    "complex": lambda a, r: _saved(a.astype(np.complex64)),
    "float": lambda a, r: _saved(a.real.astype(np.float64)),
    "half": lambda a, r: _saved(a.real.astype(np.float16)),
    "boolean": lambda a, r: _saved(a.astype(bool)),
    "signed": lambda a, r: _saved(a.real.astype(np.int64) - 1),
    "strange values": _strange_array,
    "strange values again": _strange_array,
    "zeros": lambda a, r: _saved(np.zeros_like(a)),
}


def _correct_manifest(path: Path) -> None:
    """Let the manifest beside an array say what the array is, as whoever forges a folder would."""
    manifest = path.parent / "manifest.json"
    if not manifest.is_file():
        return
    data = json.loads(manifest.read_text())
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    if "arrays" in data:
        import xxhash

        entry = data["arrays"][path.stem]
        checksum = xxhash.xxh3_64(np.ascontiguousarray(array).data.cast("B")).hexdigest() if array.size else ""
        entry |= {"shape": list(array.shape), "dtype": array.dtype.name, "xxh3_64": checksum}
    else:
        for shard in data["shards"]:
            shard["count"] = len(array)
    manifest.write_text(json.dumps(data))


def _npz(path: Path, rng: np.random.Generator, private: Private) -> str:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    name = names[int(rng.integers(len(names)))]
    what = str(rng.choice(["member", "member", "member", "bomb", "missing", "folder", "twice", "bytes", "locked"]))
    if what == "member":
        kind, content = _pick(_NPY, rng)
        members[name] = content(np.load(io.BytesIO(members[name]), allow_pickle=False), rng)
        what = f"{name} {kind}"
    elif what == "missing":
        del members[name]
    elif what == "folder":
        members[f"../../{name}"] = members.pop(name)
    elif what == "bytes":
        members[name] = rng.bytes(200)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED) as archive:
        for member, content_ in members.items():
            archive.writestr(member, content_)
        if what == "twice":
            archive.writestr(name, b"again")
        if what == "bomb":
            _write_bomb(archive, name, private)
    metrics = path.parent.with_suffix(".json")
    if metrics.is_file() and path.name == "arrays.npz":
        metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"arrays_sha256": sha256(path)}))
    if what == "locked":
        content_ = bytearray(path.read_bytes())
        content_[6] |= 1  # encrypted
        path.write_bytes(bytes(content_))
    return what


def _write_bomb(archive: zipfile.ZipFile, name: str, private: Private) -> None:
    """Add three gigabytes of zeros under a name, which pack to some megabytes; they were packed once for all runs."""
    checksum, size, packed = private.bomb()
    info = zipfile.ZipInfo(name)
    info.compress_type, info.CRC, info.file_size, info.compress_size = zipfile.ZIP_DEFLATED, checksum, size, len(packed)
    info.header_offset = archive.fp.tell()
    archive.fp.write(info.FileHeader(zip64=True) + packed)
    archive.filelist.append(info)
    archive.NameToInfo[name] = info
    archive.start_dir, archive._didModify = archive.fp.tell(), True


# PyTorch


def _torch(path: Path, rng: np.random.Generator, private: Private) -> str:
    """Change one part of what a PyTorch file holds; half of the time with a checksum that belongs to it."""
    content = torch.load(path, weights_only=True, map_location="cpu")
    part = _torch_part(content, rng)
    if rng.random() < 0.6:
        _forge_checksum(content)
    torch.save(content, path)
    _correct_checksums(path)
    return part


def _torch_part(content: Any, rng: np.random.Generator) -> str:
    parts = list(_torch_parts(content))
    depths = sorted({len(part) for part in parts})
    depth = depths[int(rng.integers(len(depths)))]
    same = [part for part in parts if len(part) == depth]
    *above, last = same[int(rng.integers(len(same)))]
    owner = content
    for key in above:
        owner = owner[key]
    old = owner[last]
    if isinstance(old, torch.Tensor) and rng.random() < 0.8:
        what, make = _pick(_TENSORS, rng)
        owner[last] = make(old)
    elif rng.random() < 0.15:
        what = "missing"
        del owner[last]
    else:
        what = "junk"
        owner[last] = JUNK[int(rng.integers(len(JUNK)))]
    return f"{[*above, last]} {what}"


def _torch_parts(data: Any, path: tuple = ()) -> Iterator[tuple]:
    keys = data.keys() if isinstance(data, dict) else range(min(20, len(data))) if isinstance(data, list) else ()
    for key in keys:
        yield (*path, key)
        yield from _torch_parts(data[key], (*path, key))


_TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "NaN": lambda t: torch.full_like(t.float(), torch.nan),
    "infinite": lambda t: torch.full_like(t.float(), torch.inf),
    "great": lambda t: torch.full_like(t.float(), 1e30),
    "shorter": lambda t: t.reshape(-1)[:-1].clone(),
    "expanded": lambda t: torch.zeros(1).expand(HUGE // 64),
    "wide": lambda t: torch.zeros(1, dtype=t.dtype).expand((800000, *t.shape[1:])),
    "sparse": lambda t: torch.zeros(3, 3).to_sparse(),
    "double": lambda t: t.to(torch.float64) if not t.is_complex() else t.to(torch.complex128),
    "complex": lambda t: t.to(torch.complex64),
    "integers": lambda t: torch.zeros(t.shape, dtype=torch.int8),
    "boolean": lambda t: torch.zeros(t.shape, dtype=torch.bool),
    "list": lambda t: [1.0, 2.0],
    "number": lambda t: 0.5,
    "meta": lambda t: torch.empty(t.shape, device="meta"),
    "empty": lambda t: torch.zeros(0),
    "scalar": lambda t: torch.ones(()),
}


def _torch_ask(path: Path, rng: np.random.Generator, private: Private) -> str:
    """Let the settings of a network ask for very much."""
    content = torch.load(path, weights_only=True, map_location="cpu")
    if "network" not in content:
        return _torch(path, rng, private)
    asked = {"base_channels": [800000, 8 * 10**9, 16], "physics_iterations": [10**9, 10**30], "cascades": [8, 10**9]}
    asked |= {"depth": [5, 10**6], "group_size": [16, 10**9], "fourier_modes": [64, 10**9]}
    asked |= {"architecture": ["fno", "cnn", "x"], "input": ["amplitude", "object_estimate"], "output": ["patches"]}
    names = list(asked)
    name = names[int(rng.integers(len(names)))]
    value = asked[name][int(rng.integers(len(asked[name])))]
    if rng.random() < 0.2:
        name, value = str(rng.choice(["window", "size"])), int(rng.choice([10**9, 800000, 17, -1]))
        content[name] = value
    else:
        content["network"][name] = value
    _forge_checksum(content)
    torch.save(content, path)
    return f"{name} {value}"


def _forge_checksum(content: Any) -> None:
    """Give a file the checksum of its content, where it has one."""
    try:
        from ptychoflow.io import tensor_file
    except ImportError:
        return
    if isinstance(content, dict) and tensor_file.CHECKSUM in content:
        content[tensor_file.CHECKSUM] = tensor_file.checksum_of(content)


def _correct_checksums(path: Path) -> None:
    listing = path.parent / "checksums.json"
    if listing.is_file():
        names = json.loads(listing.read_text())
        listing.write_text(json.dumps({name: sha256(path.parent / name) for name in names}))


def _pickle(path: Path, rng: np.random.Generator, private: Private) -> str:
    """A pickle that makes a file where it is loaded, in place of the file or inside it."""
    import pickle

    class Attack:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {private.raw.parent}/PWNED",)

    if rng.random() < 0.5:
        torch.save({"format": 3, "state": Attack()}, path)
    else:
        path.write_bytes(pickle.dumps(Attack()))
    _correct_checksums(path)
    return ""


def _zip_bomb(path: Path, rng: np.random.Generator, private: Private) -> str:
    """Pack the largest member of a PyTorch file anew, as zeros without end."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    largest = max(members, key=lambda name: len(members[name]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if name == largest:
                _write_bomb(archive, name, private)
            else:
                archive.writestr(name, content)
    return largest


# text


def _table(path: Path, rng: np.random.Generator, private: Private) -> str:
    """Replace a field of a table."""
    lines = path.read_text().splitlines()
    comma = "\t" if path.suffix == ".tsv" else "," if path.suffix == ".csv" else " "
    row = int(rng.integers(len(lines)))
    fields = lines[row].split(comma)
    junk = ["", "text", "nan", "inf", "1e400", "-1", '"', "\x00", "9" * 5000, "a,b,c", "x" * 200_000]
    fields[int(rng.integers(len(fields)))] = str(junk[int(rng.integers(len(junk)))])
    lines[row] = comma.join(fields)
    path.write_text("\n".join(lines) + "\n")
    return ""


def _page(path: Path, rng: np.random.Generator, private: Private) -> str:
    """Change the JSON that a page embeds."""
    before, start, remainder = path.read_text().partition('<script type="application/json" id="run">')
    text, end, after = remainder.partition("</script>")
    path.write_text(before + start + _dump(_changed(json.loads(text), rng), rng) + end + after, errors="replace")
    return ""


def _yaml(path: Path, rng: np.random.Generator, private: Private) -> str:
    import yaml

    text = path.read_text()
    what = str(rng.choice(["part", "part", "part", "aliases", "tag", "deep"]))
    if what == "part":
        text = yaml.safe_dump(json.loads(_dump(_changed(yaml.safe_load(text), rng), rng)))
    elif what == "aliases":
        rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
        text += "\n".join(rows)
    elif what == "tag":
        text += f"\nmetadata: !!python/object/apply:os.system ['touch {private.raw.parent}/PWNED']\n"
    else:
        text = "[" * 20_000
    path.write_text(text)
    _correct_checksums(path)
    return what


def _pick(choices: dict[str, Any], rng: np.random.Generator) -> tuple[str, Any]:
    names = list(choices)
    name = names[int(rng.integers(len(names)))]
    return name, choices[name]


Damage = Callable[[Path, np.random.Generator, Private], str]
HDF5: tuple[Damage, ...] = (_hdf5_object, _hdf5_object, _hdf5_attribute)
TORCH: tuple[Damage, ...] = (_torch, _torch, _torch_ask, _pickle, _zip_bomb)
BY_SUFFIX: dict[str, tuple[Damage, ...]] = {
    **dict.fromkeys((".h5", ".cxi", ".emd", ".nxs", ".ptyd", ".hdf5"), HDF5),
    **dict.fromkeys((".ckpt", ".pt", ".resume"), TORCH),
    **dict.fromkeys((".csv", ".tsv", ".txt"), (_table,)),
    **{
        ".json": (_json, _json, _json, _json_text),
        ".npy": (_npy,),
        ".npz": (_npz,),
        ".html": (_page,),
        ".yaml": (_yaml,),
    },
}
"""What may be done to a file beside damage to its bytes, by its suffix."""


def make_place(run: Path) -> None:
    """Make the empty folder for what a command writes."""
    shutil.rmtree(run / "out", ignore_errors=True)
    (run / "out").mkdir()
