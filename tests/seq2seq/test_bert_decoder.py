"""T5's decoder over a BERT: the papers' equations, the search's steps, what training changes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from catid2_jax.checkpoints.bert import hugging_face_name, read_bert, read_bert_config
from catid2_jax.checkpoints.tree import flatten
from catid2_jax.checkpoints.wordpiece import read_tokenizer
from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.vocabulary import CodeVocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.progress import console
from catid2_jax.seq2seq import source as sources
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.seq2seq.decoder import make_decoder
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.seq2seq.source import WordPieceSource
from tests.checkpoints.bert_folder import SHAPE, words_of, write_bert
from tests.reference import bert as bert_reference
from tests.reference import t5 as t5_reference

TEXTS = ["red garden hose", "red shoe", "hose", "blue garden shoe and a red hose"]
K, L = 4, 3
T5 = T5Config(
    emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24, num_encoder_layers=5, num_decoder_layers=1
)
VOCABULARY = CodeVocabulary(L, K)
CODES = np.array([[0, 1, 2], [0, 1, 3], [2, 0, 0], [3, 3, 1], [2, 2, -1], [1, -1, -1]])
TARGETS = jnp.asarray(VOCABULARY.encode_codes(CODES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder, TEXTS)
    return folder


@pytest.fixture(scope="module")
def source(folder):
    return WordPieceSource(VOCABULARY, read_tokenizer(folder), 6)


@functools.cache
def setting(folder, width=16):
    """A decoder of some width, and random parameters with the folder's encoder."""
    config = dataclasses.replace(T5, emb_dim=width)
    decoder = make_decoder("bert_t5", config, VOCABULARY, read_bert_config(folder))
    form = jax.ShapeDtypeStruct((6,), jnp.int32)
    shapes = jax.eval_shape(lambda key: decoder.initialize(key, form), jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.4, s.shape), jnp.float32), shapes)
    return decoder, {**params, "bert": jax.tree.map(jnp.asarray, read_bert(folder))}


@functools.partial(jax.jit, static_argnames=("decoder", "source_dropout", "packed_tokens"))
def logits(decoder, params, tokens, targets, **options):
    return decoder.logits(params, tokens, targets, **options)


def test_a_text_becomes_its_wordpieces_padded_and_cut(source, monkeypatch):
    ids = {word: i for i, word in enumerate(words_of(TEXTS))}
    expected = [
        ["[CLS]", "red", "garden", "hose", "[SEP]", "[PAD]"],
        ["[CLS]", "[SEP]", "[PAD]", "[PAD]", "[PAD]", "[PAD]"],
        ["[CLS]", "blue", "garden", "shoe", "and", "[SEP]"],
        ["[CLS]", "hose", "[SEP]", "[PAD]", "[PAD]", "[PAD]"],
    ]
    texts = [TEXTS[0], "", TEXTS[3], TEXTS[2]]
    for at_once in (4096, 3):
        monkeypatch.setattr(sources, "_TEXTS_AT_ONCE", at_once)
        with console.capture() as capture:
            found = source.of_queries(texts, name="titles")
        assert found.dtype == np.int32
        assert found.tolist() == [[ids[word] for word in row] for row in expected]
        assert capture.get() == "1 of 4 titles cut to 6 tokens\n"
    assert source.of_queries([]).shape == (0, 6)
    assert source.vocabulary.first_id_token == 1  # the decoder has no tokens of text


@pytest.mark.parametrize("width", [16, 12])
def test_logits_are_those_of_the_papers(folder, source, width):
    """With a projection, and without where the widths are the same."""
    decoder, params = setting(folder, width)
    assert ("projection" in params) == (width != SHAPE["hidden_size"])
    tokens = source.of_queries(TEXTS[:3])
    found = logits(decoder, params, jnp.asarray(tokens), TARGETS[:3])
    double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    weights = {
        hugging_face_name(name): leaf.T if name.endswith("kernel") else leaf
        for name, leaf in flatten(double["bert"]).items()
    }
    for row, text in enumerate(tokens):
        states = bert_reference.states(weights, text[text > 0], 3, 2, SHAPE["layer_norm_eps"])
        if "projection" in params:
            states = states @ double["projection"]["kernel"]
        inputs = [0, *TARGETS[row, :-1].tolist()]
        expected = t5_reference.decode(double, states, inputs, 2, 32, 128)
        assert np.std(expected) > 0.3
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["full", "level"])
def test_the_search_scores_ids_as_teacher_forcing_does(folder, source, kind):
    decoder, params = setting(folder)
    tokens = jnp.asarray(source.of_queries(TEXTS[:2]))
    run = jax.jit(retrieve, static_argnames=("decoder", "beams", "k", "normalize_over"))
    trie, count = build_trie(CODES, K), len(CODES)
    found = run(decoder, params, tokens, trie, count, count, normalize_over=kind)
    for query in range(2):
        rows = jnp.repeat(tokens[query : query + 1], count, axis=0)
        forced = np.array(logits(decoder, params, rows, TARGETS), np.float64)
        if kind == "level":
            for level in range(L):
                own = 1 + K * level + np.arange(K)
                others = np.setdiff1d(np.arange(forced.shape[2]), [*own, *([0] if level else [])])
                forced[:, level, others] = -np.inf
        chances = np.take_along_axis(log_softmax(forced, -1), np.asarray(TARGETS)[..., None], -1)
        ended = np.pad(np.asarray(TARGETS) == 0, ((0, 0), (1, 0)))[:, :-1]
        scores = np.where(ended, 0, chances[..., 0]).sum(1)
        order = np.argsort(-scores)
        assert found.documents[query].tolist() == order.tolist()
        np.testing.assert_allclose(found.scores[query], scores[order], atol=1e-4)


def test_training_reaches_the_encoder_and_packing_changes_nothing(folder, source):
    decoder, params = setting(folder)
    still = dataclasses.replace(
        decoder.encoder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    decoder = dataclasses.replace(decoder, encoder=still)
    tokens = jnp.asarray(source.of_queries(TEXTS))  # 5, 4, 3 and 6 of 24

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params):
        options = {"key": jax.random.key(0), "packed_tokens": 18}
        found = decoder.logits(params, tokens, TARGETS[:4], **options)
        return -jnp.sum(jax.nn.log_softmax(found)[..., 1]), found

    found, packed = gradient(params)
    np.testing.assert_allclose(packed, logits(decoder, params, tokens, TARGETS[:4]), atol=1e-4)
    norms = {name: float(jnp.linalg.norm(leaf)) for name, leaf in flatten(found["bert"]).items()}
    assert {name for name, norm in norms.items() if norm < 1e-3} == {
        f"layers_{i}/attention/key/bias"
        for i in range(2)  # it moves all logits of a token alike
    }
    moved = np.flatnonzero(np.abs(found["bert"]["word_embeddings"]["embedding"]).sum(1))
    assert moved.tolist() == sorted(set(np.unique(tokens)) - {0})


def test_hidden_tokens_are_hidden_from_encoder_and_decoder(folder, source):
    """If all but [CLS] are, what they are makes no difference."""
    decoder, params = setting(folder)
    one, other = (jnp.asarray(source.of_queries([text] * 6)) for text in ("red hose", "and shoe"))
    options = {"key": jax.random.key(0)}
    for share, alike in ((0.999999, True), (0.0, False)):
        found = [
            logits(decoder, params, tokens, TARGETS, source_dropout=share, **options)
            for tokens in (one, other)
        ]
        assert (np.abs(found[0] - found[1]).max() < 1e-5) == alike


@pytest.mark.parametrize(
    ("fields", "where", "found"),
    [
        ({"decoder": "my:Decoder"}, "decoder", "'my:Decoder' with pretrained_encoder 'b'"),
        ({"pretrained": "t", "vocabulary": "v"}, "pretrained", "'t' with pretrained_encoder 'b'"),
        ({"vocabulary": "v"}, "vocabulary", "'v' with pretrained_encoder 'b'"),
        ({"source_tokens": 2}, "source_tokens", "2"),
        ({"encoder_learning_rate": -1.0}, "encoder_learning_rate", "-1.0"),
        ({"decoder": "bert_t5", "pretrained_encoder": ""}, "pretrained_encoder", "''"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields, where, found):
    Seq2SeqConfig(pretrained_encoder="b", decoder="bert_t5")
    with pytest.raises(InputError) as error:
        Seq2SeqConfig(**({"pretrained_encoder": "b"} | fields))
    assert (error.value.where, error.value.found) == (where, found)
