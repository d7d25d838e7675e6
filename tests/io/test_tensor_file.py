"""Tensors in files: damage is noticed, nothing is executed, nothing claims more than it holds."""

import os
import zipfile

import pytest
import torch

from ptychoflow.io.tensor_file import CHECKSUM, check_checksum, checksum_of, read_tensors, set_aside, write_tensors


def _content() -> dict:
    tensors = {"weight": torch.arange(6.0).reshape(2, 3), "scalar": torch.tensor(2), "wave": torch.ones(2) * 1j}
    return {"tensors": tensors, "half": torch.ones(3, dtype=torch.bfloat16), "list": [1, "a", None, 0.5], "empty": {}}


@pytest.fixture
def path(tmp_path):
    write_tensors(tmp_path / "a.pt", _content())
    return tmp_path / "a.pt"


def test_what_was_written_comes_back_with_its_checksum(path):
    content = read_tensors(path)
    check_checksum(content, path)
    assert torch.equal(content["tensors"]["weight"], _content()["tensors"]["weight"]) and content["list"][3] == 0.5


def test_every_flipped_bit_of_a_tensor_is_noticed(path):
    whole = path.read_bytes()
    start = whole.index(torch.arange(6.0).numpy().tobytes())
    for byte in range(start, start + 24):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 4]) + whole[byte + 1 :])
        with pytest.raises(ValueError, match=r"a\.pt changed since it was written|cannot be read"):
            check_checksum(read_tensors(path), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("list"),
        lambda content: content["list"].append(1),
        lambda content: content["tensors"].update(other=torch.ones(1)),
        lambda content: content["tensors"].update(weight=torch.arange(6.0)),
        lambda content: content["tensors"].update(weight=torch.arange(6.0).double().reshape(2, 3)),
        lambda content: content.update(empty=[]),
        lambda content: content["list"].__setitem__(0, True),
    ],
)
def test_the_checksum_tells_contents_apart(change):
    content = _content()
    change(content)
    assert checksum_of(content) != checksum_of(_content())


def test_the_checksum_does_not_count_itself():
    assert checksum_of(_content() | {CHECKSUM: "x"}) == checksum_of(_content())


@pytest.mark.parametrize(
    "tensor", [torch.zeros(1).expand(10**9), torch.eye(2).to_sparse(), torch.empty(10**9, device="meta")]
)
def test_tensors_that_claim_more_than_is_stored_are_refused(tmp_path, tensor):
    torch.save({"a": tensor}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="claims more than is stored"):
        read_tensors(tmp_path / "a.pt")


def test_an_archive_that_unpacks_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(ValueError, match="claims more than it holds"):
        read_tensors(tmp_path / "a.pt")


def test_code_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    torch.save({"a": Attack()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        read_tensors(tmp_path / "a.pt")
    assert not (tmp_path / "made").exists()


def test_data_that_stand_for_far_more_are_refused(tmp_path):
    data: list = []
    for _ in range(40):
        data = [data, data]
    torch.save({"a": data}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="more than 1000000 parts"):
        read_tensors(tmp_path / "a.pt")


def test_an_unusable_file_is_kept_beside(path):
    content = path.read_bytes()
    aside = set_aside(path)
    assert (aside.name, aside.read_bytes(), path.exists()) == ("a.pt.unusable", content, False)
    assert set_aside(path) == aside  # another process was first
