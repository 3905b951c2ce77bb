"""Quality figures against scikit-learn, pairs enumerated one by one, and figures worked by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from catid2_jax.docids.quality import (
    category_agreement,
    codebook_usage,
    common_prefixes,
    docid_quality,
    neighbor_pairs,
    quantization_error,
)


def labels(rows, length):
    """A label per distinct prefix of this length, in plain Python."""
    numbers = {}
    return [numbers.setdefault(tuple(row[:length]), len(numbers)) for row in rows.tolist()]


@st.composite
def catalogues(draw):
    """Codes [N, L] and categories [N, H] of a tree, IDs and paths of several lengths."""
    documents = draw(st.integers(1, 40))
    codebook_size, names = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    levels, depth = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    codes = generator.integers(codebook_size, size=(documents, levels))
    ends = generator.integers(draw(st.integers(1, levels)), levels + 1, size=documents)
    codes[np.arange(levels)[None, :] >= ends[:, None]] = -1
    paths = generator.integers(names, size=(documents, depth))
    nodes = np.stack([labels(paths, level) for level in range(1, depth + 1)], axis=1)
    shortest = draw(st.integers(0, depth))
    lengths = generator.integers(shortest, depth + 1, size=documents)
    nodes[np.arange(depth)[None, :] >= lengths[:, None]] = -1
    return codes, nodes


def test_usage_by_hand():
    usage = codebook_usage(np.array([[0, 0], [1, 0], [2, 0], [3, 1]]), codebook_size=8)
    assert usage["perplexity/level_1"] == pytest.approx(4.0)  # four codes, evenly
    assert usage["codes_used/level_1"] == 0.5
    assert usage["dead_codes/level_1"] == 4
    # Entropy of (3/4, 1/4) is 0.5623 nats.
    assert usage["perplexity/level_2"] == pytest.approx(1.7548, abs=1e-4)
    assert usage["codes_used/level_2"] == 0.25
    assert usage["dead_codes/level_2"] == 6


# Five IDs of one to three codes, one of them a prefix of two others; the last level reaches nobody.
UNEQUAL = np.array([[0, -1, -1, -1], [0, 1, -1, -1], [0, 1, 2, -1], [1, 1, 0, -1], [1, 1, 2, -1]])


def test_usage_of_ids_of_unequal_length_by_hand():
    usage = codebook_usage(UNEQUAL, codebook_size=4)
    assert {name.partition("/level_")[2] for name in usage} == {"1", "2", "3"}
    # Entropies of (3/5, 2/5) and of (1/3, 2/3) are 0.6730 and 0.6365 nats.
    assert usage["perplexity/level_1"] == pytest.approx(1.9601, abs=1e-4)
    assert usage["perplexity/level_2"] == 1.0
    assert usage["perplexity/level_3"] == pytest.approx(1.8899, abs=1e-4)
    assert [usage[f"codes_used/level_{level}"] for level in (1, 2, 3)] == [0.5, 0.25, 0.5]
    assert [usage[f"dead_codes/level_{level}"] for level in (1, 2, 3)] == [2, 3, 2]


def test_common_prefixes_of_ids_of_unequal_length_by_hand():
    near = np.array([[0, 1], [1, 2], [3, 4], [0, 0], [0, 3]])
    shared = common_prefixes(UNEQUAL, np.array([[0], [0], [0], [1], [-1]]), near)
    # Of ten pairs, 0-1 and 0-2 share one code, 1-2 and 3-4 two, the others none.
    assert shared["common_prefix/all_pairs"] == pytest.approx(6 / 10)
    assert shared["common_prefix/within_leaf"] == pytest.approx(4 / 3)
    assert shared["common_prefix/across_leaves"] == 0.0
    # An ID shares its only code with itself: its end is no code.
    assert shared["common_prefix/nearest_neighbors"] == pytest.approx((1 + 2 + 2 + 1 + 0) / 5)


def test_agreement_takes_an_ended_id_for_a_prefix_of_its_own():
    # The document that ends at level 1 is alone in its prefix of two codes, so all are pure.
    categories = np.array([[0, 0], [0, 1], [0, 1], [1, 2], [1, 2]])
    agreement = category_agreement(UNEQUAL, categories)
    assert agreement["category_purity/level_2"] == 1.0
    assert agreement["category_nmi/level_2"] == pytest.approx(1.0)
    joined = np.where(UNEQUAL < 0, 1, UNEQUAL)  # now it shares its prefix with two others
    assert category_agreement(joined, categories)["category_purity/level_2"] == 0.8


def test_quantization_error_document_by_document():
    generator = np.random.default_rng(0)
    latents = generator.normal(3.0, 2.0, size=(50, 4)).astype(np.float32)
    codebooks = generator.normal(size=(3, 6, 4)).astype(np.float32)
    codes = generator.integers(6, size=(50, 3))
    codes[:20, 2] = codes[:10, 1] = -1
    error = quantization_error(latents, codebooks, codes)
    z = latents.astype(np.float64)
    variance = sum(float((row - z.mean(axis=0)) @ (row - z.mean(axis=0))) for row in z)
    assert list(error) == [f"quantization_error/level_{level}" for level in (1, 2, 3)]
    for level in (1, 2, 3):
        left = 0.0
        for row, chosen in zip(z, codes, strict=True):
            vectors = [codebooks[i][chosen[i]] for i in range(level) if chosen[i] >= 0]
            rest = row - np.sum(vectors, axis=0, dtype=np.float64)
            left += float(rest @ rest)
        assert error[f"quantization_error/level_{level}"] == pytest.approx(left / variance)


def test_quantization_error_of_no_use_of_all_use_and_of_a_collapse():
    latents = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 3.0]], np.float32)
    codebooks = np.stack([np.tile(latents.mean(axis=0), (3, 1)), latents - latents.mean(axis=0)])
    error = quantization_error(latents, codebooks, np.array([[0, 0], [1, 1], [2, 2]]))
    assert error["quantization_error/level_1"] == pytest.approx(1.0)
    assert error["quantization_error/level_2"] == pytest.approx(0.0, abs=1e-12)
    scaled = quantization_error(10 * latents, 10 * codebooks, np.array([[0, 1], [1, 2], [2, 0]]))
    same = quantization_error(latents, codebooks, np.array([[0, 1], [1, 2], [2, 0]]))
    assert scaled == pytest.approx(same)
    constant = np.ones((4, 2), np.float32)
    collapsed = quantization_error(constant, np.ones((1, 2, 2)), np.zeros((4, 1), int))
    assert collapsed == {"quantization_error/level_1": 0.0}


def test_agreement_by_hand():
    codes = np.array([[0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [1, 1]])
    categories = np.array([[0, 0], [0, 1], [1, 2], [1, 2], [1, 2], [1, 3]])
    agreement = category_agreement(codes, categories)
    # Code 0 holds categories 0, 0, 1 and code 1 holds 1, 1, 1: 5 of 6 are of the commonest.
    assert agreement["category_purity/level_1"] == pytest.approx(5 / 6)
    # Prefixes 00: {0}, 01: {1, 2}, 10: {2, 2}, 11: {3}.
    assert agreement["category_purity/level_2"] == pytest.approx(5 / 6)
    cells = {(0, 0): 2, (0, 1): 1, (1, 1): 3}
    information = sum(
        n / 6 * np.log(6 * n / (3 * {0: 2, 1: 4}[category])) for (_, category), n in cells.items()
    )
    entropies = np.log(2), -(1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3))
    assert agreement["category_nmi/level_1"] == pytest.approx(information / np.mean(entropies))


@settings(max_examples=200, deadline=None)
@given(catalogues())
def test_agreement_is_scikit_learns_on_the_documents_that_have_the_level(catalogue):
    codes, categories = catalogue
    agreement = category_agreement(codes, categories)
    expected = {}
    for level in range(1, min(codes.shape[1], categories.shape[1]) + 1):
        known = categories[:, level - 1] >= 0
        if not known.any():
            continue
        prefixes = np.array(labels(codes, level))[known]
        nodes = categories[known, level - 1]
        commonest = sum(np.bincount(nodes[prefixes == p]).max() for p in set(prefixes.tolist()))
        expected[f"category_purity/level_{level}"] = commonest / known.sum()
        expected[f"category_nmi/level_{level}"] = normalized_mutual_info_score(nodes, prefixes)
        expected[f"category_ami/level_{level}"] = adjusted_mutual_info_score(nodes, prefixes)
    assert agreement == pytest.approx(expected, abs=1e-9)


def test_on_random_codes_only_the_adjusted_information_is_at_chance():
    generator = np.random.default_rng(0)
    codes = generator.integers(32, size=(3000, 3))
    leaves = generator.integers(50, size=3000)
    categories = np.stack([leaves // 25, leaves // 5, leaves], axis=1)
    agreement = category_agreement(codes, categories)
    for level in (1, 2, 3):
        prefixes = np.array(labels(codes, level))
        expected = adjusted_mutual_info_score(categories[:, level - 1], prefixes)
        assert agreement[f"category_ami/level_{level}"] == pytest.approx(expected, abs=1e-9)
        assert abs(agreement[f"category_ami/level_{level}"]) < 0.01
    assert agreement["category_purity/level_3"] > 0.9
    assert agreement["category_nmi/level_3"] > 0.5


def common_length(first, second):
    equal = (a == b >= 0 for a, b in zip(first, second, strict=True))
    return sum(itertools.takewhile(bool, equal))


def mean_common_length(codes, pairs):
    return sum(common_length(codes[i], codes[j]) for i, j in pairs) / len(pairs)


@settings(max_examples=200, deadline=None)
@given(catalogues(), st.integers(0, 100))
def test_common_prefixes_are_those_of_all_pairs_enumerated(catalogue, seed):
    codes, categories = catalogue
    pairs = list(itertools.combinations(range(len(codes)), 2))
    categorised = [(i, j) for i, j in pairs if categories[i][0] >= 0 and categories[j][0] >= 0]
    same = [(i, j) for i, j in categorised if (categories[i] == categories[j]).all()]
    near = np.random.default_rng(seed).integers(len(codes), size=(seed % 7, 2))
    groups = {
        "all_pairs": pairs,
        "within_leaf": same,
        "across_leaves": sorted(set(categorised) - set(same)),
        "nearest_neighbors": near.tolist(),
    }
    expected = {
        f"common_prefix/{name}": mean_common_length(codes.tolist(), group)
        for name, group in groups.items()
        if group
    }
    assert common_prefixes(codes, categories, near) == pytest.approx(expected)


def test_counts_of_pairs_do_not_overflow():
    codes = np.zeros((200_000, 2), np.int32)
    codes[:, 1] = np.arange(200_000)  # as many codes as documents
    categories = np.stack([np.zeros(200_000, np.int32), np.arange(200_000, dtype=np.int32)], axis=1)
    shared = common_prefixes(codes, categories)
    assert shared == {"common_prefix/all_pairs": 1.0, "common_prefix/across_leaves": 1.0}


def nearest_by_cosine(embeddings, row, candidates):
    def cosine(other):
        x, y = embeddings[row].astype(np.float64), embeddings[other].astype(np.float64)
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    return sorted((other for other in candidates if other != row), key=cosine, reverse=True)


def test_neighbors_are_the_nearest_by_cosine():
    generator = np.random.default_rng(1)
    embeddings = generator.normal(size=(60, 5)).astype(np.float32)
    embeddings *= generator.uniform(0.1, 10, size=(60, 1)).astype(np.float32)
    embeddings[[7, 30]] = 0.0
    candidates = [i for i in range(60) if i not in (7, 30)]
    pairs = neighbor_pairs(embeddings, documents=40, neighbors=3, seed=5)
    assert pairs.shape == (120, 2)
    sampled = pairs[::3, 0]
    assert len(set(sampled.tolist())) == 40
    for row in sampled:
        found = pairs[pairs[:, 0] == row, 1].tolist()
        assert found == nearest_by_cosine(embeddings, row, candidates)[:3]
    np.testing.assert_array_equal(pairs, neighbor_pairs(embeddings, 40, 3, seed=5))
    other = neighbor_pairs(embeddings, 40, 3, seed=6)
    assert set(other[:, 0].tolist()) != set(sampled.tolist())


def test_neighbors_of_equal_documents_and_of_few():
    equal = np.ones((30, 4), np.float32)
    pairs = neighbor_pairs(equal, documents=30, neighbors=2)
    assert pairs.shape == (60, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    few = np.eye(3, dtype=np.float32)
    pairs = neighbor_pairs(few, documents=10, neighbors=10)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert neighbor_pairs(few[:1]).shape == (0, 2)
    assert neighbor_pairs(np.zeros((5, 4), np.float32)).shape == (0, 2)


def test_quality_is_what_the_arguments_allow():
    generator = np.random.default_rng(2)
    codes = generator.integers(4, size=(30, 3))
    categories = generator.integers(3, size=(30, 2))
    pairs = neighbor_pairs(generator.normal(size=(30, 4)), neighbors=2)
    usage = codebook_usage(codes, 6)
    agreement = category_agreement(codes, categories)
    assert docid_quality(codes, 6) == usage | common_prefixes(codes)
    without_pairs = usage | agreement | common_prefixes(codes, categories)
    assert docid_quality(codes, 6, categories=categories) == without_pairs
    assert docid_quality(codes, 6, neighbors=pairs) == usage | common_prefixes(codes, None, pairs)
    everything = usage | agreement | common_prefixes(codes, categories, pairs)
    assert docid_quality(codes, 6, categories, pairs) == everything
    assert all(type(value) is float for value in everything.values())
