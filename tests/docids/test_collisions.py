"""Uniqueness in every case, and at how much extra error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from catid2_jax.docids.collisions import CollisionConfig, collision_rate, resolve_collisions
from catid2_jax.errors import InputError

CONFIG = CollisionConfig()


def nearest_codes(latents, codebooks):
    residual, codes = latents.copy(), []
    for codebook in codebooks:
        code = ((residual[:, None] - codebook[None]) ** 2).sum(axis=2).argmin(axis=1)
        residual = residual - codebook[code]
        codes.append(code)
    return np.stack(codes, axis=1)


def problem(documents, levels, codes, seed=0, distinct=None):
    generator = np.random.default_rng(seed)
    latents = generator.normal(size=(distinct or documents, 4)).astype(np.float32)
    latents = latents[generator.integers(len(latents), size=documents)] if distinct else latents
    codebooks = generator.normal(size=(levels, codes, 4)).astype(np.float32)
    codebooks *= 0.6 ** np.arange(levels, dtype=np.float32)[:, None, None]
    return latents, codebooks, nearest_codes(latents, codebooks)


def error(latents, codebooks, codes):
    chosen = sum(codebook[codes[:, i]] for i, codebook in enumerate(codebooks))
    return ((latents - chosen) ** 2).sum(axis=1)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.floats(0.01, 1.0),
    st.integers(1, 6),
    st.integers(0, 100),
)
def test_ids_are_unique_whatever_the_fill(codes, levels, fill, distinct, seed):
    documents = max(1, int(fill * codes**levels))
    latents, codebooks, before = problem(documents, levels, codes, seed, distinct)
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    assert after.shape == (documents, levels)
    assert len({tuple(row) for row in after}) == documents
    assert after.min() >= 0
    assert after.max() < codes


def test_every_id_taken_and_one_document_too_many():
    latents, codebooks, before = problem(27, 3, 3)
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    assert len({tuple(row) for row in after}) == 27
    latents, codebooks, before = problem(28, 3, 3)
    with pytest.raises(InputError, match=r"28 documents, expected at most K\^L = 3\^3 = 27"):
        resolve_collisions(latents, codebooks, before, CONFIG)


def test_documents_with_a_code_of_their_own_are_not_touched():
    latents, codebooks, before = problem(300, 3, 16, distinct=250)
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    _, inverse, counts = np.unique(before, axis=0, return_inverse=True, return_counts=True)
    alone = counts[inverse.ravel()] == 1
    assert 0 < alone.sum() < 300
    np.testing.assert_array_equal(after[alone], before[alone])


def test_added_error_is_within_one_percent_of_the_optimal_assignment():
    latents, codebooks, before = problem(400, 3, 16, seed=3)
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    moved = np.flatnonzero((after != before).any(axis=1))
    assert len(moved) > 20
    assert (after[moved, :2] == before[moved, :2]).all()  # no prefix here holds more than 16
    ours, optimal = 0.0, 0.0
    for prefix in {tuple(row[:2]) for row in before}:
        members = np.flatnonzero((before[:, :2] == prefix).all(axis=1))
        counts = np.bincount(before[members, 2], minlength=16)
        colliding = members[counts[before[members, 2]] > 1]
        if colliding.size == 0:
            continue
        free = np.flatnonzero(counts != 1)
        residual = latents[colliding] - codebooks[0][prefix[0]] - codebooks[1][prefix[1]]
        cost = ((residual[:, None] - codebooks[2][free][None]) ** 2).sum(axis=2)
        optimal += cost[linear_sum_assignment(cost)].sum()
        ours += error(latents[colliding], codebooks, after[colliding]).sum()
    start = error(latents, codebooks, before).sum()
    assert ours <= optimal * 1.01
    assert error(latents, codebooks, after).sum() > start  # being unique is not free


def test_an_overfull_prefix_hands_on_to_its_neighbours():
    latents = np.zeros((40, 2), np.float32)
    codebooks = np.random.default_rng(0).normal(size=(2, 8, 2)).astype(np.float32)
    after = resolve_collisions(latents, codebooks, nearest_codes(latents, codebooks), CONFIG)
    assert len({tuple(row) for row in after}) == 40
    assert np.bincount(after[:, 0], minlength=8).max() <= 8


def test_a_document_that_changes_its_prefix_is_quantised_anew_after_it():
    latents, codebooks, before = problem(40, 2, 8, seed=1)
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    moved = after[:, 0] != before[:, 0]
    assert moved.any()  # some first code was nearest to more than 8 documents
    expected = before.copy()
    residual = latents - codebooks[0][after[:, 0]]
    expected[:, 0] = after[:, 0]
    nearest = ((residual[:, None] - codebooks[1][None]) ** 2).sum(axis=2).argmin(axis=1)
    expected[moved, 1] = nearest[moved]
    _, inverse, counts = np.unique(expected, axis=0, return_inverse=True, return_counts=True)
    alone = counts[inverse.ravel()] == 1
    assert (alone & moved).any()
    np.testing.assert_array_equal(after[alone], expected[alone])


def test_collision_rate_by_hand():
    codes = np.array([[0, 1], [0, 1], [0, 2], [1, 1]])
    assert collision_rate(codes) == 0.5
    assert collision_rate(codes[1:]) == 0.0
