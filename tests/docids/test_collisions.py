"""Uniqueness in every case, and the extra error that it costs."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from catid2_jax.docids import collisions
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
    st.sampled_from([1, 2, 5]),
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
    with pytest.raises(InputError) as error:
        resolve_collisions(latents, codebooks, before, CONFIG)
    expected = "at most K^L = 3^3 = 27: raise codebook_size or levels"
    assert error.value.args == ("", "28 documents", expected)


def test_documents_with_a_code_of_their_own_are_not_touched():
    latents, codebooks, before = problem(1500, 3, 16, distinct=1300)
    assert not prefixes_with_room(before, 16).all()  # not even where a prefix is overfull
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    _, inverse, counts = np.unique(before, axis=0, return_inverse=True, return_counts=True)
    alone = counts[inverse.ravel()] == 1
    assert 0 < alone.sum() < 1500
    np.testing.assert_array_equal(after[alone], before[alone])


def crowded(documents, levels, codes, seed):
    """A mixture with a tail of exact and near duplicates; a tenth to a third of it collides."""
    generator = np.random.default_rng(seed)
    latents, codebooks, _ = problem(documents, levels, codes, seed)
    copies = generator.integers(documents, size=documents // 10)
    sources = generator.zipf(1.8, size=len(copies)) % documents
    latents[copies] = latents[sources]
    latents[copies[::2]] += 1e-3 * generator.normal(size=(len(copies[::2]), 4)).astype(np.float32)
    return latents, codebooks, nearest_codes(latents, codebooks)


def last_level_groups(latents, codebooks, before, taken=()):
    """Per prefix: its documents that collide, its free codes, and the true costs [R, free]."""
    prefixes = {tuple(row[:-1]) for row in before}
    everyone = [*map(tuple, before), *map(tuple, taken)]
    for prefix in sorted(prefixes):
        members = np.flatnonzero((before[:, :-1] == prefix).all(axis=1))
        held = [row[-1] for row in everyone if row[:-1] == prefix]
        counts = np.bincount(held, minlength=codebooks.shape[1])
        colliding = members[counts[before[members, -1]] > 1]
        if colliding.size == 0:
            continue
        kept = set(before[np.setdiff1d(members, colliding), -1])
        kept |= {row[-1] for row in map(tuple, taken) if row[:-1] == prefix}
        free = np.array(sorted(set(range(codebooks.shape[1])) - kept))
        vectors = sum(book[code] for book, code in zip(codebooks[:-1], prefix, strict=True))
        residual = (latents[colliding] - vectors).astype(np.float64)
        yield colliding, free, ((residual[:, None] - codebooks[-1][free][None]) ** 2).sum(axis=2)


@pytest.mark.parametrize("seed", range(4))
def test_added_error_of_every_group_is_within_one_percent_of_the_optimal_assignment(seed):
    latents, codebooks, before = crowded(1500, 3, 16, seed)
    before = before[(keep := prefixes_with_room(before, 16))]
    latents = latents[keep]
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    groups = 0
    for rows, free, cost in last_level_groups(latents, codebooks, before):
        nearest = cost.min(axis=1).sum()  # the code that they share is free, and nearest
        optimum = cost[linear_sum_assignment(cost)].sum()
        ours = cost[np.arange(len(rows)), np.searchsorted(free, after[rows, 2])].sum()
        assert nearest < optimum
        assert ours - nearest <= 1.01 * (optimum - nearest) + 1e-5
        groups += 1
    assert groups > 50
    extra = error(latents, codebooks, after).sum() - error(latents, codebooks, before).sum()
    assert extra > 0


def prefixes_with_room(codes, codebook_size):
    """Rows whose prefix holds no more documents than it has IDs."""
    _, which, counts = np.unique(codes[:, :-1], axis=0, return_inverse=True, return_counts=True)
    return counts[which.ravel()] <= codebook_size


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 4), st.booleans(), st.integers(0, 10**6))
def test_a_proposal_stands_only_if_it_is_within_one_percent(documents, spare, alike, seed):
    # Whatever the prices are: it is the bound that they imply that decides.
    generator = np.random.default_rng(seed)
    codes = documents + spare
    cost = generator.random((1, documents, codes)).astype(np.float32)
    capacity = np.ones((1, codes), np.int64)
    capacity[0, generator.permutation(codes)[: spare // 2]] = 0
    scale = 1e-3 if alike else 1.0
    prices = np.where(capacity > 0, scale * generator.random((1, codes)), np.inf)
    present = np.ones((1, documents), bool)
    chosen = collisions._assign_exactly(cost, present, capacity, prices)[0]
    assert len(set(chosen)) == documents
    assert capacity[0, chosen].all()
    free = cost[0][:, capacity[0] > 0]
    nearest, optimum = free.min(axis=1).sum(), free[linear_sum_assignment(free)].sum()
    ours = cost[0, np.arange(documents), chosen].sum()
    assert ours - nearest <= 1.01 * (optimum - nearest) + 1e-5


def test_sinkhorn_s_proposal_stands_where_nothing_is_gained_by_more(monkeypatch):
    latents, codebooks, before = problem(1500, 3, 16, seed=2)
    before = before[(keep := prefixes_with_room(before, 16))]
    calls = []

    def counted(cost):
        calls.append(cost)
        return linear_sum_assignment(cost)

    monkeypatch.setattr(collisions, "linear_sum_assignment", counted)
    resolve_collisions(latents[keep], codebooks, before, CONFIG)
    groups = len(list(last_level_groups(latents[keep], codebooks, before)))
    assert 0 < len(calls) < 0.8 * groups
    # The exact completion is bounded: a group has no more documents than there are codes.
    assert max(len(cost) for cost in calls) <= 16


@pytest.mark.parametrize("sample", [4096, 16])
def test_an_overfull_prefix_gives_up_those_who_lose_least(sample, monkeypatch):
    monkeypatch.setattr(collisions, "_SAMPLE", sample)
    ours = nearest = optimum = 0.0
    for seed in range(3):
        latents, codebooks, before = problem(200, 2, 16, seed)
        after = resolve_collisions(latents, codebooks, before, CONFIG)
        _, which, sharing = np.unique(before, axis=0, return_inverse=True, return_counts=True)
        alone = sharing[which.ravel()] == 1
        counts = np.bincount(before[:, 0], minlength=16)
        moving = np.flatnonzero((counts[before[:, 0]] > 16) & ~alone)
        room = 16 - counts + np.bincount(before[moving, 0], minlength=16)
        cost = ((latents[moving, None] - codebooks[0][None]) ** 2).sum(axis=2)
        places = cost[:, np.repeat(np.arange(16), room)]
        optimum += places[linear_sum_assignment(places)].sum()
        nearest += cost.min(axis=1).sum()
        ours += cost[np.arange(len(moving)), after[moving, 0]].sum()
        np.testing.assert_array_equal(
            np.delete(after[:, 0], moving), np.delete(before[:, 0], moving)
        )
    # Of a sample, the prices are guesses.
    assert ours - nearest <= (1.05 if sample == 4096 else 1.6) * (optimum - nearest)


@pytest.mark.parametrize("levels", [1, 3])
def test_documents_that_are_all_the_same_get_the_nearest_last_codes(levels):
    latents, codebooks, before = problem(9, levels, 16, distinct=1)
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    np.testing.assert_array_equal(after[:, :-1], before[:, :-1])
    choices = np.tile(before[:1], (16, 1))
    choices[:, -1] = np.arange(16)
    errors = error(np.tile(latents[:1], (16, 1)), codebooks, choices)
    assert set(after[:, -1]) == set(np.argsort(errors)[:9])


def test_twins_of_documents_that_collide_are_spread_too():
    latents, codebooks, before = problem(100, 3, 16, seed=4, distinct=90)
    assert collision_rate(before) > 0
    latents, before = np.tile(latents, (20, 1)), np.tile(before, (20, 1))
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    assert len({tuple(row) for row in after}) == 2000
    again = resolve_collisions(latents, codebooks, before, CONFIG)
    np.testing.assert_array_equal(after, again)


@pytest.mark.parametrize("cells", [1, 5000])
def test_how_much_is_done_at_once_changes_nothing(cells, monkeypatch):
    latents, codebooks, before = crowded(1500, 3, 16, seed=5)
    assert not prefixes_with_room(before, 16).all()  # so upper levels are at work too
    expected = resolve_collisions(latents, codebooks, before, CONFIG)
    monkeypatch.setattr(collisions, "_CELLS_AT_ONCE", cells)
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    np.testing.assert_array_equal(after, expected)


def test_the_order_of_distinct_documents_does_not_matter():
    latents, codebooks, before = problem(1500, 3, 16, seed=6)
    order = np.random.default_rng(0).permutation(1500)
    after = resolve_collisions(latents, codebooks, before, CONFIG)
    shuffled = resolve_collisions(latents[order], codebooks, before[order], CONFIG)
    np.testing.assert_array_equal(shuffled, after[order])


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([2, 5]), st.integers(1, 3), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99)
)
def test_no_document_gets_an_id_that_is_taken(codes, levels, fill, share, seed):
    generator = np.random.default_rng(seed)
    everything = np.array(list(itertools.product(range(codes), repeat=levels)))
    used = max(1, int(fill * len(everything)))
    documents = max(1, int(share * used))
    latents, codebooks, before = problem(documents, levels, codes, seed)
    taken = generator.permutation(everything)[: used - documents]
    after = resolve_collisions(latents, codebooks, before, CONFIG, taken)
    assert after.shape == before.shape
    assert len({tuple(row) for row in [*after, *taken]}) == used
    everyone = [tuple(row) for row in [*before, *taken]]
    alone = [row for row in range(documents) if everyone.count(everyone[row]) == 1]
    np.testing.assert_array_equal(after[alone], before[alone])


def test_around_taken_ids_the_added_error_is_the_least_too():
    latents, codebooks, before = problem(1500, 3, 16, seed=7)
    before = before[(keep := prefixes_with_room(before, 16))]
    latents = latents[keep]
    taken = resolve_collisions(latents, codebooks, before, CONFIG)[:700]
    latents, before = latents[700:], before[700:]
    after = resolve_collisions(latents, codebooks, before, CONFIG, taken)
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    groups = list(last_level_groups(latents, codebooks, before, taken))
    assert len(groups) > 10
    for rows, free, cost in groups:
        nearest, optimum = cost.min(axis=1).sum(), cost[linear_sum_assignment(cost)].sum()
        ours = cost[np.arange(len(rows)), np.searchsorted(free, after[rows, 2])].sum()
        assert ours - nearest <= 1.01 * (optimum - nearest) + 1e-5


def test_one_id_too_few_beside_those_taken():
    latents, codebooks, before = problem(5, 2, 3)
    taken = np.array([[0, 0], [0, 1], [1, 1], [2, 2]])
    after = resolve_collisions(latents, codebooks, before, CONFIG, taken)
    assert len({tuple(row) for row in [*after, *taken]}) == 9
    taken = np.array([[0, 0], [0, 1], [1, 1], [2, 2], [2, 1]])
    with pytest.raises(InputError, match=r"found 10 documents, expected at most K\^L = 3\^2 = 9:"):
        resolve_collisions(latents, codebooks, before, CONFIG, taken)


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


@pytest.mark.parametrize(
    ("name", "least"), [("sinkhorn_epsilon", "more than 0"), ("sinkhorn_iterations", "at least 1")]
)
def test_settings_that_are_not_positive_are_refused(name, least):
    with pytest.raises(InputError) as error:
        CollisionConfig(**{name: 0})
    assert error.value.args == (name, "0", least)


def test_collision_rate_by_hand():
    codes = np.array([[0, 1], [0, 1], [0, 2], [1, 1]])
    assert collision_rate(codes) == 0.5
    assert collision_rate(codes[1:]) == 0.0
