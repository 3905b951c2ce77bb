import math

import pytest

from catid2_jax.retrievers.bm25 import bm25_rankings

DOCUMENTS = [
    ("a", "red cotton shirt"),
    ("b", "blue cotton shirt shirt"),
    ("c", "steel kettle"),
    ("d", "garden hose for roses"),
]


def lucene_bm25(query, documents, k1=1.5, b=0.75):
    """BM25 as Lucene has it, the form that bm25s defaults to."""
    bags = {key: text.split() for key, text in documents}
    average = sum(map(len, bags.values())) / len(bags)
    scores = {}
    for key, words in bags.items():
        score = 0.0
        for word in query.split():
            n = sum(word in other for other in bags.values())
            tf = words.count(word)
            idf = math.log(1 + (len(bags) - n + 0.5) / (n + 0.5))
            score += idf * tf / (tf + k1 * (1 - b + b * len(words) / average))
        if score > 0:
            scores[key] = score
    return sorted(scores.items(), key=lambda item: -item[1])


def test_scores_are_those_of_the_formula():
    documents = [(key, text.replace(" for", "")) for key, text in DOCUMENTS]  # a stop word
    queries = [("q1", "cotton shirt"), ("q2", "kettle"), ("q3", "unheard of")]
    rankings = dict(bm25_rankings(DOCUMENTS, queries, k=10))
    for key, text in queries:
        expected = lucene_bm25(text, documents)
        assert [d for d, _ in rankings[key]] == [d for d, _ in expected]
        for (_, ours), (_, theirs) in zip(rankings[key], expected, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)
    assert rankings["q3"] == []


def test_k_is_the_most():
    assert len(dict(bm25_rankings(DOCUMENTS, [("q", "cotton")], k=1))["q"]) == 1
