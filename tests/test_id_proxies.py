"""The figures of benchmarks/id_proxies.py beside their definitions, written out."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "benchmarks"))
import id_proxies
from id_proxies import Judged


@pytest.fixture
def example():
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 3, (40, 3))
    vectors = generator.normal(size=(40, 6))

    def judged(count):
        relevant = [generator.choice(40, 1 + i % 3, replace=False).tolist() for i in range(count)]
        near = np.array([vectors[rows].mean(axis=0) for rows in relevant])
        return Judged(near + 0.3 * generator.normal(size=near.shape), relevant)

    return codes, vectors, judged(30), judged(12)


def cosines(query, rows):
    return rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


def test_gini_is_half_the_mean_difference_over_the_mean():
    counts = np.array([5, 1, 1, 9, 4])
    differences = np.abs(counts[:, None] - counts[None]).mean()
    assert id_proxies.gini(counts) == pytest.approx(differences / counts.mean() / 2)
    assert id_proxies.gini(np.full(7, 3)) == pytest.approx(0)


def test_prefixes_are_numbered_alike_where_they_are_alike(example):
    codes = example[0]
    numbers = id_proxies.prefix_numbers(codes)
    for level in range(3):
        same = (codes[:, None, : level + 1] == codes[None, :, : level + 1]).all(axis=-1)
        np.testing.assert_array_equal(numbers[:, level][:, None] == numbers[:, level][None], same)


def test_hit_rate_and_oracle_by_loops(example, monkeypatch):
    codes, vectors, _, dev = example
    monkeypatch.setattr(id_proxies, "CUTOFF", 2)
    groups = id_proxies.prefix_numbers(codes)[:, 1]
    means = np.array([vectors[groups == g].mean(axis=0) for g in range(groups.max() + 1)])
    hits, recalls = [], []
    for query, rows in zip(dev.vectors, dev.relevant, strict=True):
        best = np.argsort(-cosines(query, means))[:2]
        hits.append(np.mean([groups[row] in best for row in rows]))
        most = max(range(len(means)), key=lambda g: sum(groups[row] == g for row in rows))
        inside = np.flatnonzero(groups == most)
        top = inside[np.argsort(-cosines(query, vectors[inside]))[:2]]
        recalls.append(np.mean([row in top for row in rows]))
    assert id_proxies.hit_rate(groups, vectors, dev) == pytest.approx(np.mean(hits))
    assert id_proxies.oracle_recall(groups, vectors, dev) == pytest.approx(np.mean(recalls))


def test_information_by_loops(example, monkeypatch):
    codes, _, train, dev = example
    monkeypatch.setattr(id_proxies, "NEIGHBORS", 4)
    seen = [row for rows in train.relevant for row in rows]
    bits = []
    for query, rows in zip(dev.vectors, dev.relevant, strict=True):
        near = np.argsort(-cosines(query, train.vectors))[:4]
        around = [row for i in near for row in train.relevant[i]]
        for row in rows:
            bits.append(0.0)
            for level in range(3):

                def count(pool, length, row=row):
                    return sum((codes[p][:length] == codes[row][:length]).all() for p in pool)

                prior = (count(seen, level + 1) + 1) / (count(seen, level) + 3)
                beneath = count(around, level)
                share = count(around, level + 1) / beneath if beneath else prior
                bits[-1] += np.log2((0.9 * share + 0.1 * prior) / prior)
    prefixes = id_proxies.prefix_numbers(codes)
    found = id_proxies.information(codes, prefixes, train, dev)
    assert found == pytest.approx(np.mean(bits))
