"""Figures of IDs that may predict Recall without training stage 2.

They need the IDs, the vectors of products and queries, and judgements. A prefix is represented by
the mean of the vectors of its products, so that they are the same for IDs of any origin.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

NEIGHBORS = 10
CUTOFF = 10
PRIOR = 0.1  # share of a code's probability that comes from its frequency beneath its prefix


@dataclasses.dataclass(frozen=True)
class Judged:
    """Vectors [Q, D] of queries and the rows of their relevant products."""

    vectors: np.ndarray
    relevant: Sequence[Sequence[int]]


def proxies(codes: np.ndarray, vectors: np.ndarray, train: Judged, dev: Judged) -> dict[str, float]:
    """All of them, by name.

    Args:
        codes: IDs, int [N, L], of one length.
        vectors: of the products, [N, D].
        train: queries whose relevant products are known.
        dev: queries for which the figures are taken.
    """
    prefixes = prefix_numbers(codes)
    return {
        **{f"Gini {level + 1}": gini(np.bincount(prefixes[:, level])) for level in (0, 1)},
        **{f"hit {level + 1}": hit_rate(prefixes[:, level], vectors, dev) for level in (0, 1)},
        "oracle 1": oracle_recall(prefixes[:, 0], vectors, dev),
        "information": information(codes, prefixes, train, dev),
    }


def prefix_numbers(codes: np.ndarray) -> np.ndarray:
    """Numbers the distinct prefixes of each length, int [N, L]."""
    columns, parent = [], np.zeros(len(codes), np.int64)
    for column in codes.T:
        parent = np.unique(parent * (codes.max() + 2) + column + 1, return_inverse=True)[1].ravel()
        columns.append(parent)
    return np.stack(columns, axis=1)


def gini(counts: np.ndarray) -> float:
    """Computes the Gini coefficient of the sizes of groups: 0 if all are equal (FORGE, 2025)."""
    ordered = np.sort(counts).astype(np.float64)
    ranks = np.arange(1, len(ordered) + 1)
    return float(
        2 * np.sum(ranks * ordered) / (len(ordered) * ordered.sum()) - 1 - 1 / len(ordered)
    )


def centroids(groups: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Unit rows in the direction of the mean vector of each group."""
    members = csr_matrix((np.ones(len(groups)), (groups, np.arange(len(groups)))))
    return normalize(members @ vectors)


def hit_rate(groups: np.ndarray, vectors: np.ndarray, dev: Judged) -> float:
    """Share of relevant products whose prefix's centroid is among the nearest 10 of the query.

    FORGE (2025) takes the hit rate of quantised embeddings in the same spirit.
    """
    scores = normalize(dev.vectors) @ centroids(groups, vectors).T
    best = np.argsort(-scores, axis=1)[:, :CUTOFF]
    hits = [np.mean(np.isin(groups[list(rows)], best[i])) for i, rows in enumerate(dev.relevant)]
    return float(np.mean(hits))


def oracle_recall(groups: np.ndarray, vectors: np.ndarray, dev: Judged) -> float:
    """Recall@10 of ranking by cosine within the prefix that holds most of what is relevant."""
    unit, recalls = normalize(vectors), []
    for query, rows in zip(normalize(dev.vectors), dev.relevant, strict=True):
        held = np.bincount(groups[list(rows)])
        inside = np.flatnonzero(groups == held.argmax())
        top = inside[np.argsort(-(unit[inside] @ query))[:CUTOFF]]
        recalls.append(np.mean(np.isin(list(rows), top)))
    return float(np.mean(recalls))


def information(codes: np.ndarray, prefixes: np.ndarray, train: Judged, dev: Judged) -> float:
    """Mean bits that the 10 nearest training queries tell of the ID of a relevant product.

    The sum over the levels of log2 P(code | prefix, query) - log2 P(code | prefix): the first from
    the products of the neighbours that have the prefix, with a prior of the second, which counts
    the products of all training queries. It bounds the mutual information of IDs and queries from
    below.
    """
    search = NearestNeighbors(n_neighbors=NEIGHBORS).fit(normalize(train.vectors))
    near = search.kneighbors(normalize(dev.vectors), return_distance=False)
    seen = np.concatenate([np.asarray(rows) for rows in train.relevant])
    parents = np.concatenate([np.zeros((len(codes), 1), int), prefixes[:, :-1] + 1], axis=1)
    total, pairs = 0.0, 0
    frequency = [
        (
            np.bincount(prefixes[seen, level], minlength=prefixes[:, level].max() + 1),
            np.bincount(parents[seen, level], minlength=parents[:, level].max() + 1),
        )
        for level in range(codes.shape[1])
    ]
    for neighbors, rows in zip(near, dev.relevant, strict=True):
        around = np.concatenate([np.asarray(train.relevant[i]) for i in neighbors])
        for row in rows:
            pairs += 1
            for level, (of_prefix, of_parent) in enumerate(frequency):
                prefix, parent = prefixes[row, level], parents[row, level]
                prior = (of_prefix[prefix] + 1) / (of_parent[parent] + codes.max() + 1)
                beneath = np.sum(parents[around, level] == parent)
                here = np.sum(prefixes[around, level] == prefix)
                share = here / beneath if beneath else prior
                total += np.log2((1 - PRIOR) * share + PRIOR * prior) - np.log2(prior)
    return float(total / pairs)
