"""Leakage: what of the held-out queries stands in training, exactly or nearly."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Block, Prose, Section, Table
from catid2_jax.reporting.runs import Directory

NEAR = 0.9
"""Cosine of the weighted character trigrams from which two queries count as nearly equal."""

_MOST, _ROWS, _EXAMPLES = 5000, 500, 10


def section(comparison: Comparison) -> Section:
    """Held-out queries, and pairs of a query and a product, that training has too."""
    directory, seed = comparison.main, comparison.config.seed
    held_out = [split for split in directory.queries if split != "train"]
    if "train" not in directory.queries or not held_out:
        text = "There are no training queries beside held-out ones, and so nothing to compare."
        return Section("Leakage", [Prose(text)])
    blocks: list[Block] = [
        Prose(
            "Texts are the same where they differ only in case, punctuation, spaces and "
            f"compatibility forms; nearly the same where the cosine of their character trigrams "
            f"(TF-IDF) is at least {NEAR}. A query that training has too is no fault of a system, "
            "but says that the figures are in part about remembering."
        )
    ]
    rows, examples = [], []
    for split in held_out:
        counts, found = _compare(directory, split, seed)
        rows.append((split, *counts))
        examples += [(split, *pair) for pair in found]
    columns = (
        *("split", "queries", "text in training", "pairs", "pair in training"),
        "nearly the text of a training query",
    )
    blocks.append(Table("Held-out queries that stand in training", columns, rows))
    if examples:
        title = f"Queries that are nearly those of training, at most {_EXAMPLES} of a split"
        heads = ("split", "query", "training query", "cosine")
        blocks.append(Table(title, heads, examples, texts=(1, 2)))
    return Section("Leakage", blocks)


def normal_form(text: str) -> str:
    """The text without case, punctuation, repeated spaces and compatibility forms (NFKC)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\W_]+", " ", folded).strip()


def _compare(
    directory: Directory, split: str, seed: int
) -> tuple[tuple[str, ...], list[tuple[str, str, str]]]:
    """The cells of a split's row, and the examples of near texts."""
    training = {q: normal_form(text) for q, text in directory.queries["train"].items()}
    held_out = {q: normal_form(text) for q, text in directory.queries[split].items()}
    known = set(training.values())
    same = [query for query, text in held_out.items() if text in known]
    trained = _pairs(training, directory.qrels["train"])
    pairs = _pairs(held_out, directory.qrels[split])
    others = [query for query in held_out if held_out[query] not in known]
    asked, sample = len(others), ""
    if asked > _MOST:
        chosen = np.random.default_rng(seed).choice(asked, _MOST, replace=False)
        others, sample = [others[i] for i in sorted(chosen)], f", of {_MOST:,} drawn (seed {seed})"
    found = near([held_out[q] for q in others], sorted(known))
    texts = {text: directory.queries["train"][query] for query, text in training.items()}
    examples = [
        (directory.queries[split][others[row]], texts[text], f"{cosine:.2f}")
        for row, text, cosine in sorted(found, key=lambda item: -item[2])[:_EXAMPLES]
    ]
    counts = (
        f"{len(held_out):,}",
        _share(len(same), len(held_out)),
        f"{len(pairs):,}",
        _share(len(pairs & trained), len(pairs)),
        f"{_share(len(found), len(others))}{sample}",
    )
    return counts, examples


def _pairs(
    texts: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]
) -> set[tuple[str, str]]:
    """(normal form of the query, product) of all judgements."""
    return {(texts[q], product) for q, judged in qrels.items() if q in texts for product in judged}


def near(texts: Sequence[str], others: Sequence[str]) -> list[tuple[int, str, float]]:
    """Finds the texts that nearly stand among others.

    Args:
        texts: in normal form.
        others: in normal form.

    Returns:
        (number of the text, the nearest other, cosine) of those with a cosine of at least `NEAR`.
    """
    if not any(texts) or not any(others):
        return []
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3), lowercase=False)
    targets = vectorizer.fit_transform(list(others))
    found = []
    for start in range(0, len(texts), _ROWS):
        cosines = vectorizer.transform(list(texts[start : start + _ROWS])) @ targets.T
        best = np.asarray(cosines.argmax(axis=1)).ravel()
        values = np.asarray(cosines[np.arange(len(best)), best]).ravel()
        found += [
            (start + int(row), others[best[row]], float(values[row]))
            for row in np.flatnonzero(values >= NEAR)
        ]
    return found


def _share(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.1%})".replace("%", " %") if of else f"{count:,}"
