"""The runs of `retrieve`, beside the teacher-forced probability of every product's ID."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.steps import retrieve
from catid2_jax.steps.workdir import Workdir
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
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A work directory before `retrieve`, and what every ID should score."""
    workdir, *parts = make(tmp_path_factory.mktemp("work"))
    return workdir, teacher_forced(*parts)


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


def runs(workdir, **changes):
    retrieve.run(config(**changes), workdir)
    path = workdir.root / "run.trec"
    return read_run(path) if path.read_text() else {}


def check(run, scores, allowed, k=40):
    """Each query's ranking is of the `allowed` [Q, N], by score, k at most."""
    for query, name in enumerate(QUERIES):
        rows = np.flatnonzero(allowed[query])
        best = rows[np.argsort(-scores[query, rows])][:k]
        found = run.get(name, [])
        assert [document for document, _ in found] == [IDS[row] for row in best]
        np.testing.assert_allclose([s for _, s in found], scores[query, best], atol=1e-4)


EVERYTHING = np.ones((len(QUERIES), N), bool)


def test_every_product_has_the_probability_of_its_id(made, capsys):
    workdir, scores = made
    check(runs(workdir), scores["full"], EVERYTHING)
    assert "5 of 5 results are proven to be the best 40" in capsys.readouterr().out


def test_beams_are_widened_up_to_the_budget(made, capsys):
    workdir, scores = made
    narrow = runs(workdir, beams=4, k=4)
    assert "5 of 5" not in capsys.readouterr().out
    check(runs(workdir, beams=4, k=4, max_beams=32), scores["full"], EVERYTHING, 4)
    assert "5 of 5 results are proven to be the best 4" in capsys.readouterr().out
    assert all(len(found) == 4 for found in narrow.values())


def test_other_scores_and_weights_give_another_run(made):
    workdir, scores = made
    for kind in ("level", "valid"):
        check(runs(workdir, scores=kind), scores[kind], EVERYTHING)
    np.testing.assert_allclose(np.exp(scores["valid"]).sum(axis=1), 1.0)
    quantized = runs(workdir, weights="int8")
    for query, name in enumerate(QUERIES):
        assert {document for document, _ in quantized[name]} == set(IDS)
        rows = [IDS.index(document) for document, _ in quantized[name]]
        errors = np.abs(scores["full"][query, rows] - [s for _, s in quantized[name]])
        assert 1e-3 < errors.max() < 0.5


def test_the_filters_of_the_configuration(made, tmp_path):
    workdir, scores = made
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
    check(runs(workdir, **categories), scores["full"], allowed)
    allowed[:, [0, 3]] = False
    check(runs(workdir, **categories, deny_ids=str(tmp_path / "ids.txt")), scores["full"], allowed)
    allowed = np.tile(np.isin(IDS, ["p0", "p3"]), (len(QUERIES), 1))
    check(runs(workdir, **categories, allow_ids=str(tmp_path / "ids.txt")), scores["full"], allowed)
    assert runs(workdir, allow_ids=str(tmp_path / "none.txt")) == {}


def write_queries(path, filters, queries=QUERIES):
    lines = [
        json.dumps({"id": q, "text": text, **filters.get(q, {})}) for q, text in queries.items()
    ]
    path.write_text("\n".join(lines))
    return str(path)


def test_a_query_may_have_a_filter_of_its_own(made, tmp_path):
    workdir, scores = made
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
    check(runs(workdir, queries=path, deny_ids=str(tmp_path / "deny.txt")), scores["full"], allowed)


def with_vectors(workdir):
    return {
        "queries": str(workdir.data / "queries.test.jsonl"),
        "query_vectors": str(workdir.root / "vectors.npy"),
    }


def test_clusters_are_ranked_by_dense_scores(made, tmp_path):
    workdir, scores = made
    dense = VECTORS.astype(np.float64) @ EMBEDDINGS.T.astype(np.float64)
    changes = with_vectors(workdir) | {"expand_level": 1}
    check(runs(workdir, **changes), dense, EVERYTHING)
    # Two clusters only: those of the best first codes, whose probabilities the sums bound.
    one = runs(workdir, **changes, beams=1, k=5)
    for query, found in enumerate(one[name] for name in QUERIES):
        (code,) = {CODES[IDS.index(document), 0] for document, _ in found}
        members = np.flatnonzero(CODES[:, 0] == code)
        best = members[np.argsort(-dense[query, members])][:5]
        assert [document for document, _ in found] == [IDS[row] for row in best]
    by_code = np.stack([np.exp(scores["full"][:, CODES[:, 0] == c]).sum(1) for c in range(K)], 1)
    chosen = [CODES[IDS.index(one[name][0][0]), 0] for name in QUERIES]
    assert np.mean(chosen == by_code.argmax(1)) >= 0.6  # most mass, mostly best

    path = write_queries(tmp_path / "q.jsonl", {"q1": {"allow_ids": ["p1", "p2"]}})
    allowed = EVERYTHING.copy()
    allowed[1] = np.isin(np.arange(N), [1, 2])
    check(runs(workdir, **changes | {"queries": path}), dense, allowed)


def test_whole_ids_are_clusters_of_one(made):
    workdir = made[0]
    changes = with_vectors(workdir) | {"expand_level": L}
    own = runs(workdir, beams=7, k=7)
    dense = VECTORS.astype(np.float64) @ EMBEDDINGS.T.astype(np.float64)
    allowed = np.array([np.isin(IDS, [d for d, _ in own[name]]) for name in QUERIES])
    check(runs(workdir, **changes, beams=7, k=7), dense, allowed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ids, codes: (ids, codes[:, :2]),
            r"docids\.jsonl: found IDs of 2 codes up to 5, expected 3 codes below 6 as the model",
        ),
        (
            lambda ids, codes: (ids, codes + (codes == 5)),
            r"docids\.jsonl: found IDs of 3 codes up to 6, expected 3 codes below 6 as the model",
        ),
        (
            lambda ids, codes: ([*ids[:-1], "other"], codes),
            r"docids\.jsonl: found 30 IDs, the first that differs of product 'other', .* 'p29'",
        ),
        (
            lambda ids, codes: (ids[:-1], codes[:-1]),
            r"found 29 IDs, .* of product None, expected one for each of the catalogue's 30 prod",
        ),
        (
            lambda ids, codes: ([ids[1], ids[0], *ids[2:]], codes),
            r"the first that differs of product 'p1', .* in their order, there 'p0'",
        ),
    ],
)
def test_ids_that_are_not_the_models_and_the_catalogues_are_refused(
    made, tmp_path, change, message
):
    workdir = Workdir(tmp_path)
    for name in ("data", "embeddings.ids.txt", "seq2seq", "vocabulary.model"):
        (tmp_path / name).symlink_to(made[0].root / name)
    ids, codes = change(IDS, CODES)
    if codes.shape[1] == 2:
        ids, codes = ids[:1], codes[:1]
    write_docids(workdir.docids, DocidTable(ids, codes))
    with pytest.raises(InputError, match=message):
        retrieve.run(config(), workdir)
    assert not (tmp_path / "run.trec").exists()


def test_a_query_of_100_000_characters_is_cut_and_said(made, tmp_path, capsys):
    long = "rug " * 25_000
    path = write_queries(tmp_path / "q.jsonl", {}, {"q1": "rug", "long": long, "cut": long[:60]})
    found = runs(made[0], queries=path)
    assert "2 of 3 queries cut to seq2seq.source_tokens = 6" in capsys.readouterr().out
    assert len(found["long"]) == N
    assert found["long"] == found["cut"] != found["q1"]


def test_a_vocabulary_of_another_size_than_the_checkpoints_is_refused(made):
    values = config()
    section = dataclasses.replace(values.seq2seq, extra_ids=200)
    message = r"last: the checkpoint of step 1 has .* of shape .*128.*, expected .*256"
    with pytest.raises(InputError, match=message):
        retrieve.run(dataclasses.replace(values, seq2seq=section), made[0])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (VECTORS[1:], r"v\.npy: found 4 embeddings, expected 5, one per query in its order"),
        (VECTORS[:, 1:], r"found embeddings of width 3, expected 4, that of the documents'"),
        (np.ones((5, 4), int), r"found int64 \(5, 4\), expected floats"),
        (np.where(np.arange(20).reshape(5, 4) == 9, np.nan, 1.0), "NaN or infinity .* is row 2"),
        (None, r"v\.npy: found no \.npy array"),
    ],
)
def test_bad_query_vectors_are_refused(made, tmp_path, array, message):
    path = tmp_path / "v.npy"
    path.write_text("no array") if array is None else np.save(path, array)
    changes = with_vectors(made[0]) | {"expand_level": 1, "query_vectors": str(path)}
    with pytest.raises(InputError, match=message):
        retrieve.run(config(**changes), made[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beams": 0}, "beams is 0 and batch_size is 3: expected at least 1"),
        ({"k": 41}, "k is 41: expected 1 to beams = 40"),
        ({"k": 0}, "k is 0: expected 1 to beams = 40"),
        ({"max_beams": 39}, "max_beams is 39: expected at least beams = 40, or 0, and 0 with"),
        ({"query_vectors": "x"}, "query_vectors is 'x' and queries is empty: expected the path of"),
        ({"expand_level": -1}, "expand_level is -1: expected at least 0"),
        ({"expand_level": 2, "max_beams": 80}, "max_beams is 80: expected .* 0 with expand_level"),
        ({"scores": "some"}, "scores is 'some': expected one of 'full', 'level', 'valid'"),
        ({"weights": "int4"}, "weights is 'int4': expected one of 'float32', 'bfloat16', 'int8'"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(InputError, match=f"config.retrieve.{message}"):
        config(**changes)
    section = config(expand_level=2, queries="q", query_vectors="x", k=400).retrieve
    assert dataclasses.replace(section, max_beams=0).k == 400


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
        retrieve.run(config(**{name: str(tmp_path / "f.txt")}), made[0])
    path = write_queries(tmp_path / "q.jsonl", {"q3": {"allow_ids": ["p1", "nobody"]}})
    with pytest.raises(InputError, match="query 'q3': found unknown ids 'nobody' in allow_ids"):
        retrieve.run(config(queries=path), made[0])


def test_a_level_beyond_the_ids_is_refused(made):
    with pytest.raises(InputError, match=r"expand_level is 4: expected at most 3, the length"):
        retrieve.run(config(expand_level=4, **with_vectors(made[0])), made[0])
