"""Text of the catalogue and of queries, made harmless to look at."""

import unicodedata

_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What orders the text after it anew."""


def plain(text: str, most: int = 300) -> str:
    """Cuts a text, and escapes what is no character to be seen: controls, marks of direction.

    Args:
        text: any text.
        most: its longest form, in characters, beside the ellipsis.
    """
    shown = "".join(c if _is_shown(c) else repr(c)[1:-1] for c in text[:most])
    return f"{shown}…" if len(text) > most else shown


def _is_shown(character: str) -> bool:
    hidden = unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp")
    return not hidden and character not in _DIRECTIONS
