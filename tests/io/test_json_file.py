"""JSON from outside is refused in one line where it is not what a schema says, whatever stands in it."""

import os

import pytest

from ptychoflow.io.json_file import Schema, check_schema, parse_json, read_json


class Point(Schema):
    """A point, for these tests."""

    y: float
    name: str = ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", "nested more than 100 levels deep"),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ('{"a": 1' + "0" * 5000 + "}", "an integer of 5001 digits"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ("[1]", "holds a JSON list, expected an object"),
        ("{", "not valid JSON"),
    ],
)
def test_json_that_no_product_holds_is_refused(text, reason):
    with pytest.raises(ValueError, match=f"^the file .*{reason}.*: make it again"):
        parse_json(text, "the file")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "y: field required: run it"),
        ({"y": "1"}, "y: input should be a valid number, got '1': run it"),
        ({"y": float("nan")}, "y: input should be a finite number, got nan"),
        ({"y": 10**400}, "y: "),
        ({"y": 1.0, "name": 3}, "name: input should be a valid string, got 3"),
        ([], "it: input should be a valid dictionary"),
    ],
)
def test_a_schema_names_the_part_that_is_wrong(data, reason):
    with pytest.raises(ValueError, match=f"^the file is damaged or of another version: {reason}"):
        check_schema(data, Point, "the file", "run it again")


def test_a_schema_keeps_what_it_does_not_name():
    assert check_schema({"y": 1, "x": 2}, Point, "the file", "").model_extra == {"x": 2}


def test_a_byte_order_mark_is_no_obstacle(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}', "utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize("place", ["pipe", "device", "folder", "loop"])
def test_what_is_not_a_file_is_refused(tmp_path, place):
    path = tmp_path / "a.json"
    make = {"pipe": os.mkfifo, "folder": os.mkdir}.get(place)
    if make is not None:
        make(path)
    else:
        path.symlink_to("/dev/zero" if place == "device" else path)
    with pytest.raises(ValueError, match=r"named pipe|is a device|is a folder|circular symbolic link"):
        read_json(path)
