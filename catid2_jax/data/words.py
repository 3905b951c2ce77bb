"""The words of a text in any script, for what counts words: LSA and BM25.

Where a script has spaces, a word is two letters, digits or more in a row, as scikit-learn and bm25s
have it. Chinese, Japanese, Thai, Lao, Burmese and Khmer have none: there each pair of neighbouring
characters counts as a word, as in Lucene's CJKAnalyzer, and each Chinese character by itself too.
"""

import functools
import re
import sys
import unicodedata

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_OTHERS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u109f\u1780-\u17d3"
)
_UNSPACED = f"{_HAN}{_KANA}{_OTHERS}"
_IN_UNSPACED = re.compile(f"[{_UNSPACED}]")
_IN_HAN = re.compile(f"[{_HAN}]")
_WORD = re.compile(r"\w\w+")


def words(text: str) -> list[str]:
    """Returns the words of a text in their order; the case is kept."""
    if text.isascii():
        return _WORD.findall(text)
    found: list[str] = []
    for run in _runs().findall(text):
        if not _IN_UNSPACED.match(run):
            found.append(run)
            continue
        found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
        found += _IN_HAN.findall(run) if len(run) > 1 else []
    return found


def without_accents(text: str) -> str:
    """Returns a text in compatibility form (NFKC) and without accents.

    Marks that are no accents stay: the voicing of kana, vowels of Indic scripts, tones of Thai.
    """
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    kept = (c for c in decomposed if not _is_accent(unicodedata.combining(c)))
    return unicodedata.normalize("NFC", "".join(kept))


def _is_accent(combining_class: int) -> bool:
    """Whether marks of a class are accents: above or below a letter, or points of Semitic scripts.

    Classes are those of the Unicode Standard, section 4.3: 7 to 9 are of kana and Indic scripts, 10
    to 35 of Hebrew, Arabic and Syriac, 84 to 132 of scripts of India and its neighbours.
    """
    return 10 <= combining_class <= 35 or combining_class >= 200


@functools.cache
def _runs() -> re.Pattern[str]:
    """Runs of a script without spaces, or words with the marks that belong to their letters."""
    marks = "".join(
        chr(code)
        for code in range(0x300, min(0x20000, sys.maxunicode))
        if unicodedata.category(chr(code)) in ("Mn", "Mc") and not 0xFE00 <= code <= 0xFE0F
    )
    letter = rf"[^\W{_UNSPACED}]"
    return re.compile(rf"[{_UNSPACED}]+|{letter}(?:{letter}|(?![{_UNSPACED}])[{marks}])+")
