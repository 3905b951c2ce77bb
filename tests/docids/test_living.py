"""Who keeps, who gets back and who may be given which ID, update after update."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from catid2_jax.docids.collisions import CollisionConfig
from catid2_jax.docids.living import (
    RestingIds,
    no_resting_ids,
    read_resting,
    resting_path,
    update_docids,
    write_resting,
)
from catid2_jax.docids.table import DocidTable, read_docids, write_docids
from catid2_jax.errors import InputError

CONFIG = CollisionConfig()
# Four codes far apart, then four a tenth of that: 16 IDs.
CODEBOOKS = np.array([[[-3], [-1], [1], [3]], [[-0.3], [-0.1], [0.1], [0.3]]], np.float32)
NAMES = "abcdefgh"


def nearest_codes(latents, codebooks=CODEBOOKS):
    residual, codes = np.array(latents, np.float32), []
    for codebook in codebooks:
        code = ((residual[:, None] - codebook[None]) ** 2).sum(axis=2).argmin(axis=1)
        residual = residual - codebook[code]
        codes.append(code)
    return np.stack(codes, axis=1)


def update(table, resting, places, grace=1, codebooks=CODEBOOKS):
    """`places`: where each product's latent is."""
    latents = np.array([np.atleast_1d(z) for z in places.values()], np.float32)
    latents = latents.reshape(len(places), codebooks.shape[2])
    nearest = nearest_codes(latents, codebooks)
    return update_docids(table, resting, list(places), latents, codebooks, nearest, CONFIG, grace)


def nothing(levels=2):
    """The table before there was any product."""
    return DocidTable([], np.empty((0, levels), np.int32)), no_resting_ids(levels)


def as_dict(table):
    return dict(zip(table.ids, map(tuple, table.codes.tolist()), strict=True))


# Three latents share their nearest codes, a fourth those of the last level only.
PLACES = st.sampled_from([-3.3, -3.28, -3.31, -2.9, -1.1, 0.9, 3.0])
CATALOGUES = st.lists(
    st.dictionaries(st.sampled_from(NAMES), PLACES, min_size=1), min_size=2, max_size=7
)


@settings(max_examples=60, deadline=None)
@given(CATALOGUES, st.integers(0, 3))
def test_nobody_else_s_id_moves_and_no_id_is_reused_too_early(catalogues, grace):
    table, resting = nothing()
    owned, freed = {}, {}  # product -> (ID, nearest); ID -> (product, nearest, update)
    for now, places in enumerate(catalogues):
        nearest = {name: tuple(nearest_codes([[z]])[0]) for name, z in places.items()}
        kept = {name: code for name, (code, near) in owned.items() if nearest.get(name) == near}
        for name, (code, near) in owned.items():
            if name not in kept:
                freed[code] = (name, near, now)
        back = {
            name: code
            for code, (name, near, then) in freed.items()
            if then < now <= then + grace and name not in kept and nearest.get(name) == near
        }
        barred = {c for c, (_, _, then) in freed.items() if now < then + grace} - set(back.values())
        coming = places.keys() - kept.keys() - back.keys()
        before = set(owned)
        if len(kept) + len(back) + len(barred) + len(coming) > 16:
            with pytest.raises(InputError, match=f"found {len(coming)} new and changed products"):
                update(table, resting, places, grace)
            return
        table, resting, counts = update(table, resting, places, grace)
        given_ids = as_dict(table)

        assert list(table.ids) == list(places)
        assert len(set(given_ids.values())) == len(places)
        assert {name: given_ids[name] for name in kept} == kept
        assert {name: given_ids[name] for name in back} == back
        assert not barred & set(given_ids.values())
        left = {
            code: (name, near, then + grace - now)
            for code, (name, near, then) in freed.items()
            if code in barred
        }
        rows = zip(resting.ids, resting.nearest, resting.updates_left, strict=True)
        found = [(name, tuple(near), updates) for name, near, updates in rows]
        assert dict(zip(map(tuple, resting.codes), found, strict=True)) == left
        assert counts == {
            "products_kept": len(kept),
            "products_returned": len(back),
            "products_changed": len(coming & before),
            "products_new": len(coming - before),
            "products_removed": len(before - places.keys()),
            "resting_ids": len(left),
        }
        owned = {name: (given_ids[name], nearest[name]) for name in places}
        freed = {code: row for code, row in freed.items() if code in barred}


@settings(max_examples=30, deadline=None)
@given(CATALOGUES, st.integers(0, 1), st.randoms(use_true_random=False))
def test_the_order_of_the_catalogue_does_not_matter(catalogues, grace, random):
    states = [nothing(), nothing()]
    for places in catalogues:
        names = list(places)
        random.shuffle(names)
        orders = (places, {name: places[name] for name in names})
        states = [update(*s, order, grace)[:2] for s, order in zip(states, orders, strict=True)]
        assert as_dict(states[0][0]) == as_dict(states[1][0])


@pytest.mark.parametrize("grace", [0, 1, 2, 3])
def test_a_freed_id_is_given_away_when_its_rest_is_over_and_not_before(grace):
    everything = {f"p{i}": float(z) for i, z in enumerate((-3.3, -3.1, -2.9, -2.7))}
    codebooks = CODEBOOKS[:, :1] * [[[1]], [[0]]] + np.array([[[0]] * 4, CODEBOOKS[1]])
    codebooks = np.array(codebooks, np.float32)  # four codes on level 1 alike: 16 IDs, 4 places
    table, resting, _ = update(
        *nothing(),
        {f"{n}{i}": z for i in range(4) for n, z in everything.items()},
        grace,
        codebooks,
    )
    gone = table.ids[5]
    code = as_dict(table)[gone]
    places = {name: everything[name[:2]] for name in table.ids if name != gone}
    for now in range(grace + 1):
        added = places | {"newcomer": 5.0}
        if now < grace:
            with pytest.raises(
                InputError,
                match=r"found 1 new and changed products, expected at most 0: of K\^L = 4\^2 IDs "
                r"15 are in use and 1 rest; let IDs rest for fewer updates",
            ):
                update(table, resting, added, grace, codebooks)
            table, resting, _ = update(table, resting, places, grace, codebooks)
            assert resting.updates_left.tolist() == [grace - now]
        else:
            table, resting, _ = update(table, resting, added, grace, codebooks)
    assert as_dict(table)["newcomer"] == code
    assert len(resting.ids) == 0


def test_a_product_that_comes_back_changed_gets_another_id():
    table, resting, _ = update(*nothing(), {"a": -3.3, "b": 1.0}, grace=5)
    was = as_dict(table)["a"]
    table, resting, _ = update(table, resting, {"b": 1.0}, grace=5)
    changed, rests, counts = update(table, resting, {"a": 3.0, "b": 1.0}, grace=5)
    assert as_dict(changed)["a"] != was
    assert counts["products_new"] == 1
    assert rests.updates_left.tolist() == [4]
    # Back to what it was, it is at home again, and the ID that it had meanwhile rests.
    home, rests, counts = update(changed, rests, {"a": -3.3, "b": 1.0}, grace=5)
    assert as_dict(home)["a"] == was
    assert counts["products_returned"] == 1
    assert [tuple(row) for row in rests.codes] == [as_dict(changed)["a"]]
    assert rests.updates_left.tolist() == [5]


def test_an_own_id_is_taken_back_before_others_are_served():
    table, resting, _ = update(*nothing(), {"z": -3.3, "b": 1.0})
    was = as_dict(table)["z"]
    table, resting, _ = update(table, resting, {"b": 1.0})
    both = {"a": -3.3, "b": 1.0, "z": -3.3}
    assert as_dict(update(table, resting, both)[0])["z"] == was
    # An update later it is anybody's.
    table, resting, _ = update(table, resting, {"b": 1.0})
    assert len(resting.ids) == 0
    assert as_dict(update(table, resting, {"a": -3.3, "b": 1.0})[0])["a"] == was


def test_newcomers_get_the_nearest_ids_that_are_free():
    generator = np.random.default_rng(0)
    codebooks = generator.normal(size=(1, 32, 3)).astype(np.float32)
    old = {f"old{i}": generator.normal(size=3) for i in range(12)}
    table, resting, _ = update(*nothing(1), old, codebooks=codebooks)
    gone = {"old3", "old7"}
    stay = {name: z for name, z in old.items() if name not in gone}
    new = {f"new{i}": generator.normal(size=3) for i in range(15)}
    before = as_dict(table)
    after = as_dict(update(table, resting, stay | new, codebooks=codebooks)[0])
    assert {name: after[name] for name in stay} == {name: before[name] for name in stay}

    # Whose nearest code is free and nobody else's has it; the others are assigned at least cost.
    nearest = {name: int(nearest_codes([z], codebooks)[0, 0]) for name, z in new.items()}
    taken = {code for (code,) in before.values()}
    rivals = [n for n in new if nearest[n] in taken or [*nearest.values()].count(nearest[n]) > 1]
    assert 3 < len(rivals) < 15
    for name in new.keys() - set(rivals):
        assert after[name] == (nearest[name],)
    held = taken | {nearest[name] for name in new.keys() - set(rivals)}
    free = [code for code in range(32) if code not in held]
    vectors = np.array([new[name] for name in rivals])
    cost = ((vectors[:, None] - codebooks[0][free][None]) ** 2).sum(axis=2)
    least = cost[linear_sum_assignment(cost)].sum()
    codes = [free.index(after[name][0]) for name in rivals]
    assert cost[np.arange(len(rivals)), codes].sum() <= 1.01 * least


def test_a_twin_of_a_product_is_put_beside_it_and_who_was_moved_stays_where_it_is():
    table, resting, _ = update(*nothing(), {"a": -3.3, "b": -3.3, "c": -3.3})
    assert sorted(as_dict(table).values()) == [(0, 0), (0, 1), (0, 2)]
    # The nearest code of all three is one; it being free again moves nobody.
    owner = {code: name for name, code in as_dict(table).items()}
    stay = {owner[0, 1]: -3.3, owner[0, 2]: -3.3}
    table, resting, counts = update(table, resting, stay, grace=0)
    assert as_dict(table) == {owner[0, 1]: (0, 1), owner[0, 2]: (0, 2)}
    assert counts["products_kept"] == 2
    table, *_ = update(table, resting, stay | {"d": -3.3}, grace=0)
    assert as_dict(table)["d"] == (0, 0)


def test_rounding_is_no_change():
    # A latent between two codes, on both levels; first nearer to the upper ones.
    table, resting, _ = update(*nothing(), {"a": 2.0 + 2e-6})
    assert as_dict(table)["a"] == (3, 0)
    for shift, kept in ((-2e-6, True), (-1e-3, False)):
        new, _, counts = update(table, resting, {"a": 2.0 + shift})
        assert tuple(nearest_codes([[2.0 + shift]])[0]) == (2, 3)
        assert counts["products_kept"] == kept
        assert as_dict(new)["a"] == ((3, 0) if kept else (2, 3))
        # What it was made from is remembered, so that many small shifts do not add up.
        np.testing.assert_array_equal(new.nearest, [[3, 0]] if kept else [[2, 3]])
    # On the last level alone.
    table, resting, _ = update(*nothing(), {"a": 3.2 + 1e-6})
    assert as_dict(table)["a"] == (3, 3)
    assert update(table, resting, {"a": 3.2 - 1e-6})[2]["products_kept"] == 1
    assert update(table, resting, {"a": 3.2 - 1e-3})[2]["products_changed"] == 1
    # A tie on level 1, and a change on level 2 of the path that it had.
    table, resting, _ = update(*nothing(), {"a": 2.0 + 2e-6})
    table = DocidTable(table.ids, table.codes, np.array([[3, 2]], np.int32))
    assert update(table, resting, {"a": 2.0 - 2e-6})[2]["products_changed"] == 1


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        ([[0, -1], [0, 1]], "IDs of [1, 2] codes in a table of 2 levels"),
        ([[0, 1, 2]], "IDs of [3] codes in a table of 3 levels"),
        (np.empty((0, 1), np.int32), "IDs of [] codes in a table of 1 levels"),
    ],
)
def test_ids_that_have_not_a_code_per_codebook_are_refused(codes, found):
    table = DocidTable(list(NAMES[: len(codes)]), np.array(codes))
    with pytest.raises(InputError) as error:
        update(table, no_resting_ids(2), {"a": -3.3})
    expected = "2 codes in every ID, one per codebook"
    assert error.value.args == ("previous", found, expected)


def test_a_new_table_has_the_codebooks_size():
    assert update(*nothing(), {"a": -3.3})[0].codebook_size == 4


def test_tables_that_know_no_nearest_codes_were_made_from_their_own():
    table = DocidTable(["a", "b"], np.array([[0, 0], [0, 1]], np.int32))
    new, _, counts = update(table, no_resting_ids(2), {"a": -3.3, "b": 3.3})
    assert counts["products_kept"] == counts["products_changed"] == 1
    assert as_dict(new) == {"a": (0, 0), "b": (3, 3)}


CODES = st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=2, max_size=12, unique=True)


@given(CODES, st.data())
def test_files_round_trip(tmp_path_factory, rows, data):
    codes = np.array(rows, np.int32)
    nearest = codes.copy()
    nearest[data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))] += 1
    cut = data.draw(st.integers(1, len(rows)))
    names = [f"é{i % 3}" for i in range(len(rows))]
    left = np.arange(1, len(rows) + 1, dtype=np.int32)
    table = DocidTable([f"p{i}" for i in range(cut)], codes[:cut], nearest[:cut])
    resting = RestingIds(names[cut:], codes[cut:], nearest[cut:], left[cut:])
    path = tmp_path_factory.mktemp("docids") / "docids.jsonl"
    write_docids(path, table)
    write_resting(resting_path(path), resting)

    again = read_docids(path)
    assert list(again.ids) == table.ids
    np.testing.assert_array_equal(again.codes, table.codes)
    np.testing.assert_array_equal(again.nearest, table.nearest)
    rests = read_resting(resting_path(path), again)
    assert list(rests.ids) == list(resting.ids)
    for name in ("codes", "nearest", "updates_left"):
        np.testing.assert_array_equal(getattr(rests, name), getattr(resting, name))
        assert getattr(rests, name).dtype == np.int32


def test_what_stands_in_the_files(tmp_path):
    path = tmp_path / "docids.jsonl"
    codes = np.array([[1, 2], [3, 4]], np.int32)
    write_docids(path, DocidTable(["a", "b"], codes, np.array([[1, 2], [3, 3]], np.int32)))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"id": "a", "codes": [1, 2], "docid": "<a_1><b_2>"},
        {"id": "b", "codes": [3, 4], "docid": "<a_3><b_4>", "nearest": [3, 3]},
    ]
    assert resting_path(path) == tmp_path / "docids.resting.jsonl"
    resting = RestingIds(["c"], np.array([[5, 6]]), np.array([[5, 6]]), np.array([2]))
    write_resting(resting_path(path), resting)
    assert [json.loads(line) for line in resting_path(path).read_text().splitlines()] == [
        {"id": "c", "codes": [5, 6], "docid": "<a_5><b_6>", "updates_left": 2}
    ]


def test_where_nothing_rests(tmp_path):
    path = tmp_path / "docids.resting.jsonl"
    table = DocidTable(["a"], np.array([[1, 2]], np.int32))
    assert read_resting(path, table).codes.shape == (0, 2)
    write_resting(path, no_resting_ids(2))
    assert path.read_text() == ""
    assert read_resting(path, table).codes.shape == (0, 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "invalid JSON"),
        ('{"id": "c", "codes": [3, 4]}', "expected also 'updates_left'"),
        ('{"id": "c", "codes": [3, 4], "updates_left": 0}', "updates_left 0, expected an integer"),
        ('{"id": "c", "codes": [3, 4], "updates_left": true}', "updates_left True"),
        ('{"id": "c", "codes": [3], "updates_left": 1}', "found 1 codes, expected the table's 2"),
        ('{"id": "c", "codes": [1, 2], "updates_left": 1}', "<a_1><b_2>, expected an ID that is"),
        ('{"id": "c", "codes": [5, 6], "updates_left": 1}', "<a_5><b_6>, expected .* rests only"),
        ('{"id": "c", "codes": [3, 4], "nearest": [3], "updates_left": 1}', "1 nearest codes"),
        ('{"id": "c", "codes": [3, 4], "nearest": 3, "updates_left": 1}', "found codes 3"),
    ],
)
def test_bad_lines_of_resting_ids(tmp_path, line, message):
    path = tmp_path / "docids.resting.jsonl"
    path.write_text('{"id": "a", "codes": [5, 6], "updates_left": 1}\n' + line + "\n")
    with pytest.raises(InputError, match=f":2: .*{message}"):
        read_resting(path, DocidTable(["a"], np.array([[1, 2]], np.int32)))
