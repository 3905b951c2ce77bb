"""The figures of the report, against what is written out here."""

import collections
import itertools
import math
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catid2_jax.checkpoints.trained import read_codebooks
from catid2_jax.data.corpus import Catalog
from catid2_jax.docids.table import DocidTable, format_docid
from catid2_jax.errors import InputError
from catid2_jax.evaluation.significance import bootstrap
from catid2_jax.reporting import (
    calibration,
    curves,
    embedding_map,
    flow,
    id_health,
    id_table,
    id_tree,
    leakage,
    lost_queries,
    proofs,
    query_kinds,
    retrieval,
    sweeps,
    words,
)
from catid2_jax.reporting.comparison import compare
from catid2_jax.reporting.config import ReportConfig
from catid2_jax.reporting.measures import measure, measured
from catid2_jax.types import Product
from tests.reporting.conftest import SWEEP
from tests.reporting.workdirs import CODES, IDS, PATHS, QRELS, QUERIES, RUNS, TITLES, make

RELEVANT = {q: [p for p, g in found.items() if g >= 2] for q, found in QRELS["test"].items()}


def run_of(comparison, name):
    return next(run for run in comparison.main.systems if run.name == name)


def hits(name, query, k=10):
    return RUNS[name].get(query, "").split()[:k]


@pytest.mark.parametrize("name", RUNS)
def test_measures_are_their_definitions(comparison, name):
    found = measure(run_of(comparison, name), comparison.main)
    for number, (query, relevant) in enumerate(RELEVANT.items()):
        ranked = hits(name, query)
        for k in (1, 2, 10):
            recall = 100 * len(set(ranked[:k]) & set(relevant)) / len(relevant)
            assert found[f"recall@{k}"][number] == pytest.approx(recall)
        places = [n for n, product in enumerate(ranked, 1) if product in relevant]
        assert found["MRR"][number] == pytest.approx(100 / places[0] if places else 0)
        precision = sum(n / place for n, place in enumerate(places, 1)) / len(relevant)
        assert found["AP"][number] == pytest.approx(100 * precision)
        grades = QRELS["test"][query]
        gains = [grades.get(product, 0) for product in ranked]
        best = sorted(grades.values(), reverse=True)
        dcg, ideal = (
            sum(gain / math.log2(n) for n, gain in enumerate(row, 2)) for row in (gains, best)
        )
        assert found["nDCG@10"][number] == pytest.approx(100 * dcg / ideal)


def test_rows_join_the_seeds_of_a_system(comparison):
    assert [(row.label, len(row.seeds)) for row in comparison.rows] == [
        ("CAT-ID2", 2),
        ("TIGER", 1),
        ("BM25", 1),
    ]
    assert [row.seeds[0].is_seeded for row in comparison.rows] == [True, True, False]
    assert measured(comparison.rows[0])["recall@1"].shape == (2, 5)
    assert [label for label, _ in comparison.shown] == ["CAT-ID2", "TIGER"]
    other = run_of(comparison, "cat_id2@1")
    assert comparison.label(other) == "CAT-ID2 @1"


def test_the_first_system_is_tested_against_each_other(comparison):
    values = {row.label: measured(row) for row in comparison.rows}
    found = retrieval.differences(values, {"CAT-ID2", "TIGER"}, 500)
    names = list(itertools.product(("TIGER", "BM25"), ("recall@10", "nDCG@10")))
    assert [(label, name) for label, name, *_ in found] == names
    p_values = []
    for label, name, test, _ in found:
        both = 1 if label == "TIGER" else 2  # BM25 stands for both seeds
        expected = bootstrap(values["CAT-ID2"][name][:both] - values[label][name], 500)
        assert (test.mean, test.low, test.p_value) == pytest.approx(
            (expected.mean, expected.low, expected.p_value)
        )
        p_values.append(expected.p_value)
    smallest = np.argmin(p_values)
    assert found[smallest][3] == pytest.approx(min(1, 4 * p_values[smallest]))


def test_intervals_are_those_of_the_bootstrap(comparison):
    values = {row.label: measured(row) for row in comparison.rows}
    found = retrieval.means(values, 400)
    for label, rows in values.items():
        expected = bootstrap(rows["AP"], 400)
        assert found[label, "AP"].mean == pytest.approx(expected.mean)
        assert found[label, "AP"].high == pytest.approx(expected.high)


def test_queries_of_training_are_found_in_the_test(comparison):
    table, examples = leakage.section(comparison).blocks[1:]
    ((split, queries, same, pairs, same_pairs, near),) = table.rows
    assert (split, queries, same) == ("test", "6", "1 (16.7 %)")  # q0 is t0 but for its look
    assert (pairs, same_pairs) == ("10", "1 (10.0 %)")  # with p0; the pair with p3 is training's
    assert near == "1 (20.0 %)"
    assert examples.rows == [("test", "doll house", "House, doll", "1.00")]


@given(st.text(st.characters(max_codepoint=0x2FF), max_size=10))
def test_a_text_has_one_normal_form(text):
    form = leakage.normal_form(text)
    assert leakage.normal_form(form) == form
    assert leakage.normal_form(f" {text}! ") == form


def trigrams(text):
    padded = (f" {word} " for word in text.split())
    return collections.Counter(word[n : n + 3] for word in padded for n in range(len(word) - 2))


def test_near_texts_are_those_of_a_high_cosine():
    texts = ["red garden hose", "blue sofa", "garden hose red", "green sofa beds"]
    others = ["garden hoses red", "blue sofas bed", "red garden hose 2", "green sofa bed"]
    having = collections.Counter(part for other in others for part in trigrams(other))

    def vector(text):
        known = ((part, n) for part, n in trigrams(text).items() if part in having)
        found = {part: n * (1 + math.log(5 / (1 + having[part]))) for part, n in known}
        return {part: weight / math.hypot(*found.values()) for part, weight in found.items()}

    expected = {}
    for row, text in enumerate(texts):
        mine = vector(text)
        cosines = [
            sum(weight * mine.get(part, 0) for part, weight in vector(other).items())
            for other in others
        ]
        if max(cosines) >= leakage.NEAR:
            expected[row] = others[np.argmax(cosines)], pytest.approx(max(cosines))
    found = leakage.near(texts, others)
    assert {row: (other, cosine) for row, other, cosine in found} == expected
    assert 0 < len(expected) < 4
    assert leakage.near(["", "a"], ["", "b"]) == []


def test_categories_of_one_name_are_told_apart():
    paths = [("Wine", "Red", "Spain"), ("Wine", "White", "Spain"), ("Wine", "Red", "France")]
    assert flow.short_names(paths) == ["Spain (Red)", "Spain (White)", "France"]
    assert flow.short_names([("Tea", "Cups"), ("Cups",)]) == ["Cups (Tea)", "Cups"]


@pytest.mark.parametrize("name", ["cat_id2", "tiger"])
def test_products_flow_and_none_is_lost(comparison, name):
    found = flow.make_flow(run_of(comparison, name), name, "f")
    assert [sum(size for _, size in column) for column in found.nodes] == [24] * 4
    for column, nodes in enumerate(found.nodes):
        for node, (_, size) in enumerate(nodes):
            leaving = sum(n for c, start, _, n, _ in found.links if (c, start) == (column, node))
            coming = sum(n for c, _, end, n, _ in found.links if (c + 1, end) == (column, node))
            assert leaving == (0 if column == 3 else size)
            assert coming == (0 if column == 0 else size)
    assert found.nodes[0] == [("Dolls", 12), ("Lamps", 6), ("Rugs", 6)]
    heads = {"cat_id2": "level 1: 100 %", "tiger": "level 1: 50 %"}
    assert found.columns[1] == heads[name]


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), min_size=1, max_size=20))
def test_a_code_is_owned_by_its_commonest_category(pairs):
    codes, origin = np.array(pairs).T
    owners, counts = flow.code_owners(codes, origin, 3)
    for code, owner in zip(codes, owners, strict=True):
        of_code = collections.Counter(o for c, o in pairs if c == code)
        assert owner == 3 if code < 0 else of_code[owner] == max(of_code.values())
    assert sum(counts) == len({code for code, _ in pairs if code >= 0})


def test_products_of_the_largest_categories_are_drawn():
    paths = [("A", "x")] * 3 + [("B", "y")] * 9 + [("C", "z")] * 5 + [("D",)] * 4 + [("E",)] * 2
    rows, names, whole = embedding_map.chosen_products(paths, "", 100, 0)
    assert (len(rows), whole) == (21, 21)
    assert collections.Counter(names) == {"A": 3, "B": 9, "C": 5, "D": 4}
    some, names, whole = embedding_map.chosen_products(paths, "B > y; E", 5, 3)
    assert (len(some), whole) == (5, 11)
    assert all(" > ".join(paths[row]) == name for row, name in zip(some, names, strict=True))
    again = embedding_map.chosen_products(paths, "B > y; E", 5, 3)[0]
    assert np.array_equal(some, again)
    with pytest.raises(InputError, match="X") as error:
        embedding_map.chosen_products(paths, "X", 5, 0)
    assert error.value.where == "categories"


def test_the_map_keeps_groups_apart():
    centres = np.repeat(100 * np.eye(3), 10, axis=0)
    places = embedding_map.t_sne(centres + np.random.default_rng(0).normal(size=(30, 3)), 0)
    groups = places.reshape(3, 10, 2)
    within = np.linalg.norm(groups - groups.mean(axis=1, keepdims=True), axis=2).max()
    middles = groups.mean(axis=1)
    apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(middles, 2))
    assert apart > 2 * within


def test_the_map_is_of_the_latents_that_the_ids_were_made_of(tiny_workdir):
    comparison = compare([tiny_workdir], ReportConfig())
    run = run_of(comparison, "cat_id2")
    ids = run.catalog.ids[::-1]
    found = embedding_map.latents(run, ids)
    codebook = np.asarray(read_codebooks(tiny_workdir, "last"))[0]
    distances = np.square(found[:, None] - codebook[None]).sum(axis=2)
    nearest = run.table.codes if run.table.nearest is None else run.table.nearest
    assert distances.argmin(axis=1).tolist() == nearest[::-1, 0].tolist()
    assert embedding_map.latents(run, ["no such product"]) is None
    (row,) = proofs.section(comparison).blocks[1].rows
    assert row[4].endswith("%)")


docid_rows = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=8, unique=True).map(
    np.array
)


@given(docid_rows)
def test_what_an_id_shares_with_another_is_marked(codes):
    for row, marked in zip(codes, id_table.mark_prefixes(codes), strict=True):
        assert marked.start + marked.rest == format_docid(row)
        others = [other for other in codes.tolist() if other != row.tolist()]
        shared = [len(list(itertools.takewhile(bool, np.equal(row, o)))) for o in others]
        assert marked.start == format_docid(row[: max(shared, default=0)])


def test_shorter_ids_share_codes_alone():
    found = id_table.mark_prefixes(np.array([[1, -1, -1], [1, 2, -1], [0, -1, -1]]))
    assert [marked.start for marked in found] == ["<a_1>", "<a_1>", ""]


def test_the_tree_counts_what_is_beneath(comparison):
    run = run_of(comparison, "cat_id2")
    tree = id_tree.make_tree(run)
    assert [node.label for node in tree.roots] == [f"<a_{n}>" for n in range(4)]
    assert tree.roots[0].about == "6 products: Home > Lamps (6)"
    assert [len(node.children) for node in tree.roots] == [3] * 4
    leaf = tree.roots[1].children[2].children[1]
    assert (leaf.label, leaf.leaves) == ("<a_1><b_2><c_1>", [TITLES[11]])
    assert tree.left_out == ""


def test_the_tree_says_what_it_leaves_out(comparison, monkeypatch):
    monkeypatch.setattr(id_tree, "_BRANCHES", (3, 1))
    tree = id_tree.make_tree(run_of(comparison, "cat_id2"))
    assert tree.left_out == "1 more prefixes with 6 products"
    assert tree.roots[0].left_out == "2 more prefixes with 4 products"


def test_the_fullest_prefixes_come_first():
    products = [Product(f"p{n}", f"t{n}", "", ("A",)) for n in range(4)]
    table = DocidTable([product.id for product in products], [[0, 0], [2, 0], [2, 1], [1, 0]])
    run = types.SimpleNamespace(catalog=Catalog.from_products(products), table=table)
    tree = id_tree.make_tree(run)
    assert [node.label for node in tree.roots] == ["<a_2>", "<a_0>", "<a_1>"]


def test_words_are_counted_by_title():
    found = words.frequent_words(["Red red lamp", "the lamp KW403 10", "it's a lamp", "lampe"])
    assert found == {"lamp": 3, "lampe": 1, "red": 1}


def test_the_prefix_of_most_products_or_the_one_that_is_asked_for(workdir):
    blocks = words.section(compare([workdir], ReportConfig(prefix="<a_1>"))).blocks
    ours, tigers = (block.charts for block in blocks[1:])
    assert [cloud.title for cloud in ours] == [
        "CAT-ID2: <a_1>, 6 products",
        "CAT-ID2: <a_1><b_0>, 2 products",
        "CAT-ID2: <a_1><b_1>, 2 products",
    ]
    assert ours[0].words == {"number": 6, "soft": 6, "thing": 6}
    assert tigers[0].words == {"number": 6, "soft": 4, "thing": 4, "brass": 2, "lamp": 2}
    with pytest.raises(InputError) as error:
        words.section(compare([workdir], ReportConfig(prefix="a_1")))
    assert error.value.where == "prefix"


@pytest.mark.parametrize("name", ["cat_id2", "tiger"])
@pytest.mark.parametrize("k", [1, 2])
def test_levels_at_which_products_are_lost(comparison, name, k):
    codes = dict(zip(IDS, CODES[name].tolist(), strict=True))
    lost, total = [0, 0, 0], 0
    for query, relevant in RELEVANT.items():
        found = hits(name, query, k)
        for product in relevant:
            total += 1
            if product not in found:
                depths = [
                    next(n for n in range(3) if codes[product][n] != codes[other][n])
                    for other in found
                ]
                lost[max(depths, default=0)] += 1
    found = lost_queries.lost_levels(run_of(comparison, name), comparison.main, k)
    assert found.tolist() == pytest.approx([n / total for n in lost])


def test_won_and_lost_queries(comparison):
    table, won, *_ = lost_queries.section(comparison).blocks
    assert [row[0] for row in table.rows] == ["TIGER", "BM25"]
    ours, theirs = (
        np.array([len(set(hits(name, q)) & set(r)) / len(r) for q, r in RELEVANT.items()])
        for name in ("cat_id2", "bm25")
    )
    numbers = ((ours > theirs).sum(), (ours == theirs).sum(), (ours < theirs).sum())
    assert table.rows[1][1:] == tuple(map(str, numbers))
    assert won.rows[0][0] == QUERIES["test"]["q2"]
    assert won.rows[0][1:3] == ("100", "0")


def test_kinds_of_queries(comparison):
    kinds = query_kinds.query_kinds(comparison.main)
    named = {kind: [list(RELEVANT)[n] for n in queries] for kind, queries in kinds.items()}
    # Training pairs: q0 has one (p0), q1 one, q2 one, q3 one (p20), q5 none; ties keep the order.
    assert [named[kind] for kind in ("head", "torso", "tail")] == [
        ["q0", "q1"],
        ["q2", "q3"],
        ["q5"],
    ]
    assert (named["ambiguous"], len(named["of one category"])) == (["q3"], 4)
    assert named["with unseen words"] == ["q3"]  # lamps, and, dolls
    assert query_kinds.by_category(comparison.main).keys() == {"Home", "Toys"}
    assert list(query_kinds.by_depth(comparison.main)) == ["2 categories"]


def test_eight_systems_are_drawn_by_kind_of_query_and_all_are_in_the_table():
    kinds = {"short": np.array([0, 1]), "long": np.array([2])}
    recall = {f"system {n}": np.array([[0.0, 2.0 * n, 5.0]]) for n in range(9)}
    charts, table = query_kinds._blocks("kinds", "Recall", kinds, recall)
    (chart,) = charts.charts
    assert list(chart.series) == [f"system {n}" for n in range(8)]
    assert [value for value, _, _ in chart.series["system 3"]] == [3.0, 5.0]
    assert chart.title == "Recall; the first 8 of 9 systems, all are below"
    assert tuple(table.columns) == ("", "queries", *recall)
    assert [row[-1] for row in table.rows] == ["8.0 [0.0, 16.0]", "5.0 [5.0, 5.0]"]


def test_scores_and_what_they_found(comparison):
    scores, relevant = calibration.judged_scores(run_of(comparison, "cat_id2"), comparison.main)
    expected = [
        (-float(n), p in r) for q, r in RELEVANT.items() for n, p in enumerate(hits("cat_id2", q))
    ]
    assert list(zip(scores, relevant, strict=True)) == expected


def test_what_was_proven(tmp_path):
    make(tmp_path, systems=("cat_id2", "bm25"))
    path = tmp_path / "cat_id2" / "steps" / "retrieve.metrics.json"
    before = proofs.section(compare([tmp_path], ReportConfig())).blocks[1]
    assert before.rows[0][3:] == ("6", "not recorded", "", "")
    path.write_text('{"queries": 6, "proven": ["q0", "q1", "q4"]}')
    (row,) = proofs.section(compare([tmp_path], ReportConfig())).blocks[1].rows
    assert row == ("CAT-ID2", "10", "10", "6", "3 (50.0 %)", "100.0 (@10)", "50.0 (@10)")


def test_sweeps_are_curves_by_the_value_of_the_setting(tmp_path):
    path = tmp_path / "figure5.csv"
    path.write_text(SWEEP)
    found = sweeps.read_sweeps(path, "shop")
    assert found == {
        "alpha": {"R@10": [(0.01, 40.0), (0.1, 45.0), (1.0, 30.5)]},
        "codebook_size": {"TIGER, R@10": [(64.0, 20.0)], "R@10": [(64.0, 25.0)]},
    }
    assert sweeps.read_sweeps(path, "no such set") == found
    path.write_text("data,system,measure\nshop,figure5_alpha_1,recall@10\n")
    with pytest.raises(InputError, match="reproduce figure5"):
        sweeps.read_sweeps(path, "shop")


@given(st.integers(1, 2000))
def test_thinned_curves_keep_their_end(count):
    points = [(n, float(n)) for n in range(count)]
    found = curves.thinned(points)
    assert found[-1] == points[-1]
    assert len(found) == count if count <= 300 else 150 < len(found) <= 300
    assert len({b - a for (a, _), (b, _) in itertools.pairwise(found)}) <= 1


def test_curves_are_what_the_trainings_wrote(comparison):
    (charts,) = curves.section(comparison).blocks
    (loss,) = charts.charts
    assert loss.series["TIGER"] == [(float(n), 5.0 - n) for n in range(5)]
    assert list(loss.series) == ["CAT-ID2", "TIGER", "CAT-ID2 @1"]


def test_health_is_that_of_the_table(comparison):
    found = id_health.quality(run_of(comparison, "tiger"))
    assert found["perplexity/level_1"] == pytest.approx(4)
    assert found["category_purity/level_1"] == pytest.approx(0.5)
    assert found["collision_rate"] == 0.25
    assert DocidTable(IDS, CODES["tiger"]).levels == 3
    levels, whole = id_health.section(comparison).blocks[1:]
    assert ("perplexity", "TIGER", "4", "3", "2") in levels.rows
    assert whole.rows[0] == ("collision rate", "0.250", "0.250", "0.250")
    assert PATHS[0] == ("Home", "Lamps")
