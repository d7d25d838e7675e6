"""Patches on disk: what is written comes back, and half a folder is none."""

import numpy as np
import pytest

from ptychoflow.io.patch_store import ShardWriter, read_patches, seal


def _patches(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patches = (rng.normal(size=(count, 8, 8)) + 1j * rng.normal(size=(count, 8, 8))).astype(np.complex64)
    return patches, rng.uniform(0, 50, (count, 2)), rng.integers(0, 99, (count, 3))


def _write(folder, counts=(5, 7), dtype="float32"):
    folder.mkdir(exist_ok=True)
    written = []
    for shard, count in enumerate(counts):
        writer, parts = ShardWriter(folder, shard, count, 8, 3, dtype), _patches(count, shard)
        for first in range(0, count, 3):
            writer.write(*(part[first : first + 3] for part in parts))
        writer.close()
        written.append(parts)
    seal(folder, {"by": "a test"})
    return [np.concatenate(parts) for parts in zip(*written, strict=True)]


def _read(folder, size=4):
    return [np.concatenate(parts) for parts in zip(*read_patches(folder).batches(size), strict=True)]


def test_patches_of_two_processes_come_back_as_one_set(tmp_path):
    written = _write(tmp_path)
    for before, after in zip(written, _read(tmp_path), strict=True):
        np.testing.assert_array_equal(before, after)
    patches = read_patches(tmp_path)
    assert len(patches) == 12 and patches.size == 8 and patches.metadata["provenance"] == {"by": "a test"}
    np.testing.assert_array_equal(patches.members, written[2])


def test_batches_are_complex_and_no_larger_than_asked(tmp_path):
    _write(tmp_path)
    sizes = []
    for patches, positions, members in read_patches(tmp_path).batches(4):
        assert patches.dtype == np.complex64 and patches.shape[1:] == (8, 8)
        assert len(patches) == len(positions) == len(members)
        sizes.append(len(patches))
    assert max(sizes) == 4 and sum(sizes) == 12


def test_half_precision_keeps_three_digits(tmp_path):
    written = _write(tmp_path, dtype="float16")
    np.testing.assert_allclose(_read(tmp_path)[0], written[0], rtol=2e-3, atol=1e-3)
    assert read_patches(tmp_path).shards[0].dtype == np.float16


def test_a_process_without_patches_leaves_no_shard(tmp_path):
    _write(tmp_path, counts=(5, 0))
    assert len(read_patches(tmp_path)) == 5


def test_a_folder_without_manifest_is_no_set_of_patches(tmp_path):
    _write(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="run infer"):
        read_patches(tmp_path)


def test_a_truncated_shard_is_refused(tmp_path):
    _write(tmp_path)
    shard = tmp_path / "patches-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"patches-00001.npy is missing, truncated.*run infer again"):
        read_patches(tmp_path)


def _spoil(folder, name, change):
    path = folder / f"{name}-00001.npy"
    np.save(path, change(np.load(path)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "patches-00001.npy").write_bytes(b""), "missing, truncated or not an array"),
        (
            lambda folder: _spoil(folder, "members", lambda a: a[:, 0]),
            r"int64 of shape \(7,\), which cannot be members",
        ),
        (lambda folder: _spoil(folder, "positions", lambda a: a.astype(str)), "which cannot be positions"),
        (lambda folder: _spoil(folder, "patches", lambda a: a[..., 0]), "which cannot be patches"),
        (lambda folder: _spoil(folder, "positions", lambda a: a * np.nan), "positions that are NaN"),
        (
            lambda folder: (folder / "manifest.json").write_text('{"format": 1, "shards": [], "size": 8}'),
            "names 0 shards",
        ),
    ],
    ids=["uniform", "members", "words", "planes", "nan", "nothing"],
)
def test_arrays_that_are_no_patches_are_refused(tmp_path, damage, message):
    _write(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=f"{message}.*: run infer again"):
        read_patches(tmp_path)


def test_a_manifest_that_lies_is_refused(tmp_path):
    _write(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"count": 5', '"count": 6'))
    with pytest.raises(ValueError, match="holds 5 patches, the manifest says 6"):
        read_patches(tmp_path)
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(ValueError, match="is in format 0, this version reads 1"):
        read_patches(tmp_path)


def test_a_writer_that_ends_early_says_so(tmp_path):
    writer = ShardWriter(tmp_path, 0, 5, 8, 3, "float32")
    writer.write(*_patches(3))
    with pytest.raises(ValueError, match="got 3 patches, expected 5"):
        writer.close()
