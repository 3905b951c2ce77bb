"""Figure 6: the words of the titles under a prefix of IDs, and under its largest children."""

import collections
import re
from collections.abc import Iterable

import numpy as np
from wordcloud import STOPWORDS

from catid2_jax.docids.table import format_docid, parse_docid
from catid2_jax.errors import InputError
from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Charts, Prose, Section, WordCloud
from catid2_jax.reporting.runs import SystemRun

_WORD = r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*(?![\w])"
_WORDS = 60  # of a cloud
_CHILDREN = 2


def section(comparison: Comparison) -> Section:
    """A cloud of a prefix and of each of its largest children, for the systems that are shown."""
    title = "Words under a prefix (Figure 6)"
    config = comparison.config
    blocks = []
    for number, (label, run) in enumerate(comparison.shown):
        prefix = _prefix(run, config.prefix)
        clouds = [] if prefix is None else _clouds(run, label, prefix, config.seed, number)
        if clouds:
            blocks.append(Charts(clouds))
    if not blocks:
        return Section(title, [Prose("There are no words under any prefix.")])
    about = (
        "The larger a word, the more titles under the prefix have it; common English words and "
        "what has digits are left out. The prefix is the one of most products unless another was "
        "asked for, and beside it stand those of its children that have the most."
    )
    return Section(title, [Prose(about), *blocks])


def _prefix(run: SystemRun, wanted: str) -> list[int] | None:
    """The codes of the prefix; None where this system has no ID that starts so.

    Raises:
        InputError: the text is no prefix.
    """
    codes = run.table.codes
    if not wanted:
        return [int(np.bincount(codes[:, 0]).argmax())]
    try:
        prefix = parse_docid(wanted)
    except InputError as error:
        raise error.within("prefix") from error
    return prefix if _members(codes, prefix).size else None


def _members(codes: np.ndarray, prefix: list[int]) -> np.ndarray:
    """Rows of the products whose IDs start with a prefix."""
    if len(prefix) > codes.shape[1]:
        return np.zeros(0, np.int64)
    return np.flatnonzero((codes[:, : len(prefix)] == prefix).all(axis=1))


def _clouds(
    run: SystemRun, label: str, prefix: list[int], seed: int, system: int
) -> list[WordCloud]:
    codes, titles = run.table.codes, run.catalog.titles
    prefixes = [prefix]
    if len(prefix) < codes.shape[1]:
        following = codes[_members(codes, prefix), len(prefix)]
        counts = collections.Counter(following[following >= 0].tolist())
        prefixes += [[*prefix, code] for code, _ in counts.most_common(_CHILDREN)]
    clouds = []
    for number, found in enumerate(prefixes):
        members = _members(codes, found)
        words = frequent_words(titles[row] for row in members)
        if words:
            title = f"{label}: {format_docid(found)}, {len(members):,} products"
            clouds.append(WordCloud(f"figure6-{system}-{number}", title, words, seed))
    return clouds


def frequent_words(titles: Iterable[str]) -> dict[str, int]:
    """The words that most titles have, with the number of these."""
    counts: collections.Counter[str] = collections.Counter()
    for title in titles:
        words = set(re.findall(_WORD, title[:1000].lower()))
        counts.update(word[:30] for word in words - STOPWORDS if len(word) > 1)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_WORDS])
