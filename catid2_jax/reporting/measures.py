"""What rankings are worth, query by query."""

import functools
from collections.abc import Sequence

import ir_measures
import numpy as np
from ir_measures import AP, RR, nDCG

from catid2_jax.evaluation.recall import recall_per_query
from catid2_jax.reporting.runs import Directory, Row, SystemRun

NDCG = "nDCG@10"


@functools.cache
def measure(run: SystemRun, directory: Directory) -> dict[str, np.ndarray]:
    """Measures a ranking: Recall by this package, the others by ir-measures (trec_eval).

    Args:
        run: the system.
        directory: its work directory.

    Returns:
        "recall@k" for each cutoff within the ranking's length, "nDCG@10" with the grades as gains,
        "MRR" and "AP" -> a value in % of each query of `directory.relevant`, [Q].
    """
    ranking = {query: [product for product, _ in hits] for query, hits in run.ranking.items()}
    relevant, labels = directory.relevant, run.config.data.preprocessing.relevant_labels
    cutoffs = [k for k in directory.evaluate.cutoffs if k <= run.k]
    found: dict[str, np.ndarray] = {}
    if cutoffs:
        recall = recall_per_query(ranking, directory.qrels["test"], cutoffs, labels)
        for k in cutoffs:
            found[f"recall@{k}"] = 100 * np.array([row[f"recall@{k}"] for row in recall.values()])
    # trec_eval ranks by score alone, and breaks ties by id: the order itself is the score.
    scores = {
        query: {product: -float(place) for place, product in enumerate(products)}
        for query, products in ranking.items()
    }
    graded = {query: directory.qrels["test"][query] for query in relevant}
    binary = {query: dict.fromkeys(products, 1) for query, products in relevant.items()}
    places = {query: number for number, query in enumerate(relevant)}
    for measures, judged in (({nDCG @ 10: NDCG}, graded), ({RR: "MRR", AP: "AP"}, binary)):
        for name in measures.values():
            found[name] = np.zeros(len(places))
        for value in ir_measures.iter_calc(list(measures), judged, scores):
            found[measures[value.measure]][places[value.query_id]] = 100 * value.value
    return found


def measured(row: Row) -> dict[str, np.ndarray]:
    """The measures of a row that all of its seeds have, [S, Q] in %."""
    found = [measure(run, row.directory) for run in row.seeds]
    names = [name for name in found[0] if all(name in other for other in found)]
    return {name: np.stack([values[name] for values in found]) for name in names}


def main_cutoff(cutoffs: Sequence[int]) -> int:
    """The k whose Recall is looked at in detail: 10, or else the first."""
    return 10 if 10 in cutoffs else cutoffs[0]
