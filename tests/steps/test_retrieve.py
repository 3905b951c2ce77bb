"""The runs of `retrieve`, beside the teacher-forced probability of every product's ID."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.errors import InputError
from catid2_jax.resolution import resolve_system
from catid2_jax.training.checkpoint import Checkpoints
from catid2_jax.workdir import Workdir
from tests.steps.trained import (
    CODES,
    EMBEDDINGS,
    IDS,
    PATHS,
    QUERIES,
    VECTORS,
    K,
    L,
    N,
    config,
    make,
    random_params,
    resolved,
    search,
    state,
)

DENSE = VECTORS.astype(np.float64) @ EMBEDDINGS.T.astype(np.float64)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A work directory before `retrieve`, what every ID should score, and what gives the scores."""
    workdir, *parts = make(tmp_path_factory.mktemp("work"))
    return workdir, teacher_forced(*parts), parts


def teacher_forced(model, params, vocabulary):
    """By kind of score, the log-probability of each product's ID given a query's text, [Q, N]."""
    tokens = jnp.asarray(vocabulary.encode(list(QUERIES.values()), 6))
    targets = vocabulary.encode_codes(CODES)
    inputs = jnp.asarray(np.pad(targets, ((0, 0), (1, 0)))[:, :L])
    sources = jnp.repeat(tokens, N, axis=0)
    logits = jax.jit(model.apply)(
        {"params": params}, sources, sources != 0, jnp.tile(inputs, (len(QUERIES), 1))
    )
    logits = np.asarray(logits, np.float64).reshape(len(QUERIES), N, L, -1)
    competing = {"full": np.ones(logits.shape[1:], bool)}
    competing |= {kind: np.zeros(logits.shape[1:], bool) for kind in ("level", "valid")}
    for n, level in np.ndindex(N, L):
        start = vocabulary.first_id_token + level * K
        competing["level"][n, level, start : start + K] = True
        siblings = (CODES[:, :level] == CODES[n, :level]).all(axis=1)
        competing["valid"][n, level, targets[siblings, level]] = True
    scores = {}
    for kind, among in competing.items():
        probabilities = log_softmax(np.where(among, logits, -np.inf), axis=-1)
        found = np.take_along_axis(probabilities, targets[None, :, :, None], axis=-1)
        scores[kind] = found[..., 0].sum(axis=-1)
    return scores


def check(run, scores, allowed, k=40):
    """Each query's ranking is of the `allowed` [Q, N], by score, k at most."""
    for query, name in enumerate(QUERIES):
        rows = np.flatnonzero(allowed[query])
        best = rows[np.argsort(-scores[query, rows])][:k]
        found = run.get(name, [])
        assert [document for document, _ in found] == [IDS[row] for row in best]
        np.testing.assert_allclose([s for _, s in found], scores[query, best], atol=1e-4)


def proven(workdir):
    """What the search has proven of the last run."""
    path = workdir.root / "cat_id2" / "steps" / "retrieve.metrics.json"
    return json.loads(path.read_text())


EVERYTHING = np.ones((len(QUERIES), N), bool)


def test_every_product_has_the_probability_of_its_id(made, capsys):
    workdir, scores, _ = made
    check(search(workdir), scores["full"], EVERYTHING)
    assert "5 of 5 results are proven to be the best 40" in capsys.readouterr().out
    assert proven(workdir) == {"queries": 5, "proven": [*QUERIES]}


def test_beams_are_widened_up_to_the_budget(made, capsys):
    workdir, scores, _ = made
    narrow = search(workdir, beams=4, k=4)
    assert f"{len(proven(workdir)['proven'])} of 5 results are proven" in capsys.readouterr().out
    assert len(proven(workdir)["proven"]) < 5
    check(search(workdir, beams=4, k=4, max_beams=32), scores["full"], EVERYTHING, 4)
    assert "5 of 5 results are proven to be the best 4" in capsys.readouterr().out
    assert all(len(found) == 4 for found in narrow.values())


def test_another_normalization_and_other_types_give_another_run(made):
    workdir, scores, _ = made
    for kind in ("level", "valid"):
        check(search(workdir, normalize_over=kind), scores[kind], EVERYTHING)
    np.testing.assert_allclose(np.exp(scores["valid"]).sum(axis=1), 1.0)
    quantized = search(workdir, param_dtype="int8")
    for query, name in enumerate(QUERIES):
        assert {document for document, _ in quantized[name]} == set(IDS)
        rows = [IDS.index(document) for document, _ in quantized[name]]
        errors = np.abs(scores["full"][query, rows] - [s for _, s in quantized[name]])
        assert 1e-3 < errors.max() < 0.5


def test_the_filters_of_the_configuration(made, tmp_path):
    workdir, scores, _ = made
    (tmp_path / "home.txt").write_text("Home\n")
    (tmp_path / "rugs.jsonl").write_text('{"categories": ["Home", "Rugs"]}\n')
    (tmp_path / "ids.txt").write_text("p0\np3\np4\np5\n")
    (tmp_path / "none.txt").write_text("")
    lamps = np.array([path == ("Home", "Lamps") for path in PATHS])
    allowed = np.tile(lamps, (len(QUERIES), 1))
    categories = {
        "allow_categories": str(tmp_path / "home.txt"),
        "deny_categories": str(tmp_path / "rugs.jsonl"),
    }
    check(search(workdir, **categories), scores["full"], allowed)
    allowed[:, [0, 3]] = False
    check(
        search(workdir, **categories, deny_ids=str(tmp_path / "ids.txt")), scores["full"], allowed
    )
    allowed = np.tile(np.isin(IDS, ["p0", "p3"]), (len(QUERIES), 1))
    check(
        search(workdir, **categories, allow_ids=str(tmp_path / "ids.txt")), scores["full"], allowed
    )
    assert search(workdir, allow_ids=str(tmp_path / "none.txt")) == {}


def write_queries(path, filters, queries=QUERIES):
    lines = [
        json.dumps({"id": q, "text": text, **filters.get(q, {})}) for q, text in queries.items()
    ]
    path.write_text("\n".join(lines))
    return str(path)


def test_a_query_may_have_a_filter_of_its_own(made, tmp_path):
    workdir, scores, _ = made
    (tmp_path / "deny.txt").write_text("p7\n")
    filters = {
        "q1": {"allow_ids": ["p1", "p2", "p7"]},
        "q3": {"deny_categories": [["Home"]], "lang": "en"},
        "q4": {"allow_ids": []},
    }
    path = write_queries(tmp_path / "q.jsonl", filters)
    allowed = np.tile(np.arange(N) != 7, (len(QUERIES), 1))
    allowed[1] = np.isin(np.arange(N), [1, 2])
    allowed[3] &= [categories == ("Toys",) for categories in PATHS]
    allowed[4] = False
    check(
        search(workdir, queries=path, deny_ids=str(tmp_path / "deny.txt")), scores["full"], allowed
    )


@pytest.mark.parametrize("given", [False, True])
def test_clusters_are_ranked_by_dense_scores(made, tmp_path, given):
    workdir, scores, _ = made
    changes = {"level": 1}
    if given:
        changes["queries"] = str(workdir.queries("test"))
        changes["query_vectors"] = str(workdir.root / "vectors.npy")
    check(search(workdir, "clusters", **changes), DENSE, EVERYTHING)
    # Two clusters only: those of the best first codes, whose probabilities the sums bound.
    one = search(workdir, "clusters", **changes, beams=1, k=5)
    for query, found in enumerate(one[name] for name in QUERIES):
        (code,) = {CODES[IDS.index(document), 0] for document, _ in found}
        members = np.flatnonzero(CODES[:, 0] == code)
        best = members[np.argsort(-DENSE[query, members])][:5]
        assert [document for document, _ in found] == [IDS[row] for row in best]
    by_code = np.stack([np.exp(scores["full"][:, CODES[:, 0] == c]).sum(1) for c in range(K)], 1)
    chosen = [CODES[IDS.index(one[name][0][0]), 0] for name in QUERIES]
    assert np.mean(chosen == by_code.argmax(1)) >= 0.6  # most mass, mostly best
    assert not (workdir.root / "clusters" / "seq2seq").exists()

    if given:
        changes["queries"] = write_queries(tmp_path / "q.jsonl", {"q1": {"allow_ids": IDS[1:3]}})
        allowed = EVERYTHING.copy()
        allowed[1] = np.isin(np.arange(N), [1, 2])
        check(search(workdir, "clusters", **changes), DENSE, allowed)


def test_whole_ids_are_clusters_of_one(made):
    workdir = made[0]
    own = search(workdir, beams=7, k=7)
    allowed = np.array([np.isin(IDS, [d for d, _ in own[name]]) for name in QUERIES])
    check(search(workdir, "clusters", level=L, beams=7, k=7), DENSE, allowed)
    # More results than beams, which are the clusters.
    check(search(workdir, "clusters", level=L, beams=7, k=9), DENSE, allowed)


def test_clusters_need_vectors_of_the_queries(made, tmp_path):
    path = write_queries(tmp_path / "q.jsonl", {})
    with pytest.raises(InputError) as error:
        search(made[0], "clusters", queries=path)  # by LSA, which encodes no queries
    assert (error.value.where, error.value.found) == ("vectors", "none")


@pytest.mark.parametrize("level", [-1, 0, L + 1])
def test_a_level_that_the_ids_do_not_have_is_refused(made, level):
    with pytest.raises(InputError) as error:
        search(made[0], "clusters", level=level)
    assert error.value.where == "config.options.clusters.level"
    assert error.value.found == str(level)
    expected = "at least 1" if level < 1 else "1 to 3, the length of an ID"
    assert error.value.expected == expected


@pytest.fixture
def own(made, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(made[0].root, tmp_path / "work")
    return Workdir(tmp_path / "work")


def test_the_best_checkpoint_searches_where_there_is_one(made, own):
    _, scores, (model, params, vocabulary) = made
    place, others = resolved(own)[1], random_params(model, 4)
    best, last = scores["full"], teacher_forced(model, others, vocabulary)["full"]
    assert np.abs(last - best).max() > 1
    with pytest.raises(InputError) as error:
        search(own, checkpoint="best")
    assert error.value.where.endswith("cat_id2/seq2seq/best")
    assert error.value.found == "no checkpoint"
    with Checkpoints(place.model / "seq2seq") as checkpoints:
        checkpoints.save(2, state(2, others))
    check(search(own), last, EVERYTHING)  # nothing was measured

    with Checkpoints(place.model / "seq2seq", "dev/recall@10") as checkpoints:
        checkpoints.save_if_best(1, state(1, params), {"dev/recall@10": 0.5})
    for which, expected in (("auto", best), ("best", best), ("last", last)):
        check(search(own, checkpoint=which), expected, EVERYTHING)


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        (
            lambda ids, codes: (ids[:1], codes[:1, :2]),
            "IDs of 2 codes",
            "3 codes, as the step that made them says",
        ),
        (lambda ids, codes: (ids, codes + (codes == 5)), "code 6", "0 to 5"),
        (
            lambda ids, codes: ([*ids[:-1], "other"], codes),
            "30 IDs, the first that differs of product 'other'",
            "one for each of the catalogue's 30 products in their order, there 'p29'",
        ),
        (
            lambda ids, codes: (ids[:-1], codes[:-1]),
            "29 IDs, the first that differs of product None",
            "one for each of the catalogue's 30 products in their order, there 'p29'",
        ),
        (
            lambda ids, codes: ([ids[1], ids[0], *ids[2:]], codes),
            "30 IDs, the first that differs of product 'p1'",
            "one for each of the catalogue's 30 products in their order, there 'p0'",
        ),
    ],
)
def test_ids_that_are_not_the_models_and_the_catalogues_are_refused(own, change, found, expected):
    place = resolved(own)[1]
    write_docids(place.docids, DocidTable(*change(IDS, CODES)))
    with pytest.raises(InputError) as error:
        search(own, output="refused.trec")
    assert error.value.where.startswith(str(place.docids))
    assert (error.value.found, error.value.expected) == (found, expected)
    assert not (place.folder / "refused.trec").exists()


def test_a_query_of_100_000_characters_is_cut_and_said(made, tmp_path, capsys):
    long = "rug " * 25_000
    path = write_queries(tmp_path / "q.jsonl", {}, {"q1": "rug", "long": long, "cut": long[:60]})
    found = search(made[0], queries=path)
    assert "2 of 3 queries cut to 6 tokens" in capsys.readouterr().out
    assert len(found["long"]) == N
    assert found["long"] == found["cut"] != found["q1"]


def test_a_vocabulary_of_another_size_than_the_checkpoints_is_refused(made, monkeypatch):
    values = config()
    section = dataclasses.replace(values.seq2seq, extra_ids=200)
    other = dataclasses.replace(values, seq2seq=section)
    monkeypatch.setattr("tests.steps.trained.config", lambda: other)
    with pytest.raises(InputError) as error:
        search(made[0])
    assert error.value.where.endswith("seq2seq/last")
    assert "128" in error.value.found
    assert error.value.found.endswith("at step 1")
    assert "256" in error.value.expected


@pytest.mark.parametrize(
    ("array", "found", "expected"),
    [
        (VECTORS[1:], "4 embeddings", "5, one per query in its order"),
        (VECTORS[:, 1:], "embeddings of width 3", "4, that of the documents' embeddings, made by"),
        (np.ones((5, 4), int), "int64 (5, 4)", "floats [documents, width]"),
        (
            np.where(np.arange(20).reshape(5, 4) == 9, np.nan, 1.0),
            "NaN or infinity in 1 rows, the first is row 2 (from 0)",
            "finite numbers",
        ),
        (None, "no .npy array", "one of floats"),
    ],
)
def test_bad_query_vectors_are_refused(made, tmp_path, array, found, expected):
    path = tmp_path / "v.npy"
    path.write_text("no array") if array is None else np.save(path, array)
    queries = str(made[0].queries("test"))
    with pytest.raises(InputError) as error:
        search(made[0], "clusters", level=1, queries=queries, query_vectors=str(path))
    assert (error.value.where, error.value.found) == (str(path), found)
    assert error.value.expected.startswith(expected)


@pytest.mark.parametrize(
    ("changes", "name", "found", "expected"),
    [
        ({"beams": 0}, "beams", "0", "at least 1"),
        ({"batch_size": 0}, "batch_size", "0", "at least 1"),
        ({"k": 41}, "k", "41", "1 to beams = 40"),
        ({"k": 0}, "k", "0", "at least 1"),
        ({"max_beams": 39}, "max_beams", "39", "at least beams = 40, or 0"),
        ({"query_vectors": "x"}, "queries", "'' with query_vectors 'x'", "the path of their"),
        (
            {"normalize_over": "x"},
            "normalize_over",
            "'x'",
            "one of 'auto', 'full', 'level', 'valid'",
        ),
        ({"param_dtype": "x"}, "param_dtype", "'x'", "one of 'float32', 'bfloat16', 'int8'"),
        ({"checkpoint": "x"}, "checkpoint", "'x'", "one of 'auto', 'last', 'best'"),
        ({"output": "a/b.trec"}, "output", "'a/b.trec'", "the name of a file, without a folder"),
        ({"output": "../b.trec"}, "output", "'../b.trec'", "the name of a file, without a folder"),
        ({"output": "/b.trec"}, "output", "'/b.trec'", "the name of a file, without a folder"),
        ({"output": ".."}, "output", "'..'", "the name of a file, without a folder"),
        ({"output": ""}, "output", "''", "the name of a file, without a folder"),
    ],
)
def test_impossible_configurations_are_refused(changes, name, found, expected):
    with pytest.raises(InputError) as error:
        resolve_system("cat_id2", config(**changes))
    assert (error.value.where, error.value.found) == (f"config.retrieve.{name}", found)
    assert error.value.expected.startswith(expected)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "allow_ids",
            "".join(f"u{n}\n" for n in range(10, 25)),
            r"config\.retrieve: found unknown ids 'u10', .* 'u19' and 5 more in allow_ids",
        ),
        ("deny_categories", "Home > Toys\n", "unknown categories 'Home > Toys' in deny_categories"),
    ],
)
def test_filters_of_what_does_not_exist_are_refused(made, tmp_path, name, text, message):
    (tmp_path / "f.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        search(made[0], **{name: str(tmp_path / "f.txt")})


def test_ids_of_products_that_are_not_kept_are_ignored_and_counted(made, tmp_path, capsys):
    workdir, scores, _ = made
    (tmp_path / "deny.txt").write_text("p7\nsold-out\n\u200b='p8'\n".replace("='p8'", '="p8"'))
    filters = {"q3": {"allow_ids": ["p1", "nobody"]}, "q4": {"allow_ids": ["nobody"]}}
    path = write_queries(tmp_path / "q.jsonl", filters)
    allowed = np.tile(~np.isin(np.arange(N), [7, 8]), (len(QUERIES), 1))
    allowed[3] = np.arange(N) == 1
    allowed[4] = False
    found = search(workdir, queries=path, deny_ids=str(tmp_path / "deny.txt"))
    check(found, scores["full"], allowed)
    assert "3 ids in filters are of no product that is kept: ignored" in capsys.readouterr().out
