"""Recall@k, the paper's metric (section 4.1)."""

import math
from collections.abc import Iterable, Mapping, Sequence

from catid2_jax.data.preprocessing import keep_grades
from catid2_jax.data.queries import relevant_grades
from catid2_jax.errors import InputError
from catid2_jax.types import Qrels

CUTOFFS = (5, 10, 20, 50, 100)
"""The values of k in the paper."""


def recall_per_query(
    run: Mapping[str, Sequence[str]],
    qrels: Qrels,
    cutoffs: Sequence[int] = CUTOFFS,
    relevant_labels: Iterable[str] = ("E", "S"),
) -> dict[str, dict[str, float]]:
    """Computes recall@k of each query: |relevant in the top k| / |relevant|.

    Args:
        run: query id -> document ids, best first; a query that is missing scores 0.
        qrels: query id -> document id -> grade; a query without a relevant document is left out.
        cutoffs: values of k, each at least 1.
        relevant_labels: ESCI labels that count as relevant.

    Returns:
        Query id -> "recall@k" -> value in [0, 1], in the order of `qrels`.

    Raises:
        InputError: a ranking with a repeated document, no cutoff or one below 1, no label or an
            unknown one, or no query with a relevant document.
    """
    if not cutoffs or min(cutoffs) < 1:
        raise InputError("cutoffs", tuple(cutoffs), "integers of at least 1")
    relevant = keep_grades(qrels, relevant_grades(relevant_labels, "relevant_labels"))
    if not relevant:
        raise InputError("qrels", "no query with a relevant document", "at least one")
    return {
        query: _recall(query, run.get(query, ()), documents, cutoffs)
        for query, documents in relevant.items()
    }


def recall_at_k(
    run: Mapping[str, Sequence[str]],
    qrels: Qrels,
    cutoffs: Sequence[int] = CUTOFFS,
    relevant_labels: Iterable[str] = ("E", "S"),
) -> dict[str, float]:
    """Averages `recall_per_query`, whose arguments and errors it shares, over the queries.

    Returns:
        "recall@k" -> mean in [0, 1].
    """
    per_query = recall_per_query(run, qrels, cutoffs, relevant_labels)
    # fsum rounds once, so that the order of the queries does not change the mean.
    return {
        f"recall@{k}": math.fsum(row[f"recall@{k}"] for row in per_query.values()) / len(per_query)
        for k in cutoffs
    }


def trec_eval_order(ranking: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Orders (document id, score) as trec_eval does: by falling score, then by falling id."""
    by_id = sorted(ranking, key=lambda hit: hit[0], reverse=True)
    return sorted(by_id, key=lambda hit: -hit[1])


def _recall(
    query: str, ranking: Sequence[str], relevant: Mapping[str, int], cutoffs: Sequence[int]
) -> dict[str, float]:
    if len(set(ranking)) < len(ranking):
        twice = next(document for i, document in enumerate(ranking) if document in ranking[:i])
        raise InputError(f"query {query!r}", f"document {twice!r} twice", "it once")
    return {
        f"recall@{k}": sum(document in relevant for document in ranking[:k]) / len(relevant)
        for k in cutoffs
    }
