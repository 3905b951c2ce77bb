"""Ids have one canonical form; numbers that lost digits are refused."""

import csv
import decimal
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.data.ids import canonical_id, id_of_number
from catid2_jax.errors import InputError

plain = st.text(st.characters(exclude_categories=["Z", "C", "M"]), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (" 007\t", "007"),
        ("\u00a0A-1\u200b", "A-1"),
        ("\ufeffA\u2060\u200e1", "A1"),
        ("e\u0301", "\u00e9"),
        ('="0012345"', "0012345"),
        ("'0012345", "0012345"),
        ("4.006381333931e+12", "4006381333931"),
        ("90.750", "90.750"),
        ("1E5", "1E5"),
        ("O'Neill", "O'Neill"),
        ("  ", ""),
    ],
)
def test_what_programs_put_around_an_id_goes(written, meant):
    assert canonical_id(written) == meant


@pytest.mark.parametrize(
    "written", ["4.00638E+12", "1E+15", "1.25e+1", "a b", "9.9999999999999999E+16"]
)
def test_what_cannot_be_undone_is_refused(written):
    with pytest.raises(InputError, match="id '"):
        canonical_id(written)


@pytest.mark.parametrize("space", [" ", "  ", "\t", "\n", "\u00a0", "\u3000"])
def test_white_space_inside_is_refused_with_what_to_do(space):
    with pytest.raises(InputError, match=r"inside, .* another character there, such as '_', in al"):
        canonical_id(f" AB{space}12 ")
    assert canonical_id(f" AB_12{space}") == "AB_12"


@given(plain)
def test_the_form_is_reached_at_once(text):
    try:
        once = canonical_id(text)
    except InputError:
        return
    assert canonical_id(once) in (once, once.removeprefix("'"))


@given(st.integers(10**6, 2**53 - 1))
def test_floats_of_data_frames_give_the_digits_back_or_are_refused(number):
    assert id_of_number(float(number)) == str(number)
    file = io.StringIO()
    csv.writer(file).writerow([f"{number:.{len(str(number)) - 1}e}"])
    assert canonical_id(file.getvalue()) == str(number)


@pytest.mark.parametrize(
    "value", [90.75, 2.0**53, -(2.0**53), float("inf"), decimal.Decimal("90.750")]
)
def test_numbers_that_are_no_id_exactly_are_refused(value):
    with pytest.raises(InputError, match="came as a number"):
        id_of_number(value)
