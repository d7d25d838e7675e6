"""Units are read strictly: every spelling that files use, the quantity checked, the unknown named."""

import numpy as np
import pytest

from ptychoflow.core.units import UnknownUnitError, factor, plain_text, quantity_of, split_unit


@pytest.mark.parametrize(
    ("unit", "metres"),
    [
        *(("m", 1), ("meters", 1), ("mm", 1e-3), ("Millimeters", 1e-3), ("millimetre", 1e-3), ("MM", 1e-3)),
        *(("um", 1e-6), ("µm", 1e-6), ("μm", 1e-6), ("[u_m]", 1e-6), ("micrometre", 1e-6), ("microns", 1e-6)),
        *(("[n_m]", 1e-9), ("(nm)", 1e-9), ("nanometers", 1e-9), ("Å", 1e-10), ("Angstrom", 1e-10), ("A", 1e-10)),
        *(("pm", 1e-12), ("cm", 1e-2), (" mm ", 1e-3), ("", 1.0)),
    ],
)
def test_a_length_is_read_in_every_spelling(unit, metres):
    assert factor(unit, "length", "x") == pytest.approx(metres, rel=1e-12)


@pytest.mark.parametrize(
    ("unit", "electron_volts"),
    [("eV", 1), ("keV", 1e3), ("KEV", 1e3), ("GeV", 1e9), ("MeV", 1e6), ("meV", 1e-3), ("kV", 1e3)]
    + [(joule, 1 / 1.602176634e-19) for joule in ("J", "joule", "Joules")],
)
def test_an_energy_is_read_in_every_spelling(unit, electron_volts):
    assert factor(unit, "energy", "x") == pytest.approx(electron_volts, rel=1e-12)


@pytest.mark.parametrize(
    "unit", ["1/nm", "nm^-1", "[n_m^-1]", "nm⁻¹", "nm**-1", "nm^{-1}", "nm-1", "per nm", "1 / nanometer"]
)
def test_a_reciprocal_length_is_read_in_every_spelling(unit):
    assert factor(unit, "reciprocal length", "q") == pytest.approx(1e9)


@pytest.mark.parametrize(
    ("unit", "quantity", "message"),
    [
        ("furlong", "length", "x has the unknown unit 'furlong', expected m, mm, um, nm or angstrom"),
        ("mev", "energy", "unknown unit 'mev'"),
        ("eV", "length", "the unit 'eV' of an energy, expected m"),
        ("[pix]", "length", "pixels as its unit"),
        ("nm^-1", "length", "the unit 'nm\\^-1' of a reciprocal length"),
        ("nm", "reciprocal length", "the unit 'nm' of a length"),
    ],
)
def test_an_unknown_or_wrong_unit_is_named(unit, quantity, message):
    with pytest.raises(UnknownUnitError, match=message):
        factor(unit, quantity, "x")


@pytest.mark.parametrize(
    "value", ["mm", b"mm", np.bytes_("mm"), np.array([b"mm"]), np.array(["mm"], object), np.array("mm"), "mm\0\0"]
)
def test_text_of_an_attribute_is_read_in_every_wrapping(value):
    assert plain_text(value) == "mm"


def test_what_is_not_one_text_is_empty():
    assert plain_text(np.array([b"a", b"b"])) == plain_text(3.0) == plain_text(None) == ""


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        *(("y (um)", ("y", "um")), ("Y [nm]", ("Y", "nm")), ("y(mm)", ("y", "mm")), ("y_m", ("y", "m"))),
        *(("energy / keV", ("energy", "keV")), ("energy_kev", ("energy", "kev")), ("x, mm", ("x", "mm"))),
        *(("y", ("y", "")), ("pos_y", ("pos_y", "")), ("(um)", ("(um)", ""))),
    ],
)
def test_a_name_is_split_from_its_unit(name, parts):
    assert split_unit(name) == parts


def test_the_quantity_of_a_unit():
    assert quantity_of("keV") == "energy" and quantity_of("um") == "length" and quantity_of("px") == "pixels"
    assert quantity_of("mrad") == "angle" and quantity_of("1/nm") == "reciprocal length" and quantity_of("?") is None
