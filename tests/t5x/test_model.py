"""T5X's network and beam search, beside the package's own."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.docids.vocabulary import CodeVocabulary, train_vocabulary
from catid2_jax.errors import InputError
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.workdir import Record, record_path, write_record

pytestmark = pytest.mark.t5x
pytest.importorskip("t5x")

import seqio
from t5x import decoding, models
from t5x.examples.scalable_t5 import network as scalable_network
from t5x.examples.t5 import network

from catid2_jax.t5x.model import RetrievalModel, same_decoder, same_network
from catid2_jax.t5x.vocabulary import IdVocabulary

FIRST, K, L, N = 2, 2, 3, 6
V = FIRST + K * L
KINDS = {
    "t5 1.1": {"mlp_activations": ("gelu", "linear")},
    "t5 1.0": {"mlp_activations": ("relu",), "logits_via_embedding": True},
}


@pytest.fixture(autouse=True)
def rank_promotion():
    """T5X promotes ranks in silence."""
    with jax.numpy_rank_promotion("allow"):
        yield


def t5x_network(rows, **options):
    shape = {"emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 24}
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 2, "dtype": "float32"}
    return network.Transformer(network.T5Config(rows, **shape, **layers, **options))


def random_params(module):
    """Of T5X's own tree, drawn anew, so that no scale is one and no bias small."""
    ones = jnp.ones((1, 1), jnp.int32)
    init = functools.partial(module.init, enable_dropout=False)
    shapes = jax.eval_shape(init, jax.random.key(0), ones, ones, ones)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.4, s.shape), "float32"), shapes)


def queries(rows):
    """Three, the second and third padded."""
    tokens = np.random.default_rng(1).integers(1, rows, (3, 7)).astype(np.int32)
    return jnp.asarray(np.where(np.arange(7) < [[7], [4], [2]], tokens, 0))


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_logits_are_those_of_t5xs_network(options):
    theirs = t5x_network(40, **options)
    params, sources = random_params(theirs), queries(40)
    targets = jnp.asarray(np.random.default_rng(2).integers(1, 40, (3, 150)), jnp.int32)
    inputs = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    expected = theirs.apply({"params": params}, sources, inputs, targets, enable_dropout=False)
    found = same_network(theirs).apply({"params": params}, sources, sources != 0, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def codes_of_catalogue():
    """N of the 8 IDs of 3 levels of 2 codes, in no order."""
    rows = np.array(list(itertools.product(range(K), repeat=L)), np.int32)
    return np.random.default_rng(3).permutation(rows)[:N]


def t5x_search(model_class, beams):
    """What T5X finds: token sequences [B, M, L] and scores [B, M], best first."""
    vocabulary = seqio.PassThroughVocabulary(V, eos_id=1)
    module = t5x_network(V, **KINDS["t5 1.1"])
    model = model_class(module, vocabulary, vocabulary, optimizer_def=None)
    sources = queries(V)
    batch = {
        "encoder_input_tokens": sources,
        "decoder_input_tokens": jnp.zeros((len(sources), L), jnp.int32),
    }
    # No token ends a sequence.
    options = {"eos_id": -1, "alpha": 0.0}
    tokens, aux = model.predict_batch_with_aux(
        random_params(module), batch, None, options, True, beams
    )
    return np.asarray(tokens[:, ::-1]), np.asarray(aux["scores"][:, ::-1])


def own_search(beams, normalize_over):
    module, codes = t5x_network(V, **KINDS["t5 1.1"]), codes_of_catalogue()
    found = retrieve(
        same_decoder(module, CodeVocabulary(L, K, FIRST)),
        random_params(module),
        queries(V),
        build_trie(codes, K),
        beams,
        beams,
        normalize_over=normalize_over,
    )
    tokens = codes + FIRST + K * np.arange(L)
    return tokens[np.asarray(found.documents)], np.asarray(found.scores)


def test_full_scores_are_t5xs_of_all_sequences():
    """With as many beams as sequences, T5X's search misses none; the IDs among them are ours."""
    sequences, scores = t5x_search(models.EncoderDecoderModel, V**L)
    found, found_scores = own_search(N, "full")
    ids = {tuple(row) for row in (codes_of_catalogue() + FIRST + K * np.arange(L)).tolist()}
    for query, rows in enumerate(sequences.tolist()):
        assert len({tuple(row) for row in rows}) == V**L
        kept = [i for i, row in enumerate(rows) if tuple(row) in ids]
        np.testing.assert_array_equal(found[query], sequences[query, kept])
        np.testing.assert_allclose(found_scores[query], scores[query, kept], atol=1e-4)


class ConstrainedModel(models.EncoderDecoderModel):
    """T5X's search, its logits masked where no ID goes on."""

    def _compute_logits_from_slice(self, decoding_state, *args, **options):
        logits, cache = super()._compute_logits_from_slice(decoding_state, *args, **options)
        ids = jnp.asarray(codes_of_catalogue() + FIRST + K * np.arange(L))
        level, sequences = decoding_state.cur_index, decoding_state.sequences[:, None, 1:]
        same = ((sequences == ids) | (jnp.arange(L) >= level)).all(axis=-1)
        following = jax.nn.one_hot(ids[:, level], V, dtype=bool)
        allowed = (same[:, :, None] & following).any(axis=1)
        return jnp.where(allowed, logits, decoding.NEG_INF_VALUE), cache


@pytest.mark.parametrize("beams", [1, 2, 3, N])
def test_valid_scores_are_those_of_t5xs_search_with_a_mask(beams):
    sequences, scores = t5x_search(ConstrainedModel, beams)
    found, found_scores = own_search(beams, "valid")
    np.testing.assert_array_equal(found, sequences)
    np.testing.assert_allclose(found_scores, scores, atol=1e-4)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A vocabulary, the IDs of N products, and a second system's of four of the codes."""
    place = tmp_path_factory.mktemp("work")
    (place / "x.model").write_bytes(train_vocabulary(["a red shoe", "a steel kettle"] * 20, 30))
    (place / "steps").mkdir()
    for system, codes in (("cat_id2", codes_of_catalogue()), ("tiger", codes_of_catalogue()[2:])):
        table = DocidTable([f"p{n}" for n in range(len(codes))], codes)
        write_docids(place / system / "docids.jsonl", table)
        record = Record({}, system, True, 1.0, {"levels": L, "codebook_size": K})
        write_record(record_path(place / system, "docids"), record)
    return place


def retrieval_model(workdir, **options):
    vocabulary = IdVocabulary(workdir / "x.model", L, K)
    module = t5x_network(vocabulary.ids.rows, **KINDS["t5 1.1"])
    model = RetrievalModel(module, vocabulary, vocabulary, None, str(workdir), **options)
    return model, random_params(module), vocabulary


@pytest.mark.parametrize("beams", [4, N + 2])
def test_the_models_predictions_are_the_searchs_worst_first(workdir, beams):
    model, params, vocabulary = retrieval_model(workdir)
    sources = queries(vocabulary.ids.pieces)
    batch = {"encoder_input_tokens": sources}
    tokens, aux = model.predict_batch_with_aux(
        params, batch, return_all_decodes=True, num_decodes=beams
    )
    expected = retrieve(
        same_decoder(model.module, vocabulary.ids),
        params,
        sources,
        build_trie(codes_of_catalogue(), K),
        min(beams, N),
        min(beams, N),
    )
    missing = max(beams - N, 0)
    ids = vocabulary.ids.encode_codes(codes_of_catalogue())
    np.testing.assert_array_equal(tokens[:, ::-1][:, : beams - missing], ids[expected.documents])
    np.testing.assert_array_equal(tokens[:, :missing], 0)
    scores = np.asarray(aux["scores"])
    np.testing.assert_allclose(scores[:, missing:][:, ::-1], expected.scores, rtol=1e-6)
    np.testing.assert_array_equal(scores[:, :missing], decoding.NEG_INF_VALUE)

    best, best_aux = model.predict_batch_with_aux(
        params, batch, return_all_decodes=False, num_decodes=beams
    )
    np.testing.assert_array_equal(best, tokens[:, -1])
    np.testing.assert_allclose(best_aux["scores"], scores[:, -1], rtol=1e-6)


def test_the_products_are_those_of_the_system(workdir):
    model, params, vocabulary = retrieval_model(workdir, system="tiger")
    batch = {"encoder_input_tokens": queries(vocabulary.ids.pieces)}
    tokens, _ = model.predict_batch_with_aux(params, batch, return_all_decodes=True, num_decodes=N)
    ids = set(map(tuple, vocabulary.ids.encode_codes(codes_of_catalogue()[2:]).tolist()))
    for rows in np.asarray(tokens).tolist():
        assert {tuple(row) for row in rows[-4:]} == ids
        assert rows[:-4] == [[0] * L] * (N - 4)


def test_an_id_has_no_prompt(workdir):
    model, params, _ = retrieval_model(workdir)
    with pytest.raises(InputError) as error:
        model.predict_batch_with_aux(params, {}, prompt_with_targets=True)
    assert error.value.args == ("prompt_with_targets", "True", "False: an ID has no prompt")


def test_another_network_is_refused():
    with pytest.raises(InputError, match=r"found t5x\.examples\.scalable_t5\.network\.") as error:
        same_network(scalable_network.Transformer(scalable_network.T5Config(8)))
    assert error.value.where == "module"


def test_a_network_without_rows_for_the_ids_is_refused():
    same_decoder(t5x_network(V), CodeVocabulary(L, K, FIRST))
    with pytest.raises(InputError, match=f"found {V} rows, expected at least {V + 1} for 3 levels"):
        same_decoder(t5x_network(V), CodeVocabulary(L, K, FIRST + 1))


def test_t5x_cannot_learn_where_an_id_ends():
    """Why IDs of unequal length are refused: the loss and the attention leave out token 0."""
    model = models.EncoderDecoderModel(
        t5x_network(40), *[seqio.PassThroughVocabulary(40, eos_id=1)] * 2, optimizer_def=None
    )
    features = {"inputs": [[5, 1]], "targets": [[21, 23]]}  # the end would be a third token, 0
    data = seqio.utils.tf.data.Dataset.from_tensor_slices(features)
    converter = model.FEATURE_CONVERTER_CLS(pack=False)
    (row,) = converter(data, {"inputs": 2, "targets": 3}).as_numpy_iterator()
    assert row["decoder_target_tokens"].tolist() == [21, 23, 0]
    assert row["decoder_loss_weights"].tolist() == [1, 1, 0]
    params, sources = random_params(t5x_network(40)), jnp.array([[5, 1]])
    inputs = jnp.array([[0, 21, 23]])
    logits = [
        t5x_network(40).apply(
            {"params": params}, sources, inputs, jnp.array([targets]), enable_dropout=False
        )[0, -1]
        for targets in ([21, 23, 0], [21, 23, 25])
    ]
    assert np.abs(logits[0] - logits[1]).max() > 0.1
