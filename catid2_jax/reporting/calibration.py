"""Calibration: how much more often products of higher scores are relevant."""

import numpy as np

from catid2_jax.reporting.comparison import Comparison
from catid2_jax.reporting.page import Charts, Lines, Prose, Section, Table
from catid2_jax.reporting.runs import Directory, SystemRun

_BINS, _PRODUCTS = 10, 10


def section(comparison: Comparison) -> Section | None:
    """Share of relevant products by score, per system; None where nothing was ranked."""
    if not comparison.rows:
        return None
    curves, rows = {}, []
    for row in comparison.rows:
        run = row.seeds[0]
        scores, relevant = judged_scores(run, row.directory)
        if not scores.size:
            continue
        bins = np.array_split(np.argsort(scores, kind="stable"), min(_BINS, len(scores)))
        curves[row.label] = [
            (float(number), 100 * float(relevant[members].mean()))
            for number, members in enumerate(bins, 1)
        ]
        is_probability = run.place.docids.exists() and bool((scores <= 0).all())
        for number, members in enumerate(bins, 1):
            low, high = scores[members[[0, -1]]]
            mean = f"{100 * np.exp(scores[members]).mean():.2f}" if is_probability else ""
            share = f"{100 * relevant[members].mean():.1f}"
            cells = (str(number), f"{low:.3f} to {high:.3f}", f"{len(members):,}", mean, share)
            rows.append((row.label, *cells))
    if not curves:
        return None
    about = (
        f"The first {_PRODUCTS} products of every test query in groups of as many by rising "
        "score. A score that says something rises with the share of relevant products. A system "
        "that writes IDs gives probabilities, which all products of the catalogue share: with "
        "several relevant products, each can have only a part, and the mean probability lies "
        "below the share of relevant ones."
    )
    title = "Share of relevant products by score"
    columns = (
        *("", "group", "scores", "products", "mean probability, %"),
        "relevant, %",
    )
    chart = Lines("calibration", title, "group by rising score", "relevant, %", curves, True)
    table = Table(title, columns, rows, texts=(2,), folded=True)
    return Section("Calibration of scores", [Prose(about), Charts([chart]), table])


def judged_scores(run: SystemRun, directory: Directory) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the first products of the rankings, and whether each is relevant."""
    pairs = [
        (score, product in products)
        for query, products in directory.relevant.items()
        for product, score in run.ranking.get(query, ())[:_PRODUCTS]
    ]
    scores, relevant = [score for score, _ in pairs], [holds for _, holds in pairs]
    return np.array(scores, np.float64), np.array(relevant, bool)
