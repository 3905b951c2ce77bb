"""Cleaning of published text, a column at a time: HTML, Unicode and white space.

Unicode is normalised to NFC, which encodes each character in one way and changes nothing visible.
NFKC would also turn "10²" into "102" and "½" into "1⁄2", which cannot be undone; a SentencePiece
vocabulary such as T5's applies it anyway when it tokenises.
"""

import html
import re
import unicodedata
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

# Ended by a semicolon: without it, HTML would read "TV &amplifier" as "TV &lifier".
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);")
_HIDDEN = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
# A letter must follow "<", so that "width < 5" and "<3" stay.
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)\b[^<>]*>|<![^<>]*>")
_INSIDE_WORDS = frozenset({"b", "i", "em", "strong", "sub", "sup", "span", "font", "u", "wbr"})
# Soft hyphens, zero-width spaces and joiners of words, byte-order marks, control characters.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
# Matches all that `clean_text` could change; a column's other values need not pass through Python.
_SUSPECT = r"[&<]|^ | $|  |[^ -~]"


def clean_text(text: str) -> str:
    """Decodes HTML entities, removes markup, normalises Unicode (NFC) and white space.

    Block tags separate words, inline tags do not: "a<br>b" becomes "a b" and "H<sub>2</sub>O"
    becomes "H2O". Text that was escaped twice is decoded twice. Clean text stays unchanged.
    """
    while True:
        plain = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
        plain = _TAG.sub(_tag_space, _HIDDEN.sub(" ", plain))
        plain = unicodedata.normalize("NFC", _INVISIBLE.sub("", plain))
        plain = " ".join(plain.split())
        if plain == text or not ("&" in plain or "<" in plain):
            return plain
        text = plain


def clean(column: pa.Array) -> pa.Array:
    """Cleans a column's values as `clean_text` does.

    Args:
        column: text, lists of text (whose items are joined by a space) or numbers, [rows].

    Returns:
        string [rows]; null where the value is null or nothing is left of it.
    """
    texts = _as_strings(column)
    suspect = pc.fill_null(pc.match_substring_regex(texts, _SUSPECT), False)
    cleaned = [clean_text(text) for text in texts.filter(suspect).to_pylist()]
    texts = pc.replace_with_mask(texts, suspect, pa.array(cleaned, pa.string()))
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def labelled_text(
    fields: Mapping[str, pa.Array], rows: int, max_characters: int = 0
) -> tuple[pa.Array, int]:
    """Joins cleaned fields as "field: value; field: value".

    Args:
        fields: label -> string [rows]; a null value is left out together with its label.
        rows: number of rows, which cannot be told where there is no field.
        max_characters: length to which the value of each field is cut, so that a long field
            leaves the others whole; 0 cuts nothing.

    Returns:
        string [rows], "" where all fields are null; and the number of values that were cut.
    """
    parts, cut = [], 0
    for label, values in fields.items():
        if max_characters:
            cut += pc.sum(pc.greater(pc.utf8_length(values), max_characters)).as_py() or 0
            values = pc.utf8_slice_codeunits(values, 0, max_characters)
        labelled = pc.binary_join_element_wise(pa.scalar(f"; {label}: "), values, "")
        parts.append(pc.fill_null(labelled, ""))
    # Not null_handling="skip": Arrow drops rows whose values are all null.
    joined = pc.binary_join_element_wise(pa.array([""] * rows, pa.string()), *parts, "")
    return pc.utf8_slice_codeunits(joined, len("; ")), cut


def _tag_space(tag: re.Match[str]) -> str:
    return "" if (tag[1] or "").lower() in _INSIDE_WORDS else " "


def _as_strings(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        joined = [
            None if items is None else " ".join(str(item) for item in items if item is not None)
            for items in column.to_pylist()
        ]
        return pa.array(joined, pa.string())
    return pc.cast(column, pa.string())
