import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from catid2_jax.checkpoints.folder import load_pretrained, read_checkpoint, write_checkpoint
from catid2_jax.checkpoints.id_rows import find_vocabulary, with_id_tokens
from catid2_jax.checkpoints.tree import EMBEDDING, LOGITS, IdTokens
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.t5.network import Transformer
from tests.checkpoints.examples import TIED, UNTIED, assert_same, random_checkpoint

L, K = 3, 50


def tables(checkpoint):
    """The tables as [rows, width]."""
    params = checkpoint.params
    return [params[EMBEDDING], *([params[LOGITS].T] if LOGITS in params else [])]


def test_what_grows_and_what_stays(pretrained, vocabulary):
    first = vocabulary.first_id_token
    grown = with_id_tokens(pretrained, vocabulary, "here", seed=3)
    assert grown.id_tokens == IdTokens(first, L, K)
    assert grown.rows == vocabulary.rows
    for before, after in zip(tables(pretrained), tables(grown), strict=True):
        assert after.dtype == before.dtype
        assert after.shape == (vocabulary.rows, 12)
        np.testing.assert_array_equal(after[:first], before[:first])
        assert not np.isin(before[first:], after).any()  # spare rows become ID tokens
        text, drawn = before[:first].astype(np.float64), after[first : first + L * K]
        # 150 draws: the mean is off by spread / sqrt(150), the spread by a sqrt(2 * 150)th.
        assert np.all(np.abs(drawn.mean(0) - text.mean(0)) < 4.5 * text.std(0) / 150**0.5)
        np.testing.assert_allclose(drawn.std(0), text.std(0), rtol=0.25)
        assert len(np.unique(drawn.round(6), axis=0)) == L * K
        # What fills up to 128 rows is the mean.
        rest = after[first + L * K :]
        assert 0 < len(rest) < 128
        np.testing.assert_allclose(rest, np.tile(text.mean(0), (len(rest), 1)), rtol=1e-5)
    for name in pretrained.params.keys() - {EMBEDDING, LOGITS}:
        np.testing.assert_array_equal(grown.params[name], pretrained.params[name])


@pytest.mark.parametrize("codebooks", [None, np.random.default_rng(0).normal(size=(L, K, 7))])
def test_embedding_and_logits_get_the_same_draw(untied, vocabulary, codebooks):
    first = vocabulary.first_id_token
    grown = with_id_tokens(untied, vocabulary, "", codebooks)
    one, two = (
        (table[first : first + L * K] - table[:first].mean(0)) / table[:first].std(0)
        for table in tables(grown)
    )
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_the_seed_says_all(untied, vocabulary):
    one, same, other = (with_id_tokens(untied, vocabulary, "", seed=s) for s in (1, 1, 2))
    assert_same(one, same)
    assert not np.array_equal(one.params[EMBEDDING], other.params[EMBEDDING])


def test_spare_rows_after_the_last_id_token_stay(untied, spiece):
    few = Vocabulary(spiece, 2, 3, extra_ids=20)
    assert few.rows == 128
    last = few.first_id_token + 6
    grown = with_id_tokens(untied, few, "")
    for before, after in zip(tables(untied), tables(grown), strict=True):
        np.testing.assert_array_equal(after[last:], before[last:])
        assert not np.isin(before[few.first_id_token : last], after).any()
    # The rows do not say whether it has them; the note does.
    assert_same(with_id_tokens(grown, few, "", seed=9), grown)


def test_a_checkpoint_that_has_them_comes_back_as_it_is(untied, vocabulary):
    grown = with_id_tokens(untied, vocabulary, "")
    assert_same(with_id_tokens(grown, vocabulary, "", seed=9), grown)
    # Where no note says so, the rows do.
    silent = dataclasses.replace(grown, id_tokens=None)
    again = with_id_tokens(silent, vocabulary, "", seed=9)
    assert_same(again, grown)
    assert again.id_tokens == grown.id_tokens


@pytest.mark.parametrize("latent", [5, 12, 40])
def test_codebooks_keep_what_is_like_alike(untied, vocabulary, latent):
    """Distances among a level's rows follow those of its codebook, up to the scale of dimensions.

    Where the latent space is no wider than the model, the map keeps distances, and what is left of
    their order after dimensions are standardised is high; each level gets the same spread, however
    short its codebook's vectors.
    """
    generator = np.random.default_rng(0)
    codebooks = generator.normal(size=(L, K, latent)) * np.array([1.0, 0.1, 0.01])[:, None, None]
    codebooks += generator.normal(size=latent)
    first = vocabulary.first_id_token
    grown = with_id_tokens(untied, vocabulary, "", codebooks=codebooks, seed=4)
    for before, after in zip(tables(untied), tables(grown), strict=True):
        text = before[:first].astype(np.float64)
        rows = after[first : first + L * K].reshape(L, K, 12).astype(np.float64)
        np.testing.assert_allclose(rows.mean(1), np.tile(text.mean(0), (L, 1)), atol=1e-5)
        np.testing.assert_allclose(rows.std(1), np.tile(text.std(0), (L, 1)), rtol=1e-4)
        standard = (rows - text.mean(0)) / text.std(0)
        for level in range(L):
            # The rows are a linear map of the codes: least squares leaves nothing.
            codes = codebooks[level] - codebooks[level].mean(0)
            fit = np.linalg.lstsq(codes, standard[level], rcond=None)[0]
            np.testing.assert_allclose(codes @ fit, standard[level], atol=1e-4)
            near, far = pairwise(codebooks[level]), pairwise(standard[level])
            if latent <= 12:
                assert np.corrcoef(near, far)[0, 1] > 0.7
            if latent >= 12:  # the map's columns are orthogonal, whatever their lengths
                angles = fit.T @ fit / np.outer(*[np.linalg.norm(fit, axis=0)] * 2)
                np.testing.assert_allclose(angles, np.eye(12), atol=1e-3)


def pairwise(x):
    distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    return distances[np.triu_indices(len(x), 1)]


def test_codes_that_are_all_the_same_get_the_mean(untied, vocabulary):
    codebooks = np.random.default_rng(0).normal(size=(L, K, 7)).astype(np.float32)
    codebooks[1] = codebooks[1, 0]
    first = vocabulary.first_id_token
    table = with_id_tokens(untied, vocabulary, "", codebooks=codebooks).params[EMBEDDING]
    mean = table[:first].mean(0)
    np.testing.assert_allclose(table[first + K : first + 2 * K], np.tile(mean, (K, 1)), atol=1e-6)
    assert np.all(table[first : first + K].std(0) > 0.1)


def test_bfloat16_tables_stay_bfloat16(vocabulary):
    pretrained = random_checkpoint(UNTIED, dtype=ml_dtypes.bfloat16)
    grown = with_id_tokens(pretrained, vocabulary, "")
    assert {array.dtype for array in grown.params.values()} == {np.dtype(ml_dtypes.bfloat16)}


def test_a_vocabulary_that_is_not_the_checkpoints(untied, spiece, vocabulary):
    beyond = Vocabulary(spiece, L, K, extra_ids=100)
    with pytest.raises(InputError, match=rf"here: .* of 128 rows, expected {beyond.pieces + 100} "):
        with_id_tokens(untied, beyond, "here")
    # 300 rows: neither the text's nor those of text and ID tokens.
    with pytest.raises(InputError, match=r"of 384 rows, expected .* to 128 .* or 256 with the ID"):
        with_id_tokens(random_checkpoint(UNTIED, 384), vocabulary, "here")
    text = Vocabulary(spiece, 0, 0, extra_ids=20)
    with pytest.raises(InputError, match=r"of 256 rows, expected .* to 128"):
        with_id_tokens(random_checkpoint(UNTIED, 256), text, "here")


def test_a_table_of_another_size(untied, spiece, vocabulary):
    grown = with_id_tokens(untied, vocabulary, "")
    for levels, codes, extra in ((3, 49, 20), (2, 50, 20), (3, 50, 21)):
        with pytest.raises(InputError, match=rf"3 x 50 codes from .*expected {levels} x {codes} "):
            with_id_tokens(grown, Vocabulary(spiece, levels, codes, extra), "here")
    for shape in ((3, 51, 8), (4, 50, 8), (150, 8)):
        with pytest.raises(
            InputError, match=r"codebooks: found shape .*expected 3 levels of 50 codes"
        ):
            with_id_tokens(untied, vocabulary, "here", codebooks=np.ones(shape))


def test_load_pretrained_is_what_the_network_takes(tmp_path, untied, vocabulary, text_only):
    write_checkpoint(tmp_path / "t5x", "t5x", untied)
    write_checkpoint(tmp_path / "hf", "huggingface", untied, text_only)
    config = dataclasses.replace(UNTIED, dropout_rate=0.3, dtype="bfloat16")
    params, other = (
        load_pretrained(tmp_path / form, config, vocabulary, seed=5) for form in ("t5x", "hf")
    )
    tokens = jnp.zeros((1, 1), jnp.int32)
    init = Transformer(config, vocabulary.rows).init
    expected = jax.eval_shape(init, jax.random.key(0), tokens, tokens == 0, tokens)["params"]
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, params, other)
    for found, leaf in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        assert (found.shape, found.dtype) == (leaf.shape, leaf.dtype)
    np.testing.assert_array_equal(
        params["token_embedder"]["embedding"][: vocabulary.first_id_token],
        untied.params[EMBEDDING][: vocabulary.first_id_token],
    )


@pytest.mark.parametrize("form", ["t5x", "huggingface"])
def test_a_vocabulary_of_the_same_size_with_other_pieces(tmp_path, untied, spiece, text_only, form):
    write_checkpoint(tmp_path / form, form, untied, text_only)
    piece = sorted(Vocabulary(spiece, 0, 0).piece_texts, key=len)[-1].encode()
    other = tmp_path / "other.model"
    other.write_bytes(spiece.read_bytes().replace(piece, piece[:-1] + b"~"))
    message = rf"{form}: found other pieces in its spiece\.model than in the vocabulary given"
    with pytest.raises(InputError, match=message):
        load_pretrained(tmp_path / form, UNTIED, Vocabulary(other, L, K, extra_ids=20))


def test_load_pretrained_of_half_precision_is_float32(tmp_path, vocabulary):
    half = random_checkpoint(UNTIED, dtype=ml_dtypes.bfloat16)
    write_checkpoint(tmp_path / "t5x", "t5x", half)
    params = load_pretrained(tmp_path / "t5x", UNTIED, vocabulary)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"emb_dim": 13}, r"found decoder/decoder_norm/scale of shape \(12,\), expected \(13,\)"),
        ({"num_decoder_layers": 2}, "decoder/layers_1/.* of shape none, expected"),
        ({"logits_via_embedding": True}, "logits_dense/kernel of shape .*expected none"),
        ({"relative_attention_max_distance": 64}, "max_distance = 128, expected 64"),
        ({"mlp_activations": ("silu", "linear")}, r"\('gelu', 'linear'\), expected \('silu'"),
    ],
)
def test_a_network_that_is_not_the_checkpoints(tmp_path, untied, vocabulary, fields, message):
    write_checkpoint(tmp_path / "t5x", "t5x", untied)
    with pytest.raises(InputError, match=message):
        load_pretrained(tmp_path / "t5x", dataclasses.replace(UNTIED, **fields), vocabulary)


OWN = {"[BRAND]": 0, "[SIZE]": 1, "[COLOR]": 2}  # name -> its place after pieces and extra ids


def as_added_tokens(first):
    return "added_tokens.json", {name: first + n for name, n in OWN.items()}


def as_decoder(first):
    tokens = {str(first + n): {"content": name, "special": False} for name, n in OWN.items()}
    return "tokenizer_config.json", {"added_tokens_decoder": tokens}


def as_tokenizer(first):
    return "tokenizer.json", {
        "added_tokens": [{"id": first + n, "content": name} for name, n in OWN.items()]
    }


@pytest.mark.parametrize("form", [as_added_tokens, as_decoder, as_tokenizer])
@pytest.mark.parametrize("levels", [L, 2])
def test_rows_of_a_fine_tunes_own_tokens_are_not_overwritten(
    tmp_path, untied, spiece, text_only, form, levels
):
    write_checkpoint(tmp_path / "hf", "huggingface", untied, text_only)
    (tmp_path / "hf/catid2.json").unlink()
    first = text_only.first_id_token
    name, values = form(first)
    path = tmp_path / "hf" / name
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | values))
    codes = {L: K, 2: 3}[levels]
    checkpoint = read_checkpoint(tmp_path / "hf")
    with pytest.raises(InputError) as caught:
        with_id_tokens(checkpoint, Vocabulary(spiece, levels, codes, extra_ids=20), "here")
    pieces = first - 20
    assert str(caught.value) == (
        f"here: found 3 tokens of its own after {pieces} pieces and 20 extra ids, such as "
        f"'[BRAND]' of id {first}, expected 23 extra ids, which keep the rows of all of them"
    )
    wider = Vocabulary(spiece, levels, codes, extra_ids=23)
    for old, new in zip(
        tables(checkpoint), tables(with_id_tokens(checkpoint, wider, "here")), strict=True
    ):
        np.testing.assert_array_equal(new[: first + 3], old[: first + 3])
    alone = Vocabulary(spiece, 0, 0, extra_ids=20)
    assert_same(with_id_tokens(checkpoint, alone, "here"), checkpoint)


def test_extra_ids_and_id_tokens_that_the_tokenizer_names(tmp_path, untied, spiece, vocabulary):
    grown = with_id_tokens(untied, vocabulary, "")
    write_checkpoint(tmp_path / "hf", "huggingface", grown, vocabulary)
    (tmp_path / "hf/catid2.json").unlink()
    found = read_checkpoint(tmp_path / "hf")
    assert_same(with_id_tokens(found, vocabulary, "here"), dataclasses.replace(grown, step=0))
    with pytest.raises(InputError, match=r"found 20 tokens of its own .* expected 20 extra ids"):
        with_id_tokens(found, Vocabulary(spiece, L, K), "here")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("added_tokens.json", {"x": "y"}),
        ("added_tokens.json", {"x": None}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"3": "x"}}),
        ("tokenizer_config.json", {"added_tokens_decoder": [3]}),
        ("tokenizer.json", {"added_tokens": [{"id": 3}]}),
        ("tokenizer.json", {"added_tokens": 3}),
    ],
)
def test_added_tokens_of_another_form(tmp_path, untied, text_only, name, values):
    write_checkpoint(tmp_path / "hf", "huggingface", untied, text_only)
    (tmp_path / "hf" / name).write_text(json.dumps(values))
    with pytest.raises(InputError, match=rf"{name}: found added tokens of another form"):
        read_checkpoint(tmp_path / "hf")


def test_the_vocabulary_is_the_checkpoints_where_nothing_is_said(untied, spiece, vocabulary):
    assert find_vocabulary(untied) is None
    beside = dataclasses.replace(untied, vocabulary=spiece)
    assert find_vocabulary(beside).rows == 128
    asked = find_vocabulary(beside, levels=L, codebook_size=K, extra_ids=20)
    assert (asked.first_id_token, asked.rows) == (vocabulary.first_id_token, vocabulary.rows)
    grown = dataclasses.replace(with_id_tokens(untied, vocabulary, ""), vocabulary=spiece)
    found = find_vocabulary(grown)
    assert (found.first_id_token, found.levels, found.codebook_size) == (
        vocabulary.first_id_token,
        L,
        K,
    )
    assert find_vocabulary(grown, codebook_size=7).codebook_size == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 3}, "found 3 levels, 0 codes and 0 extra ids"),
        ({"codebook_size": 3}, "found 0 levels, 3 codes"),
        ({"levels": -1, "codebook_size": -1}, "-1 levels, -1 codes .* no number below 0"),
        ({"extra_ids": -1}, "-1 extra ids"),
    ],
)
def test_numbers_that_do_not_go_together(untied, spiece, arguments, message):
    beside = dataclasses.replace(untied, vocabulary=spiece)
    with pytest.raises(InputError, match=message):
        find_vocabulary(beside, **arguments)
    with pytest.raises(InputError, match="vocabulary: found none"):
        find_vocabulary(untied, **arguments)


def test_tied_logits_have_no_second_table(vocabulary):
    grown = with_id_tokens(random_checkpoint(TIED), vocabulary, "")
    assert LOGITS not in grown.params
