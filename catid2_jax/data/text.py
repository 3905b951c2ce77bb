"""Cleaning of published text, a column at a time: HTML, Unicode, lost bytes and white space.

Unicode is normalised to NFC, which encodes each character in one way and changes nothing visible.
NFKC would also turn "10²" into "102" and "½" into "1⁄2", which cannot be undone; a SentencePiece
vocabulary such as T5's applies it anyway when it tokenises.

What is no markup stays: only names of HTML elements with attributes of HTML's form are taken for
tags, so that "Kabel <NEU> 3 m" keeps its words.
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
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)

# html.spec.whatwg.org, section 4 and, for the obsolete ones, section 16.2.
_ELEMENTS = (
    r"a|abbr|acronym|address|applet|area|article|aside|audio|b|base|basefont|bdi|bdo|"
    r"big|blink|blockquote|body|br|button|canvas|caption|center|cite|code|col|"
    r"colgroup|data|datalist|dd|del|details|dfn|dialog|dir|div|dl|dt|em|embed|"
    r"fieldset|figcaption|figure|font|footer|form|frame|frameset|h1|h2|h3|h4|h5|h6|"
    r"head|header|hgroup|hr|html|i|iframe|img|input|ins|kbd|label|legend|li|link|"
    r"main|map|mark|marquee|menu|meta|meter|nav|nobr|noframes|noscript|object|ol|"
    r"optgroup|option|output|p|param|path|picture|pre|progress|q|rb|rp|rt|rtc|ruby|"
    r"s|samp|script|search|section|select|slot|small|source|span|strike|strong|style|"
    r"sub|summary|sup|svg|table|tbody|td|template|textarea|tfoot|th|thead|time|title|"
    r"tr|track|tt|u|ul|var|video|wbr|xmp"
)
_BOOLEAN = (
    r"allowfullscreen|async|autoplay|checked|compact|controls|defer|disabled|hidden|loop|"
    r"multiple|muted|noshade|nowrap|readonly|required|reversed|selected"
)
_ATTRIBUTE = (
    r"\s+(?:[\w:.-]+\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'|[^\s\"'<>]+)"
    rf"|(?:{_BOOLEAN})(?![\w-])|data-[\w-]+)"
)
# Names with a colon are those of office programs, such as "<o:p>". After a first attribute anything
# may follow, such as an inch mark inside of quotes.
_TAG = re.compile(
    rf"</?({_ELEMENTS}|(?:o|v|w|m|st1):\w+)"
    rf"(?:(?:{_ATTRIBUTE})*\s*/?\s*|{_ATTRIBUTE}[^<>]*)>|<!doctype\b[^<>]*>",
    re.IGNORECASE,
)
MARKUP = re.compile(rf"{_TAG.pattern}|<!--|<!\[CDATA\[", re.IGNORECASE)
"""Matches what `clean_text` removes as markup."""

_IN_ANGLE_BRACKETS = r"</?[\p{L}!][^<>]*>"
_INSIDE_WORDS = frozenset({"b", "i", "em", "strong", "sub", "sup", "span", "font", "u", "wbr"})
# Bytes above 7F that were read as Latin-1, one of them as a control character.
_LATIN_1 = re.compile("[\x80-\xff]*[\x80-\x9f][\x80-\xff]*")
_CONTROL = re.compile("[\x80-\x9f]")
# Soft hyphens, zero-width spaces and joiners of words, byte-order marks, control characters.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff\x00-\x08\x0e-\x1b\x7f-\x9f]")
# Matches all that `clean_text` could change; a column's other values need not pass through Python.
_SUSPECT = r"[&<]|^ | $|  |[^ -~]"


def clean_text(text: str) -> str:
    """Removes markup, repairs lost bytes, normalises Unicode (NFC) and white space.

    HTML entities are decoded. Block tags separate words, inline tags do not: "a<br>b" becomes "a b"
    and "H<sub>2</sub>O" becomes "H2O". Text that was escaped twice is decoded twice. Bytes that
    were read as Latin-1 are read again, as UTF-8 or else as Windows-1252, if one of them has become
    a control character: browsers do the latter, too. Clean text stays unchanged.
    """
    while True:
        plain = unicodedata.normalize("NFC", _INVISIBLE.sub("", without_markup(text)))
        plain = " ".join(plain.split())
        if plain == text or not ("&" in plain or "<" in plain):
            return plain
        text = plain


def without_markup(text: str) -> str:
    """Decodes entities, once, removes tags and repairs lost bytes; white space stays."""
    plain = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    plain = _TAG.sub(_tag_space, _HIDDEN.sub(" ", _CDATA.sub(r" \1 ", plain)))
    while (repaired := _LATIN_1.sub(_read_again, plain)) != plain:
        plain = repaired
    return plain


def count_repaired(column: pa.Array) -> int:
    """Counts the values with bytes that were read as Latin-1, which `clean` repairs."""
    return _count(column, "[\x80-\x9f]")


def count_angle_brackets(cleaned: pa.Array) -> int:
    """Counts the values of a cleaned column with words in angle brackets, which are no markup."""
    return _count(cleaned, _IN_ANGLE_BRACKETS)


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


def _read_again(run: re.Match[str]) -> str:
    try:
        return run[0].encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        # A reference to a control character is read as Windows-1252 by HTML.
        return _CONTROL.sub(lambda byte: html.unescape(f"&#{ord(byte[0])};"), run[0])


def _count(column: pa.Array, pattern: str) -> int:
    return pc.sum(pc.match_substring_regex(_as_strings(column), pattern)).as_py() or 0


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
