"""Charts put points where they belong, between round numbers, and leave out what is not a number."""

import itertools
import re
from xml.etree import ElementTree

import pytest

from ptychoflow.reporting.svg_charts import Chart, Series, draw, label, log_ticks, ticks


def _points(svg):
    lines = re.findall(r'points="([^"]*)"', svg)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in lines]


def test_a_straight_line_is_drawn_straight():
    svg = draw(Chart("line", "x", "y", [Series("a", [0, 1, 2], [0, 1, 2], 0)]))
    (first, middle, last) = _points(svg)[0]
    assert middle == pytest.approx([(a + b) / 2 for a, b in zip(first, last)], abs=0.1)
    assert last[1] < first[1], "up is more"


def test_a_power_law_is_straight_on_a_logarithmic_axis():
    svg = draw(Chart("power", "x", "y", [Series("a", [0, 1, 2], [1e-4, 1e-2, 1], 0)], logarithmic=True))
    (first, middle, last) = _points(svg)[0]
    assert middle == pytest.approx([(a + b) / 2 for a, b in zip(first, last)], abs=0.1)


def test_decades_are_equally_far_apart_on_a_logarithmic_axis_along_x():
    svg = draw(Chart("dose", "x", "y", [Series("a", [1e3, 1e4, 1e6], [1, 2, 3], 0)], x_logarithmic=True))
    (first, middle, last) = _points(svg)[0]
    assert last[0] - middle[0] == pytest.approx(2 * (middle[0] - first[0]), abs=0.2)
    assert {"1000", "10000", "1e5", "1e6"} <= {text.text for text in ElementTree.fromstring(svg).iter("text")}


def test_an_error_bar_reaches_as_far_below_a_point_as_above_it():
    series = Series("a", [0, 1, 2], [1.0, 2.0, 3.0], 2, std=[0.5, None, 0.25])
    svg = draw(Chart("spread", "x", "y", [series]))
    bars = [line for line in ElementTree.fromstring(svg).iter("line") if line.get("class") == "bar s2"]
    assert len(bars) == 2
    for bar, (x, y) in zip(bars, _points(svg)[0][::2], strict=True):
        assert float(bar.get("x1")) == float(bar.get("x2")) == x
        assert float(bar.get("y1")) - y == pytest.approx(y - float(bar.get("y2")), abs=0.2) and float(bar.get("y2")) < y


def test_words_along_x_are_not_joined():
    chart = Chart(
        "loss", "x", "y", [Series("a", [0, 1], [1, 2], 0, dots=True, joined=False)], x_names=["labels", "counts"]
    )
    root = ElementTree.fromstring(draw(chart))
    assert {"labels", "counts"} <= {text.text for text in root.iter("text")}
    assert not list(root.iter("polyline")) and len(list(root.iter("circle"))) == 2


def test_what_is_no_number_is_left_out():
    series = [Series("a", [0, 1, 2, 3], [1, None, float("nan"), 2], 0), Series("b", [], [], 1)]
    chart = Chart("gaps", "x", "y", series)
    assert [len(line) for line in _points(draw(chart))] == [2]
    assert [each.name for each in chart.legend] == ["a"]
    assert draw(Chart("nothing", "x", "y", [Series("b", [], [], 1)])) == ""


def test_zero_and_less_have_no_logarithm():
    assert len(_points(draw(Chart("log", "x", "y", [Series("a", [0, 1, 2], [0, -1, 1], 0)], logarithmic=True)))[0]) == 1


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [0.0, 0.0]])
def test_flat_curves_and_single_points_can_be_drawn(values):
    svg = draw(Chart("flat", "x", "y", [Series("a", list(range(len(values))), values, 0)]))
    ElementTree.fromstring(svg)


def test_names_are_escaped_and_the_picture_is_well_formed():
    chart = Chart('"<&>', "<x>", "&y", [Series("<b>", [0, 1], [1, 2], 0)], levels=[(1.5, "<l>")], marks=[(0.5, "&")])
    root = ElementTree.fromstring(draw(chart))
    assert "<x>" in {text.text for text in root.iter("text")}


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.83, 0.61), (12.2, 25.7), (0, 6.7), (3e-3, 4e-3), (0, 1e6)])
def test_ticks_are_round_and_within(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 7
    assert low <= found[0] and found[-1] <= high * (1 + 1e-9)
    assert len({round(b - a, 9) for a, b in itertools.pairwise(found)}) == 1


def test_logarithmic_ticks_are_powers_or_their_doubles():
    assert log_ticks(0.9, 1100) == [1, 10, 100, 1000]
    assert log_ticks(1e3, 1e5) == [1e3, 1e4, 1e5], "more would run into each other along x"
    assert log_ticks(0.009, 0.3) == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2])
    assert len(log_ticks(0.0078, 0.0099)) >= 2


def test_labels_are_short():
    assert [label(value) for value in (0, 0.5, -1, 1e-5, 2e7)] == ["0", "0.5", "−1", "1e-5", "2e7"]
