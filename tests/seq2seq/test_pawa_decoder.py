"""NCI's decoder: output weights that depend on the prefix, in training and in the search alike."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.vocabulary import CodeVocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.bert import BertConfig
from catid2_jax.models.t5.config import T5Config
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.decoder import T5Decoder, make_decoder
from catid2_jax.seq2seq.pawa_decoder import PawaDecoder
from catid2_jax.seq2seq.search import retrieve

FIRST, K, L, V, E, R = 12, 4, 3, 24, 16, 2
CONFIG = T5Config(
    emb_dim=E,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    num_encoder_layers=1,
    num_decoder_layers=1,
    adaptor_layers=2,
    adaptor_rank=R,
)
DECODER = PawaDecoder(CONFIG, V, FIRST, L, K)
SOURCES = jnp.array([[5, 6, 7, 1], [8, 1, 0, 0]], jnp.int32)
ROWS = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 2], [3, 1, 2], [3, 0, 0], [2, 2, 1], [1, 3, 3]])
TARGETS = jnp.asarray(ROWS + FIRST + K * np.arange(L), jnp.int32)


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(
        DECODER.initialize, jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.int32)
    )
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda s: jnp.asarray(draw(0, 0.4, s.shape), jnp.float32), shapes)


def logits_of(decoder, params, query, targets=TARGETS):
    sources = jnp.repeat(SOURCES[query : query + 1], len(targets), axis=0)
    return np.asarray(jax.jit(decoder.logits)(params, sources, targets), np.float64)


def output_weights(params, query, monkeypatch):
    """W~ of each ID's positions, [N, L, E, V], from the states that the two stacks give."""
    seen = {}

    def adapt(network, states, prefixes):
        shape = (*states.shape, R)
        left, right = network.left(prefixes), network.right(prefixes)
        seen.update(states=states, left=left.reshape(shape), right=right.reshape(shape))
        return states

    @jax.jit
    def run(params, sources):
        DECODER.logits(params, sources, TARGETS)
        return dict(seen)

    monkeypatch.setattr("catid2_jax.models.pawa.PrefixAwareTransformer._adapt", adapt)
    seen = run(params, jnp.repeat(SOURCES[query : query + 1], len(ROWS), axis=0))
    monkeypatch.undo()
    left, right = (np.asarray(seen[side], np.float64) for side in ("left", "right"))
    matrices = np.eye(E) + np.einsum("nler,nlfr->nlef", left, right)
    kernel = np.asarray(params["decoder"]["logits_dense"]["kernel"], np.float64)
    return np.asarray(seen["states"], np.float64), matrices @ kernel


def test_logits_are_the_states_times_weights_of_the_query_and_the_prefix(params, monkeypatch):
    states, weights = output_weights(params, 0, monkeypatch)
    expected = np.einsum("nle,nlev->nlv", states, weights)
    np.testing.assert_allclose(logits_of(DECODER, params, 0), expected, atol=2e-4)
    # The weights are those of the prefix before a position, and of nothing after it.
    for level in range(L):
        for one, other in np.ndindex(len(ROWS), len(ROWS)):
            same = (ROWS[one, :level] == ROWS[other, :level]).all()
            difference = np.abs(weights[one, level] - weights[other, level]).max()
            assert difference < 1e-4 if same else difference > 1e-2
    _, of_another = output_weights(params, 1, monkeypatch)
    assert (np.abs(weights - of_another).max(axis=(2, 3)) > 1e-2).all()


def test_it_starts_as_t5():
    form = jax.ShapeDtypeStruct((4,), jnp.int32)
    params = jax.jit(DECODER.initialize, static_argnums=1)(jax.random.key(1), form)
    plain = {name: params[name] for name in params if name not in ("adaptor", "left", "right")}
    found = logits_of(DECODER, params, 0)
    np.testing.assert_allclose(
        found, logits_of(T5Decoder(CONFIG, V, FIRST, L, K), plain, 0), atol=1e-5
    )


@pytest.mark.parametrize("ends", [False, True])
def test_the_search_scores_ids_as_teacher_forcing_does(params, ends):
    rows = ROWS.copy()
    if ends:
        rows[0, 2] = rows[4, 1] = rows[4, 2] = -1
    targets = np.where(rows < 0, 0, rows + FIRST + K * np.arange(L))
    count = len(rows)
    run = jax.jit(retrieve, static_argnames=("decoder", "beams", "k", "normalize_over"))
    trie = build_trie(rows, K)
    found = run(DECODER, params, SOURCES, trie, count, count, normalize_over="full")
    for query in range(2):
        log_p = log_softmax(logits_of(DECODER, params, query, jnp.asarray(targets)), axis=-1)
        chosen = np.take_along_axis(log_p, targets[:, :, None], axis=2)[:, :, 0]
        after_end = np.pad(targets, ((0, 0), (1, 0)), constant_values=1)[:, :-1] == 0
        expected = np.where(after_end, 0.0, chosen).sum(axis=1)
        assert sorted(found.documents[query].tolist()) == list(range(count))
        np.testing.assert_allclose(
            found.scores[query], expected[found.documents[query]], rtol=1e-4, atol=1e-4
        )


def test_it_is_found_by_its_name_with_and_without_a_pretrained_encoder():
    vocabulary = CodeVocabulary(L, K, FIRST)
    assert make_decoder("pawa", CONFIG, vocabulary) == dataclasses.replace(
        DECODER, vocabulary_size=vocabulary.rows
    )
    encoder = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    over_bert = make_decoder("pawa", CONFIG, vocabulary, encoder)
    params = jax.eval_shape(
        over_bert.initialize, jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.int32)
    )
    assert {"bert", "adaptor", "left", "right"} < set(params)
    assert "encoder" not in params


def test_a_pretrained_t5_has_no_adaptor():
    with pytest.raises(InputError) as error:
        Seq2SeqConfig(decoder="pawa", pretrained="t5", vocabulary="t5.model")
    assert (error.value.where, error.value.found) == ("decoder", "'pawa' with pretrained 't5'")
