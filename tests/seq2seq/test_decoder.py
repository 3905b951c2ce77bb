import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.vocabulary import CodeVocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer, empty_cache
from catid2_jax.seq2seq import decoder as decoders
from catid2_jax.seq2seq.decoder import T5Decoder, make_decoder
from catid2_jax.seq2seq.search import retrieve, retrieve_prefixes
from tests.reference import beam_search as reference

FIRST, K, L, N, V = 17, 6, 3, 60, 40
CONFIG = T5Config(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=1,
    num_decoder_layers=1,
)
DECODER = T5Decoder(CONFIG, V, FIRST, L, K)
MODEL = Transformer(CONFIG, V)


@pytest.fixture(scope="module")
def setting():
    """Parameters, two queries (one padded), their mask, and 60 of the 216 possible IDs."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(1, FIRST, (2, 7)), jnp.int32)
    mask = jnp.arange(7)[None, :] < jnp.array([[7], [4]])
    tokens = jnp.where(mask, tokens, 0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), tokens, mask, tokens)["params"]
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape), jnp.float32), shapes
    )
    every = np.stack(np.meshgrid(*[np.arange(K)] * L), axis=-1).reshape(-1, L)
    return params, tokens, mask, rng.permutation(every)[:N]


@pytest.fixture(scope="module")
def log_probabilities(setting):
    """By kind of score, of each ID's tokens given those before, teacher-forced: [2, N, L]."""
    params, tokens, mask, rows = setting
    ids = rows + FIRST + K * np.arange(L)
    inputs = np.pad(ids, ((0, 0), (1, 0)))[:, :L]  # token 0 first
    forward = jax.jit(functools.partial(MODEL.apply, {"params": params}))
    result = {"full": [], "level": [], "valid": []}
    for query in range(2):
        logits = forward(
            jnp.repeat(tokens[query : query + 1], N, axis=0),
            jnp.repeat(mask[query : query + 1], N, axis=0),
            jnp.asarray(inputs, jnp.int32),
        )
        logits = np.asarray(logits, np.float64)
        every = np.arange(logits.shape[2])
        allowed = {"full": np.ones(logits.shape, bool)}
        allowed["level"] = np.stack([(every - FIRST) // K == level for level in range(L)])[None]
        allowed["valid"] = np.zeros(logits.shape, bool)
        for n, level in np.ndindex(N, L):
            siblings = (rows[:, :level] == rows[n, :level]).all(axis=1)
            allowed["valid"][n, level, ids[siblings, level]] = True
        for kind, of_sum in allowed.items():
            normalized = log_softmax(np.where(of_sum, logits, -np.inf), axis=-1)
            result[kind].append(np.take_along_axis(normalized, ids[:, :, None], axis=-1)[:, :, 0])
    return {kind: np.stack(values) for kind, values in result.items()}


def search(setting, beams, normalize_over="full", allowed=None, rows=None):
    params, tokens, _, every = setting
    run = jax.jit(retrieve, static_argnames=("decoder", "beams", "k", "normalize_over"))
    trie = build_trie(every if rows is None else rows, K)
    nodes = None if allowed is None else trie.mask(allowed)
    return run(DECODER, params, tokens, trie, beams, beams, nodes, normalize_over=normalize_over)


@pytest.mark.parametrize("kind", ["full", "level"])
def test_full_beams_give_every_document_its_log_probability(setting, log_probabilities, kind):
    found = search(setting, N, normalize_over=kind)
    scores = log_probabilities[kind].sum(-1)
    assert found.documents.shape == (2, N)
    for query in range(2):
        assert sorted(found.documents[query].tolist()) == list(range(N))
        np.testing.assert_allclose(
            found.scores[query], scores[query][found.documents[query]], atol=1e-4
        )
        np.testing.assert_allclose(found.scores[query], np.sort(scores[query])[::-1], atol=1e-4)


def test_fewer_beams_give_the_beam_search_of_the_teacher_forced_model(setting, log_probabilities):
    rows = setting[3].tolist()
    found = search(setting, 5)
    for query in range(2):
        by_prefix = {
            tuple(row[: level + 1]): log_probabilities["full"][query, n, level]
            for n, row in enumerate(rows)
            for level in range(L)
        }
        expected, bound = reference.beam_search(
            rows, lambda prefix, code, table=by_prefix: table[(*prefix, code)], 5
        )
        assert found.documents[query].tolist() == [row for row, _ in expected]
        np.testing.assert_allclose(found.scores[query], [s for _, s in expected], atol=1e-4)
        np.testing.assert_allclose(found.bound[query], bound, atol=1e-4)


def test_a_filter_changes_what_is_found_and_no_score(setting, log_probabilities):
    allowed = np.zeros((2, N), bool)
    allowed[0, [3, 14, 15]] = allowed[1, [9, 26]] = True
    found = search(setting, 4, normalize_over="valid", allowed=allowed)
    scores = np.where(allowed, log_probabilities["valid"].sum(-1), -np.inf)
    for query, count in enumerate([3, 2]):
        best = np.argsort(-scores[query])[:count]
        assert found.documents[query].tolist() == [*best, *[-1] * (4 - count)]
        np.testing.assert_allclose(found.scores[query, :count], scores[query, best], atol=1e-4)


@pytest.mark.parametrize("kind", ["full", "level", "valid"])
def test_an_ids_end_is_scored_as_the_token_that_training_puts_there(setting, kind):
    """IDs of unequal length, teacher-forced; token 0 ends a shorter one."""
    params, tokens, _, every = setting
    rows = every.copy()
    rows[:20, 2] = -1
    rows[20:22, 1:] = -1
    rows = np.unique(rows, axis=0)
    targets = np.where(rows < 0, 0, rows + FIRST + K * np.arange(L))
    count = len(rows)
    # Some IDs begin others: there an end and codes compete.
    assert sum((rows[:, :2] == row[:2]).all(1).sum() > 1 for row in rows[rows[:, 2] < 0]) > 3
    expected = np.zeros((2, count))
    for query in range(2):
        logits = np.asarray(
            DECODER.logits(
                params, jnp.repeat(tokens[query : query + 1], count, axis=0), jnp.asarray(targets)
            ),
            np.float64,
        )
        for n, level in np.ndindex(count, L):
            if level and targets[n, level - 1] == 0:
                continue  # the ID has ended
            competing = {
                "full": np.arange(V),
                # No ID ends before its first code.
                "level": np.append(FIRST + K * level + np.arange(K), [0] if level else []),
                "valid": np.unique(
                    targets[(targets[:, :level] == targets[n, :level]).all(1), level]
                ),
            }[kind]
            chance = log_softmax(logits[n, level, competing.astype(int)])
            expected[query, n] += chance[competing == targets[n, level]].item()
    found = search(setting, count, normalize_over=kind, rows=rows)
    for query in range(2):
        assert sorted(found.documents[query].tolist()) == list(range(count))
        np.testing.assert_allclose(
            found.scores[query], expected[query][found.documents[query]], atol=1e-4
        )
    # Nothing of the vocabulary is left over where IDs compete with each other alone.
    if kind == "valid":
        np.testing.assert_allclose(np.exp(expected).sum(axis=1), 1.0, rtol=1e-6)


def test_prefixes_are_those_of_the_search(setting, log_probabilities):
    params, tokens, _, rows = setting
    trie = build_trie(rows, K)
    found = retrieve_prefixes(DECODER, params, tokens, trie, N, 2)
    starts = trie.leaf_starts(2)
    for query in range(2):
        by_prefix = {
            tuple(row[:2]): log_probabilities["full"][query, n, :2].sum()
            for n, row in enumerate(rows.tolist())
        }
        count = len(by_prefix)
        nodes, scores = found.nodes[query, :count], found.scores[query, :count]
        prefixes = [tuple(rows[trie.documents[starts[node]]][:2].tolist()) for node in nodes]
        assert sorted(prefixes) == sorted(by_prefix)
        np.testing.assert_allclose(scores, [by_prefix[p] for p in prefixes], atol=1e-4)
        assert (np.asarray(found.scores[query, count:]) == -np.inf).all()


@pytest.mark.parametrize("tied", [False, True])
def test_logits_of_some_columns_are_those_of_all(setting, tied):
    config = dataclasses.replace(MODEL.config, logits_via_embedding=tied)
    model = Transformer(config, MODEL.vocabulary_size)
    params, tokens, mask, _ = setting

    @jax.jit
    def logits():
        encoded = model.apply({"params": params}, tokens, mask, method="encode")
        cross = model.apply({"params": params}, encoded, method="start_decoding")
        arguments = (jnp.zeros((2, 1), jnp.int32), cross, mask, empty_cache(config, 2))
        decoded, _ = model.apply({"params": params}, *arguments, method="decode_step")
        every, some = (
            model.apply({"params": params}, decoded, *columns, method="logits")
            for columns in ((), (slice(23, 29),))
        )
        return every, some

    every, some = logits()
    assert every.shape == (2, 1, 40)
    np.testing.assert_allclose(some, every[..., 23:29], atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "level", "valid"])
def test_the_whole_vocabulary_has_logits_only_where_the_scores_need_them(setting, kind):
    text = str(jax.make_jaxpr(lambda: search(setting, 5, normalize_over=kind))())
    assert ("f32[2,5,6]" in text, "f32[2,5,40]" in text) == (True, kind == "full")


def test_few_logits_at_once_change_nothing(setting, monkeypatch):
    together = search(setting, 5)
    monkeypatch.setattr(decoders, "_LOGITS_AT_ONCE", 1)
    jax.clear_caches()
    one_query_at_a_time = search(setting, 5)
    np.testing.assert_array_equal(one_query_at_a_time.documents, together.documents)
    np.testing.assert_allclose(one_query_at_a_time.scores, together.scores, atol=1e-5)


def test_a_vocabulary_that_ends_before_the_last_id_token_is_refused():
    # 23 + 3 x 6 = 41 rows are needed, 22 + 18 = 40 are there.
    T5Decoder(CONFIG, V, 22, L, K)
    with pytest.raises(InputError, match="40 rows, expected at least 41 for 3 levels of 6 codes"):
        T5Decoder(CONFIG, V, 23, L, K)


def test_a_decoder_by_name_is_that_of_the_vocabulary():
    vocabulary = CodeVocabulary(L, K, FIRST)
    assert make_decoder("t5", CONFIG, vocabulary) == T5Decoder(CONFIG, 128, FIRST, L, K)
    path = "catid2_jax.seq2seq.decoder:T5Decoder"
    assert make_decoder(path, CONFIG, vocabulary) == make_decoder("t5", CONFIG, vocabulary)
    with pytest.raises(InputError, match="'lstm', expected"):
        make_decoder("lstm", CONFIG, vocabulary)
