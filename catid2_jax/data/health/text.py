"""Looking at texts one at a time: what is odd in them, their script, their length, their like."""

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

EXAMPLES = 2
"""Cases of a finding that are shown."""

_SHOWN = 80  # characters of an example
_PERCENTILES = {"p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "p99": 99}
_CONFIDENT = 0.9  # less, and the language counts as unsure
_READ = 500  # characters of a text from which its language is told


@dataclasses.dataclass
class Cases:
    """How often something was seen, and the first examples of it.

    Attributes:
        count: how often.
        examples: the first EXAMPLES, printable on any terminal.
    """

    count: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)

    def add(self, example: str, where: str = "", place: int = 0) -> None:
        """Counts one, seen in the record `where` at a place of the text `example`."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            text = shown(example, place)
            self.examples.append(f"{where}: {text}" if where else text)


def add_oddities(cases: Mapping[str, Cases], text: str, where: str = "") -> None:
    """Counts every oddity that a text of the record `where` has, by its name."""
    for name, oddity in ODDITIES.items():
        if name in cases and (match := oddity.search(text)):
            cases[name].add(text, where, match.start())


def shown(text: str, place: int = 0) -> str:
    """The text around a place in quotes, with what a terminal could obey escaped."""
    start = max(place - _SHOWN // 3, 0)
    end = start + _SHOWN
    return repr("…" * (start > 0) + text[start:end] + "…" * (end < len(text)))


def printable(text: str) -> str:
    """The text with what a terminal or a page could obey (escapes, direction marks) escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class _SeparatorTable(dict[int, int | str]):
    """For `str.translate`: punctuation, spaces and control characters become spaces."""

    def __missing__(self, code: int) -> int | str:
        self[code] = " " if unicodedata.category(chr(code))[0] in "PZC" else code
        return self[code]


_SEPARATORS = _SeparatorTable()


def normalized(text: str) -> str:
    """The text without what case, punctuation, white space and compatibility forms tell.

    Two texts with the same normal form are called the same. Symbols stay: "C++" is not "C".
    """
    if text.isascii():
        return " ".join(text.lower().translate(_SEPARATORS).split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SEPARATORS).split())


def has_letters(text: str) -> bool:
    """Whether a letter of any script is in the text."""
    return any(map(str.isalpha, text))


class _ScriptTable(dict[str, str]):
    """Character -> script, "" for what is no letter or goes with several scripts (Lm)."""

    def __missing__(self, character: str) -> str:
        self[character] = _script(character)
        return self[character]


def _script(character: str) -> str:
    # A name begins with its script, but for compatibility forms: "FULLWIDTH LATIN SMALL LETTER A".
    for plain in unicodedata.normalize("NFKC", character):
        if unicodedata.category(plain) in ("Lu", "Ll", "Lt", "Lo"):
            name = unicodedata.name(plain, "OTHER").split()[0]
            kana = name in ("HIRAGANA", "KATAKANA")
            return "Kana" if kana else "CJK" if name == "CJK" else name.capitalize()
    return ""


_SCRIPTS = _ScriptTable()


def dominant_script(text: str) -> str:
    """The script of most letters: "Latin", "CJK", "Kana", "Cyrillic", ...; "none" without letters.

    Of two scripts with equally many letters it is the one that comes first in the text.
    """
    if text.isascii():
        return "Latin" if has_letters(text) else "none"
    counts = collections.Counter(map(_SCRIPTS.__getitem__, text))
    del counts[""]
    return counts.most_common(1)[0][0] if counts else "none"


@dataclasses.dataclass(frozen=True)
class Oddity:
    """What is looked for in texts.

    Attributes:
        pattern: finds it.
        gates: it needs one of these to be in the text, which is faster to tell; none: any text.
        ascii: whether a text of ASCII alone can have it.
    """

    pattern: re.Pattern[str]
    gates: tuple[str, ...] = ("",)
    ascii: bool = True

    def search(self, text: str) -> re.Match[str] | None:
        """Where it is first."""
        if not (self.ascii or not text.isascii()) or not any(gate in text for gate in self.gates):
            return None
        return self.pattern.search(text)


ODDITIES: Mapping[str, Oddity] = {
    # A letter must follow "<", so that "width < 5" and "<3" are none.
    "markup": Oddity(re.compile(r"</?[A-Za-z][^<>]*>|<!(?:--|\[CDATA\[|[A-Za-z])"), ("<",)),
    # Ended by a semicolon, as in data/text.py: "TV &amplifier" has no entity.
    "entities": Oddity(re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);"), ("&",)),
    # All but tab and line ends; soft hyphens, zero-width spaces, byte-order marks.
    "control_characters": Oddity(
        re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff]")
    ),
    "mojibake": Oddity(ftfy.badness.BADNESS_RE, ascii=False),
    # What stands for letters that an encoding lacked. "?" counts between small letters only, and
    # not after "=", "." or "/" within a word, where it may be that of an address.
    "lost_characters": Oddity(
        re.compile(r"\ufffd|__|(?<!\S)[^\s/=.]*[^\W\d_A-Z]\?[^\W\d_A-Z]"), ("?", "__", "\ufffd")
    ),
    # One letter of no Latin block (those end at U+02FF, but for U+1E00-1EFF and fullwidth letters)
    # between small Latin ones: a homoglyph, or a byte of another encoding.
    "foreign_letters": Oddity(
        re.compile(
            r"[a-z\u00df-\u00ff][^\W\d_\u0000-\u02ff\u1e00-\u1eff\uff21-\uff5a]"
            r"[a-z\u00df-\u00ff]"
        ),
        ascii=False,
    ),
    # What a spreadsheet or a program leaves where there is nothing, as the whole text.
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
"""Name -> what is looked for in titles, texts, category names and queries."""


class Lengths:
    """Lengths of texts in characters and words (by white space), and the two extremes."""

    def __init__(self) -> None:
        self._characters, self._words = array.array("I"), array.array("I")
        self._shortest: tuple[int, str] | None = None
        self._longest: tuple[int, str] | None = None

    def add(self, text: str, where: str) -> None:
        """Measures the text of the record `where`."""
        length = len(text)
        self._characters.append(length)
        self._words.append(len(text.split()))
        if self._shortest is None or length < self._shortest[0]:
            self._shortest = length, f"{where}: {shown(text)}"
        if self._longest is None or length > self._longest[0]:
            self._longest = length, f"{where}: {shown(text)}"

    def figures(self) -> dict[str, Any]:
        """`characters` and `words` as `distribution` has them, and the two extremes.

        `of_maximal_length` are as long as the longest: many are so where texts were cut.
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
    """Minimum, percentiles (linear between values), maximum and mean; empty for no value."""
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
    """Counts what occurs more than once; keeps hashes, and texts only of what does.

    Python's 64-bit hash: among 2 million, two unlike ones meet with probability 1e-7.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._counts: dict[int, int] = {}
        self._texts: dict[int, str] = {}

    def add(self, key: Hashable, text: str) -> None:
        """Counts the key; `text` shows it to people."""
        digest = hash(key)
        if digest in self._counts:
            self._counts[digest] += 1
        elif digest in self._seen:
            self._counts[digest] = 2
            self._texts[digest] = text[:_SHOWN]
        else:
            self._seen.add(digest)

    def figures(self) -> dict[str, Any]:
        """`count` of those that share their key, `groups` they form, the `largest`, `examples`."""
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
    """The languages of a sample of texts: those with the smallest checksums of their ids.

    So the sample does not depend on the order, and is the same the next time.

    Args:
        size: texts that are kept.
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
        """`sampled`, `shares` by language (ISO 639-1 or "unsure"), and `others` than the first."""
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
