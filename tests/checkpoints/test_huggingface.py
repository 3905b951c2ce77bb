import dataclasses
import json
import os
import struct
import subprocess

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from catid2_jax.checkpoints.folder import read_checkpoint, write_checkpoint
from catid2_jax.checkpoints.names import hugging_face_names
from catid2_jax.checkpoints.tree import EMBEDDING, LOGITS, parameter_shapes
from catid2_jax.errors import InputError
from catid2_jax.files import temporary_path
from tests.checkpoints.examples import TIED, UNTIED, assert_same, random_checkpoint


@pytest.fixture
def folder(tmp_path, untied, text_only):
    write_checkpoint(tmp_path / "hf", "huggingface", untied, text_only)
    return tmp_path / "hf"


@pytest.mark.parametrize("config", [UNTIED, TIED], ids=["untied", "tied"])
def test_the_table_of_names_is_one_to_one(config):
    names = hugging_face_names(config)
    assert names.keys() == parameter_shapes(config, 1).keys()
    assert len(set(names.values())) == len(names)
    assert names[EMBEDDING] == "shared.weight"


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_round_trips_are_exact(tmp_path, text_only, pretrained, dtype):
    """T5X -> Hugging Face -> T5X -> Hugging Face."""
    expected = random_checkpoint(pretrained.config, dtype=dtype)
    place = tmp_path / "0"
    write_checkpoint(place, "t5x", expected, text_only)
    for number, kind in enumerate(("huggingface", "t5x", "huggingface"), start=1):
        write_checkpoint(tmp_path / f"{number}", kind, read_checkpoint(place), text_only)
        place = tmp_path / f"{number}"
        assert_same(read_checkpoint(place), expected)
    weights = "model.safetensors"
    assert (tmp_path / "1" / weights).read_bytes() == (tmp_path / "3" / weights).read_bytes()


def raw(folder):
    """Tensors by the safetensors specification, without its library: header length, JSON, bytes."""
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    return {
        name: np.frombuffer(
            content[8 + length :][slice(*entry["data_offsets"])], {"F32": "<f4"}[entry["dtype"]]
        ).reshape(entry["shape"])
        for name, entry in header.items()
    }


def test_what_is_written(folder, untied):
    found, params = raw(folder), untied.params
    np.testing.assert_array_equal(found["shared.weight"], params[EMBEDDING])
    np.testing.assert_array_equal(found["lm_head.weight"], params[LOGITS].T)
    np.testing.assert_array_equal(
        found["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"],
        params["encoder/relpos_bias/rel_embedding"].T,
    )
    np.testing.assert_array_equal(
        found["decoder.block.0.layer.1.EncDecAttention.o.weight"],
        params["decoder/layers_0/encoder_decoder_attention/out/kernel"].T,
    )
    np.testing.assert_array_equal(
        found["encoder.block.1.layer.1.DenseReluDense.wi_1.weight"],
        params["encoder/layers_1/mlp/wi_1/kernel"].T,
    )
    np.testing.assert_array_equal(
        found["decoder.final_layer_norm.weight"], params["decoder/decoder_norm/scale"]
    )
    assert len(found) == len(params)


def test_shards(folder, untied):
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {
        name: f"model-0000{1 + number % 2}-of-00002.safetensors"
        for number, name in enumerate(weights)
    }
    for file in set(places.values()):
        shard = {name: weights[name] for name in weights if places[name] == file}
        safetensors.numpy.save_file(shard, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_same(read_checkpoint(folder), untied)
    index.write_text(json.dumps({"weight_map": places | {"lm_head.weight": file}}))
    if places["lm_head.weight"] != file:
        with pytest.raises(InputError, match=f"{file}: found no parameter lm_head.weight"):
            read_checkpoint(folder)
    (folder / places["lm_head.weight"]).unlink()
    with pytest.raises(InputError, match=rf"{places['lm_head.weight']}: found no readable file"):
        read_checkpoint(folder)
    index.write_text("{}")
    with pytest.raises(InputError, match="no weight_map"):
        read_checkpoint(folder)


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = dict(safetensors.numpy.load_file(path))
    change(weights)
    safetensors.numpy.save_file(weights, path)


def without_decoder(weights):
    for name in [name for name in weights if name.startswith(("decoder.", "lm_head."))]:
        del weights[name]


@pytest.mark.parametrize("config", [UNTIED, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("alias", [False, True])
def test_an_encoder_alone(tmp_path, text_only, config, alias):
    """T5EncoderModel, as sentence encoders and the text encoders of image models are published."""
    whole = random_checkpoint(config)
    write_checkpoint(tmp_path / "hf", "huggingface", whole, text_only)
    change_weights(tmp_path / "hf", without_decoder)
    if alias:
        change_weights(
            tmp_path / "hf",
            lambda w: w.update({"encoder.embed_tokens.weight": w["shared.weight"].copy()}),
        )
    with pytest.raises(InputError, match="found a T5's encoder alone, expected a whole T5"):
        read_checkpoint(tmp_path / "hf")
    found = read_checkpoint(tmp_path / "hf", encoder_alone=True)
    assert found.is_encoder
    assert not whole.is_encoder
    assert found.params.keys() == {n for n in whole.params if not n.startswith("decoder/")}
    for name, leaf in found.params.items():
        np.testing.assert_array_equal(leaf, whole.params[name])
    write_checkpoint(tmp_path / "t5x", "t5x", dataclasses.replace(found, token_names={}))
    again = read_checkpoint(tmp_path / "t5x", encoder_alone=True)
    assert again.params.keys() == found.params.keys()
    with pytest.raises(InputError, match="found a T5's encoder alone"):
        read_checkpoint(tmp_path / "t5x")


def test_an_encoder_of_which_a_part_is_missing(folder):
    name = "encoder.final_layer_norm.weight"
    change_weights(folder, lambda weights: (without_decoder(weights), weights.pop(name)))
    with pytest.raises(InputError, match=f"found no parameter {name}"):
        read_checkpoint(folder, encoder_alone=True)


def test_a_decoder_of_which_a_part_is_missing(folder):
    change_weights(folder, lambda weights: weights.pop("decoder.final_layer_norm.weight"))
    with pytest.raises(InputError, match=r"found no parameter decoder\.final_layer_norm\.weight"):
        read_checkpoint(folder, encoder_alone=True)


def change_config(folder, **fields):
    path = folder / "config.json"
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: v for name, v in values.items() if v is not None}))
    (folder / "catid2.json").unlink(missing_ok=True)


def test_aliases_of_the_embedding_are_dropped(folder, untied):
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

    def rename(weights):
        weights["encoder.embed_tokens.weight"] = weights.pop("shared.weight")
        weights["decoder.embed_tokens.weight"] = weights["encoder.embed_tokens.weight"].copy()
        weights[unused] = np.ones((32, 2), np.float32)

    change_weights(folder, rename)
    assert_same(read_checkpoint(folder), untied)
    change_weights(folder, lambda w: w.update({"decoder.embed_tokens.weight": np.ones((128, 12))}))
    with pytest.raises(InputError, match=r"decoder\.embed_tokens\.weight unlike shared"):
        read_checkpoint(folder)


def test_one_matrix_without_scaling_is_a_kernel_of_its_own(folder, untied):
    """mT5, or transformers 5's T5 1.1, when what it saves has no lm_head."""
    change_weights(folder, lambda weights: weights.pop("lm_head.weight"))
    for fields in (
        {"tie_word_embeddings": False},
        {"tie_word_embeddings": True, "scale_decoder_outputs": False},
        {"tie_word_embeddings": True, "scale_decoder_outputs": None, "model_type": "mt5"},
    ):
        change_config(folder, **fields)
        found = read_checkpoint(folder)
        assert not found.config.logits_via_embedding
        np.testing.assert_array_equal(found.params[LOGITS], untied.params[EMBEDDING].T)


def test_a_scaled_kernel_of_its_own_is_refused(folder):
    change_config(folder, tie_word_embeddings=True)
    with pytest.raises(InputError, match=r"lm_head\.weight unlike shared\.weight"):
        read_checkpoint(folder)
    change_weights(folder, lambda w: w.update({"lm_head.weight": w["shared.weight"].copy()}))
    assert read_checkpoint(folder).config.logits_via_embedding


def test_left_out_fields_are_hugging_faces_defaults(tmp_path, text_only):
    # google-t5/t5-small's config.json has none of these.
    expected = random_checkpoint(
        dataclasses.replace(TIED, num_decoder_layers=2, dropout_rate=0.1), step=0
    )
    write_checkpoint(tmp_path / "hf", "huggingface", expected, text_only)
    change_config(
        tmp_path / "hf",
        feed_forward_proj=None,
        num_decoder_layers=None,
        relative_attention_max_distance=None,
        relative_attention_num_buckets=None,
        dropout_rate=None,
        tie_word_embeddings=None,
        layer_norm_epsilon=None,
    )
    assert_same(read_checkpoint(tmp_path / "hf"), expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "umt5"}, "model_type 'umt5', expected 't5' or 'mt5'"),
        ({"feed_forward_proj": "gelu"}, "feed_forward_proj 'gelu', expected one of relu, "),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon 1e-05, expected 1e-06"),
        ({"d_model": None}, "d_model = None, expected a number"),
        (
            {"num_layers": 3},
            r"no parameter encoder\.block\.2\.\S+, expected it for encoder/layers_2/",
        ),
        ({"num_layers": 1}, r"found the parameter encoder\.block\.1"),
        ({"d_ff": 21}, r"decoder/layers_0/mlp/wi_0/kernel of shape \(12, 20\), expected \(12, 21"),
        ({"num_heads": 4, "d_kv": 2}, r"rel_embedding of shape \(2, 32\), expected \(4, 32\)"),
    ],
)
def test_bad_configurations(folder, fields, message):
    change_config(folder, **fields)
    with pytest.raises(InputError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize("length", [0, 5, 2000, -4])
def test_truncated_weights(folder, length):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(
        InputError, match=r"model\.safetensors: found a damaged file .*, expected a whole"
    ):
        read_checkpoint(folder)


def test_a_configuration_that_is_missing_or_no_json(folder):
    for content, found in (("{", "no JSON"), ("[1]", "a JSON list")):
        (folder / "config.json").write_text(content)
        message = rf"config\.json: found {found}, expected a JSON object"
        with pytest.raises(InputError, match=message):
            read_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json: found no readable file"):
        read_checkpoint(folder)


def test_a_feed_forward_layer_that_hugging_face_lacks(tmp_path, text_only):
    config = dataclasses.replace(UNTIED, mlp_activations=("linear",))
    with pytest.raises(
        InputError, match=r"mlp_activations: found \('linear',\), expected one that"
    ):
        write_checkpoint(tmp_path / "hf", "huggingface", random_checkpoint(config), text_only)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(folder, untied, text_only):
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match="there already, expected no such folder or an empty one"):
        write_checkpoint(folder, "t5x", untied, text_only)
    assert sorted(folder.iterdir()) == before


def test_a_kill_leaves_nothing_and_its_rest_is_cleared(tmp_path, untied, monkeypatch):
    process = subprocess.Popen(["true"])  # a number that no process has any more
    process.wait()
    name = temporary_path(tmp_path / "out").name.replace(f".{os.getpid()}.", f".{process.pid}.")
    rest = tmp_path / name / "checkpoint_5/state"
    rest.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr("catid2_jax.checkpoints.folder.write_json", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_checkpoint(tmp_path / "out", "t5x", untied)
    assert not list(tmp_path.iterdir())
    rest.mkdir(parents=True)
    write_checkpoint(tmp_path / "out", "t5x", untied)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out/checkpoint_5").exists()


def test_a_tokenizer_needs_a_vocabulary(tmp_path, untied):
    with pytest.raises(InputError, match="vocabulary: found none, expected one for Hugging"):
        write_checkpoint(tmp_path / "hf", "huggingface", untied)
    assert not list(tmp_path.iterdir())
