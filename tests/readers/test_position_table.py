"""Tables of positions are read as people write them: units in the head, byte order marks, any column names."""

import numpy as np
import pytest

from ptychoflow.readers.position_table import read_position_table

METRES = np.array([[1e-6, 2e-6], [3e-6, 5e-6], [4e-6, 6e-6]])


@pytest.mark.parametrize(
    ("head", "scale", "encoding"),
    [
        *(("y (um),x (um)", 1e6, "utf-8"), ("Y [nm],X [nm]", 1e9, "utf-8"), ("y(mm),x(mm)", 1e3, "utf-8")),
        *(("y,x", 1, "utf-8-sig"), ("y,x", 1, "utf-16"), ("y (µm),x (µm)", 1e6, "latin-1")),
        *(
            ("# y (um) , x (um)", 1e6, "utf-8"),
            ("pos_y_um,pos_x_um", 1e6, "utf-8"),
            ("samy / mm,samx / mm", 1e3, "utf-8"),
        ),
        *(("# scan 42\n# y_m,x_m", 1, "utf-8"), ("position_y (micrometers),position_x (micrometers)", 1e6, "utf-8")),
    ],
)
def test_the_head_gives_the_unit(tmp_path, head, scale, encoding):
    rows = "".join(f"{float(y)!r},{float(x)!r}\n" for y, x in METRES * scale)
    (tmp_path / "a.csv").write_bytes(f"{head}\n{rows}".encode(encoding))
    np.testing.assert_allclose(read_position_table(tmp_path / "a.csv").scaled().values, METRES, rtol=1e-12)


@pytest.mark.parametrize("head", ["x (um) y (um)", "# x(um)  y(um)", "x[um]\ty[um]"])
def test_columns_may_be_parted_by_spaces_and_stand_in_any_order(tmp_path, head):
    tab = "\t" if "\t" in head else " "
    (tmp_path / "a.txt").write_text(head + "\n" + "".join(f"{x}{tab}{y}\n" for y, x in METRES * 1e6))
    np.testing.assert_allclose(read_position_table(tmp_path / "a.txt").scaled().values, METRES, rtol=1e-12)


def test_decimal_commas_of_a_spreadsheet_are_read(tmp_path):
    rows = "".join(f"{y};{x}\n".replace(".", ",") for y, x in METRES * 1e6)
    (tmp_path / "a.csv").write_text("y (um);x (um)\n" + rows)
    np.testing.assert_allclose(read_position_table(tmp_path / "a.csv").scaled().values, METRES, rtol=1e-12)


def test_axes_may_have_units_of_their_own(tmp_path):
    (tmp_path / "a.csv").write_text("y (mm),x (um)\n" + "".join(f"{y * 1e3},{x * 1e6}\n" for y, x in METRES))
    np.testing.assert_allclose(read_position_table(tmp_path / "a.csv").scaled().values, METRES, rtol=1e-12)


def test_an_unknown_unit_is_named_and_its_remedy_works(tmp_path):
    (tmp_path / "a.csv").write_text("y (steps),x (steps)\n1,2\n3,5\n4,6\n")
    positions = read_position_table(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"a\.csv: head has the unknown unit 'steps'.*set source\.position_unit to"):
        positions.scaled()
    np.testing.assert_allclose(positions.scaled("um").values, METRES, rtol=1e-12)


def test_columns_without_y_and_x_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("alpha,beta\n1,2\n")
    with pytest.raises(ValueError, match=r"columns 'alpha', 'beta', expected some named y and x"):
        read_position_table(tmp_path / "a.csv")
