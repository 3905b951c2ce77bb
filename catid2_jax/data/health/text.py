"""Examines single texts: oddities, script, language, length, and whether they repeat."""

import array
import collections
import dataclasses
import functools
import heapq
import re
import unicodedata
import zlib
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import ftfy.badness
import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from catid2_jax.data.text import MARKUP

EXAMPLES = 2
"""Number of examples that are kept of anything odd."""

_SHOWN = 80  # longest example, in characters
_PERCENTILES = {"p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "p99": 99}
_CONFIDENT = 0.9  # probability below which a language counts as unsure
_READ = 500  # first characters of a text that identify its language


@dataclasses.dataclass
class Cases:
    """A count of something odd, with the first examples.

    Attributes:
        count: number of cases.
        examples: the first EXAMPLES cases, printable on any terminal.
    """

    count: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)

    def add(self, example: str, where: str = "", place: int = 0) -> None:
        """Counts a case in the record `where`, at the character `place` of the text `example`."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            text = shown(example, place)
            self.examples.append(f"{where}: {text}" if where else text)


def add_oddities(cases: Mapping[str, Cases], text: str, where: str = "") -> None:
    """Adds the text of the record `where` to the cases of every oddity in it."""
    for name, oddity in ODDITIES.items():
        if name in cases and (match := oddity.search(text)):
            cases[name].add(text, where, match.start())


def shown(text: str, place: int = 0) -> str:
    """Quotes the text around the character `place`, with unprintable characters escaped."""
    start = max(place - _SHOWN // 3, 0)
    end = start + _SHOWN
    return repr("…" * (start > 0) + text[start:end] + "…" * (end < len(text)))


def printable(text: str) -> str:
    """Escapes all that a terminal or a page could obey, such as controls and direction marks."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class _SeparatorTable(dict[int, int | str]):
    """A table for `str.translate` that turns punctuation, spaces and controls into spaces."""

    def __missing__(self, code: int) -> int | str:
        self[code] = " " if unicodedata.category(chr(code))[0] in "PZC" else code
        return self[code]


_SEPARATORS = _SeparatorTable()


def normalized(text: str) -> str:
    """Returns the normal form: the text without case, punctuation and compatibility forms (NFKC).

    Words are separated by one space. Symbols stay: "C++" is not "C".
    """
    if text.isascii():
        return " ".join(text.lower().translate(_SEPARATORS).split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SEPARATORS).split())


def has_letters(text: str) -> bool:
    """Tells whether the text has a letter of any script."""
    return any(map(str.isalpha, text))


class _ScriptTable(dict[str, str]):
    """Character -> script; "" for no letter and for letters of several scripts (category Lm)."""

    def __missing__(self, character: str) -> str:
        self[character] = _script(character)
        return self[character]


def _script(character: str) -> str:
    # A Unicode name begins with the script, except for compatibility forms such as "FULLWIDTH LATIN
    # SMALL LETTER A", which NFKC replaces.
    for plain in unicodedata.normalize("NFKC", character):
        if unicodedata.category(plain) in ("Lu", "Ll", "Lt", "Lo"):
            name = unicodedata.name(plain, "OTHER").split()[0]
            kana = name in ("HIRAGANA", "KATAKANA")
            return "Kana" if kana else "CJK" if name == "CJK" else name.capitalize()
    return ""


_SCRIPTS = _ScriptTable()


def dominant_script(text: str) -> str:
    """Returns the script of most letters: "Latin", "CJK", "Kana", "Cyrillic", ... or "none".

    On a tie it is the script that comes first in the text.
    """
    if text.isascii():
        return "Latin" if has_letters(text) else "none"
    counts = collections.Counter(map(_SCRIPTS.__getitem__, text))
    del counts[""]
    return counts.most_common(1)[0][0] if counts else "none"


@dataclasses.dataclass(frozen=True)
class Oddity:
    """Something odd to search for in texts.

    Attributes:
        pattern: regular expression that matches the oddity.
        gates: substrings one of which any text with the oddity contains; they are tested before
            `pattern` because that is faster. The default fits every text.
        ascii: whether a text of only ASCII can have the oddity.
    """

    pattern: re.Pattern[str]
    gates: tuple[str, ...] = ("",)
    ascii: bool = True

    def search(self, text: str) -> re.Match[str] | None:
        """Returns the first match in the text, or None."""
        if not (self.ascii or not text.isascii()) or not any(gate in text for gate in self.gates):
            return None
        return self.pattern.search(text)


ODDITIES: Mapping[str, Oddity] = {
    "markup": Oddity(MARKUP, ("<",)),
    # A semicolon must end it, as in data/text.py: "TV &amplifier" has no entity.
    "entities": Oddity(re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);"), ("&",)),
    # Controls except tab and line ends; soft hyphens, zero-width spaces, byte-order marks.
    "control_characters": Oddity(
        re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff]")
    ),
    "mojibake": Oddity(ftfy.badness.BADNESS_RE, ascii=False),
    # Substitutes for letters that an encoding lacks. "?" counts only between lower-case letters,
    # and not after "=", "." or "/" within a word, where it may belong to a web address.
    "lost_characters": Oddity(
        re.compile(r"\ufffd|__|(?<!\S)[^\s/=.]*[^\W\d_A-Z]\?[^\W\d_A-Z]"), ("?", "__", "\ufffd")
    ),
    # A letter outside the Latin blocks (up to U+02FF, U+1E00-1EFF and the fullwidth letters)
    # between lower-case Latin ones: a homoglyph, or a byte of another encoding.
    "foreign_letters": Oddity(
        re.compile(
            r"[a-z\u00df-\u00ff][^\W\d_\u0000-\u02ff\u1e00-\u1eff\uff21-\uff5a]"
            r"[a-z\u00df-\u00ff]"
        ),
        ascii=False,
    ),
    # What spreadsheets and programs write for an empty value, as the whole text.
    "placeholders": Oddity(
        re.compile(
            r"\A\W*(?:#(?:NAME\?|REF!|N/A|VALUE!|DIV/0!|NULL!|NUM!)|null|none|nan|n/?a|undefined)"
            r"\W*\Z",
            re.IGNORECASE,
        )
    ),
    "addresses": Oddity(re.compile(r"https?://\S|\bwww\.\S"), ("://", "www.")),
    "cut_off": Oddity(re.compile(r"(?:\.\.\.|…)\]?\s*\Z"), ("...", "…")),
}
"""Name -> oddity to search for in titles, texts, category names and queries."""


class Lengths:
    """Lengths of texts in characters and in words, with the shortest and the longest text.

    Words are separated by white space.
    """

    def __init__(self) -> None:
        self._characters, self._words = array.array("I"), array.array("I")
        self._shortest: tuple[int, str] | None = None
        self._longest: tuple[int, str] | None = None

    def add(self, text: str, where: str) -> None:
        """Adds the text of the record `where`."""
        length = len(text)
        self._characters.append(length)
        self._words.append(len(text.split()))
        if self._shortest is None or length < self._shortest[0]:
            self._shortest = length, f"{where}: {shown(text)}"
        if self._longest is None or length > self._longest[0]:
            self._longest = length, f"{where}: {shown(text)}"

    def figures(self) -> dict[str, Any]:
        """Returns the figures, or an empty dictionary if no text was added.

        Returns:
            `characters` and `words`, each a `distribution`; `shortest` and `longest`, an example of
            each; `of_maximal_length`, the number of texts as long as the longest, which is large
            if texts were cut.
        """
        if self._shortest is None or self._longest is None:
            return {}
        return {
            "characters": distribution(self._characters),
            "words": distribution(self._words),
            "shortest": self._shortest[1],
            "longest": self._longest[1],
            "of_maximal_length": self._characters.count(self._longest[0]),
        }


def distribution(values: Iterable[int]) -> dict[str, float]:
    """Returns minimum, percentiles (linearly interpolated), maximum and mean; {} for no value."""
    numbers = np.fromiter(values, np.int64)
    if not len(numbers):
        return {}
    percentiles = np.percentile(numbers, list(_PERCENTILES.values())).round(2).tolist()
    return {
        "min": int(numbers.min()),
        **dict(zip(_PERCENTILES, percentiles, strict=True)),
        "max": int(numbers.max()),
        "mean": round(float(numbers.mean()), 2),
    }


class Repeats:
    """Counts keys that occur more than once; stores hashes, and texts only for repeated keys.

    Two of 2 million different keys collide with probability 1e-7 (Python's 64-bit hash).
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._counts: dict[int, int] = {}
        self._texts: dict[int, str] = {}

    def add(self, key: Hashable, text: str) -> None:
        """Counts the key; `text` represents it among the examples."""
        digest = hash(key)
        if digest in self._counts:
            self._counts[digest] += 1
        elif digest in self._seen:
            self._counts[digest] = 2
            self._texts[digest] = text[:_SHOWN]
        else:
            self._seen.add(digest)

    def figures(self) -> dict[str, Any]:
        """Returns the figures of the repeated keys.

        Returns:
            `count`, how often repeated keys were added; `groups`, the number of different ones;
            `largest`, how often the most frequent was added; `examples` of the most frequent.
        """
        largest = heapq.nlargest(EXAMPLES, self._counts, key=self._counts.__getitem__)
        return {
            "count": sum(self._counts.values()),
            "groups": len(self._counts),
            "largest": max(self._counts.values(), default=0),
            "examples": [f"{shown(self._texts[d])} {self._counts[d]} times" for d in largest],
        }


@functools.cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class LanguageSample:
    """The languages of a sample of texts.

    The sample consists of the records whose ids have the smallest CRC-32, so it is the same for any
    order of the records and in every run.

    Args:
        size: number of texts in the sample.
    """

    def __init__(self, size: int = 5000) -> None:
        self._size = size
        self._kept: list[tuple[int, str, str]] = []  # a heap, the largest checksum first

    def add(self, record: str, text: str) -> None:
        """Offers the text of a record to the sample."""
        entry = (-zlib.crc32(record.encode()), record, text[:_READ])
        if len(self._kept) < self._size:
            heapq.heappush(self._kept, entry)
        elif entry > self._kept[0]:
            heapq.heapreplace(self._kept, entry)

    def figures(self) -> dict[str, Any]:
        """Returns the languages of the sample, named by ISO 639-1 code or "unsure".

        Returns:
            `sampled`, the number of texts; `shares`, language -> fraction of the sample; `others`,
            count and examples of the texts in other languages than the most frequent one.
        """
        identifier = _identifier()
        languages: dict[str, Cases] = collections.defaultdict(Cases)
        for _, record, text in sorted(self._kept, reverse=True):
            language, confidence = identifier.classify(text)
            name = language if confidence >= _CONFIDENT else "unsure"
            languages[name].add(text, f"{record}, {name}")
        ordered = sorted(languages, key=lambda name: -languages[name].count)
        others = [name for name in ordered if name != "unsure"][1:]
        return {
            "sampled": len(self._kept),
            "shares": {name: languages[name].count / len(self._kept) for name in ordered},
            "others": {
                "count": sum(languages[name].count for name in others),
                "examples": [languages[name].examples[0] for name in others][:EXAMPLES],
            },
        }
