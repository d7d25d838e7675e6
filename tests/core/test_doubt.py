"""Doubts keep their order, their kind and their words through files."""

import json

from ptychoflow.core.doubt import Doubt, as_data, from_data, join_doubts

MASK = Doubt("mask", "the mask leaves out 99 % of the pixels", "it may be inverted")
NOISE = Doubt("counts", "counts are not integers", "give raw counts", serious=False)


def test_doubts_survive_json():
    assert from_data(json.loads(json.dumps(as_data([MASK, NOISE])))) == (MASK, NOISE)


def test_what_is_no_doubt_is_left_out_of_a_foreign_file():
    assert from_data(None) == from_data("mask") == from_data([3, {"kind": "mask"}, {"kind": 1}]) == ()


def test_serious_doubts_come_first_and_each_kind_once():
    again = Doubt("mask", "another", "advice")
    assert join_doubts([NOISE], [MASK, again]) == (MASK, NOISE)


def test_a_doubt_is_one_line_with_its_number_and_its_remedy():
    assert str(MASK) == "the mask leaves out 99 % of the pixels: it may be inverted"
