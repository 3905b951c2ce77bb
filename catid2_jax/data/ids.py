"""One canonical form of ids, whatever program wrote them down.

Spreadsheets, data frames and databases change ids in known ways. What can be undone exactly is
undone, for the catalogue and for what refers to it; what cannot is refused.
"""

import decimal
import re
import unicodedata

from catid2_jax.errors import InputError

LARGEST_EXACT = 2**53 - 1
"""A float64 up to this one is the whole number that was written; 2**53 may be 2**53 + 1."""

_FORMULA = re.compile(r'="(.*)"')
_SCIENTIFIC = re.compile(r"(\d)(?:\.(\d+))?[eE]\+(\d+)")
_EXPECTED = "ids as text or as whole numbers, with all their digits"

_EXPECTED_WORD = (
    "no white space inside, which TREC files cannot hold: put another character there, such as "
    "'_', in all files"
)


def canonical_id(text: str) -> str:
    """Returns an id without what programs put around it; empty if nothing is left.

    White space around it and invisible characters go, Unicode is normalised (NFC), the escapes of
    spreadsheets are undone (`="0012"` and `'0012`, and `4.006381333931E+12` where that has all
    digits). Whatever else the text says is kept: "90.750" is not "90.75".

    Raises:
        InputError: white space inside, or a number that a spreadsheet or a data frame rounded.
    """
    if text.isascii() and text.isalnum():
        return text
    visible = (c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf"))
    plain = unicodedata.normalize("NFC", "".join(visible)).strip()
    formula = _FORMULA.fullmatch(plain)
    if formula:
        plain = formula[1].replace('""', '"').strip()
    elif plain.startswith("'") and plain.count("'") == 1:
        plain = plain[1:].strip()
    number = _SCIENTIFIC.fullmatch(plain)
    if number:
        decimals = number[2] or ""
        plain = number[1] + decimals
        if len(decimals) != int(number[3]) or int(plain) > LARGEST_EXACT:
            raise InputError("", f"id {text!r:.60}, a number that was rounded", _EXPECTED)
    if len(plain.split()) > 1:
        raise InputError("", f"id {text!r:.60}", _EXPECTED_WORD)
    return plain


def id_of_number(value: float | decimal.Decimal, largest: int = LARGEST_EXACT) -> str:
    """Returns the digits of a whole number.

    Args:
        value: the number.
        largest: whole numbers above it may have been rounded.

    Raises:
        InputError: the number is not whole or above `largest`, so that it is not what was meant.
    """
    if value != value or not -largest <= value <= largest or value != int(value):
        raise InputError("", f"id {value}, which came as a number", _EXPECTED)
    return str(int(value))
