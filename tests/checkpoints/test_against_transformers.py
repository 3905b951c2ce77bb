"""What is written loads in `transformers`, and what `transformers` writes is read."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.checkpoints.folder import read_checkpoint, write_checkpoint
from catid2_jax.checkpoints.id_rows import with_id_tokens
from catid2_jax.checkpoints.tree import unflatten
from catid2_jax.models.t5.network import Transformer
from tests.checkpoints.examples import TIED, UNTIED, assert_same, random_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(params=[UNTIED, TIED], ids=["untied", "tied"])
def grown(request, vocabulary):
    return with_id_tokens(random_checkpoint(request.param), vocabulary, "")


@pytest.fixture
def folder(tmp_path, grown, vocabulary):
    write_checkpoint(tmp_path / "hf", "huggingface", grown, vocabulary)
    return tmp_path / "hf"


def our_logits(checkpoint, source, target):
    params = {"params": unflatten({n: jnp.asarray(x) for n, x in checkpoint.params.items()})}
    source, target = jnp.asarray(source), jnp.asarray(target)
    return apply(Transformer(checkpoint.config, checkpoint.rows), params, source, target)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, source, target):
    return model.apply(params, source, source != 0, target)


def their_logits(model, source, target):
    with torch.no_grad():
        return model(
            input_ids=torch.tensor(source),
            attention_mask=torch.tensor(source != 0).long(),
            decoder_input_ids=torch.tensor(target),
        ).logits.numpy()


def test_from_pretrained(folder, grown, vocabulary):
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["a red shoe", "tea"]
    batch = tokenizer(texts, padding="max_length", max_length=9, return_tensors="np")
    np.testing.assert_array_equal(batch["input_ids"], vocabulary.encode(texts, 9))
    np.testing.assert_array_equal(batch["attention_mask"], batch["input_ids"] != 0)
    assert tokenizer.convert_tokens_to_ids("<id_2_49>") == vocabulary.first_id_token + 149

    names = [tokenizer.convert_tokens_to_ids(f"<id_{level}_{7 + level}>") for level in range(3)]
    target = np.array([[0, *names[:2]], [0, 3, 4]])
    expected = their_logits(model, batch["input_ids"], target)
    assert np.std(expected) > 0.1
    found = our_logits(grown, batch["input_ids"], target)
    np.testing.assert_allclose(found, expected, atol=1e-5)

    # Greedy decoding there is the argmax of our logits, token by token.
    generated = model.generate(
        input_ids=torch.tensor(batch["input_ids"]),
        attention_mask=torch.tensor(batch["attention_mask"]),
        max_new_tokens=3,
        min_new_tokens=3,
        num_beams=1,
        do_sample=False,
        suppress_tokens=[1],
    ).numpy()
    ours = np.zeros((2, 4), int)
    for t in range(3):
        logits = np.array(our_logits(grown, batch["input_ids"], ours[:, :3])[:, t])
        logits[:, 1] = -np.inf
        ours[:, t + 1] = logits.argmax(-1)
    np.testing.assert_array_equal(generated, ours)


@pytest.mark.parametrize("shard", ["1GB", "5KB"])
def test_what_transformers_saves(tmp_path, folder, grown, shard):
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model.save_pretrained(tmp_path / "saved", max_shard_size=shard)
    tokenizer.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved/model.safetensors").exists() == (shard == "1GB")
    found = read_checkpoint(tmp_path / "saved")
    assert_same(found, dataclasses.replace(grown, step=0))
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.get_vocab() == tokenizer.get_vocab()


def test_half_precision(tmp_path, folder, grown):
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "saved")
    found = read_checkpoint(tmp_path / "saved")
    for name, array in grown.params.items():
        # Rounded to nearest, ties to even, in both libraries.
        np.testing.assert_array_equal(found.params[name], array.astype(found.params[name].dtype))
        assert found.params[name].dtype.name == "bfloat16"


def test_mt5_is_read_too(tmp_path):
    config = transformers.MT5Config(
        vocab_size=50, d_model=12, d_kv=4, d_ff=20, num_layers=2, num_decoder_layers=1, num_heads=2
    )
    model = transformers.MT5ForConditionalGeneration(config).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(50, 12))
    model.save_pretrained(tmp_path / "mt5")
    assert json.loads((tmp_path / "mt5/config.json").read_text())["model_type"] == "mt5"
    found = read_checkpoint(tmp_path / "mt5")
    assert found.config == dataclasses.replace(UNTIED, dropout_rate=0.1)
    source, target = np.array([[4, 9, 1, 0]]), np.array([[0, 7, 12]])
    np.testing.assert_allclose(
        our_logits(found, source, target), their_logits(model, source, target), atol=1e-5
    )
