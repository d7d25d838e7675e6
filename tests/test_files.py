"""Files appear whole or not at all."""

import json

import pytest

from ptychoflow.files import provenance, read_json, sha256, whole_file, whole_folder, write_json


def test_a_file_appears_only_when_it_is_finished(tmp_path):
    with whole_file(tmp_path / "deep" / "a.txt") as partial:
        partial.write_text("new")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_a_failed_write_leaves_what_was_there(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_is_replaced_whole(tmp_path):
    for word in ("old", "new"):
        with whole_folder(tmp_path / "d") as partial:
            (partial / word).touch()
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_folder_leaves_what_was_there(tmp_path):
    with whole_folder(tmp_path / "d") as partial:
        (partial / "old").touch()
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "d") as partial:
        (partial / "half").touch()
        raise RuntimeError
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 1


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5, None]}


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_broken_json_is_told_in_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text, "latin-1")
    with pytest.raises(ValueError, match="make it again"):
        read_json(tmp_path / "a.json")


def test_provenance_names_code_settings_and_inputs(tmp_path):
    (tmp_path / "input.txt").write_text("x")
    with whole_folder(tmp_path / "dataset") as partial:
        write_json(partial / "manifest.json", {})
    record = provenance({"crop": 64}, text=tmp_path / "input.txt", dataset=tmp_path / "dataset", nothing=None)
    assert record["config"] == {"crop": 64}
    assert record["ptychoflow"][0].isdigit()
    assert record["inputs"]["text"] == {"name": "input.txt", "sha256": sha256(tmp_path / "input.txt")}
    assert record["inputs"]["dataset"]["sha256"] == sha256(tmp_path / "dataset" / "manifest.json")
    assert set(record["inputs"]) == {"text", "dataset"}
    json.dumps(record)
