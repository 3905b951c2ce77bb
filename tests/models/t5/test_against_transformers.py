"""The logits of `transformers`' T5 and mT5, from the same random weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.checkpoints.names import hugging_face_names, turned
from catid2_jax.checkpoints.tree import unflatten
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer, empty_cache

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROWS = 131
SIZES = {
    "vocab_size": ROWS,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
GATED = T5Config(
    emb_dim=24,
    num_heads=4,
    head_dim=8,
    mlp_dim=40,
    num_encoder_layers=2,
    num_decoder_layers=2,
    relative_attention_num_buckets=12,
    relative_attention_max_distance=20,
)
RELU = dataclasses.replace(GATED, mlp_activations=("relu",), logits_via_embedding=True)


def t5_1_0():
    config = transformers.T5Config(**SIZES, feed_forward_proj="relu")
    return transformers.T5ForConditionalGeneration(config), RELU


def t5_1_1():
    config = transformers.T5Config(
        **SIZES, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    )
    return transformers.T5ForConditionalGeneration(config), GATED


def mt5():
    config = transformers.MT5Config(**SIZES, feed_forward_proj="gated-gelu")
    return transformers.MT5ForConditionalGeneration(config), GATED


@functools.cache
def pair(make):
    """A network of `transformers` with random weights, ours, and its parameters."""
    theirs, config = make()
    theirs.eval()
    if not config.logits_via_embedding:
        # transformers ties the two until a checkpoint says otherwise.
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty(ROWS, 24))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            wide = parameter.ndim == 2 and "relative" not in name and "shared" not in name
            spread = parameter.shape[1] ** -0.5 if wide else 1.0
            parameter.normal_(0, spread, generator=generator)
    weights = {name: array.numpy() for name, array in theirs.state_dict().items()}
    params = {
        ours: jnp.asarray(turned(ours, weights[name]))
        for ours, name in hugging_face_names(config).items()
    }
    return theirs, Transformer(config, ROWS), {"params": unflatten(params)}


@functools.cache
def example():
    """Sources of 17, 5 and 1 tokens, padded, and targets."""
    generator = np.random.default_rng(1)
    source = generator.integers(1, ROWS, (3, 17))
    mask = np.arange(17)[None] < np.array([[17], [5], [1]])
    return np.where(mask, source, 0), mask, generator.integers(0, ROWS, (3, 9))


def their_logits(model, source, mask, target):
    with torch.no_grad():
        return model(
            input_ids=torch.tensor(source),
            attention_mask=torch.tensor(mask).long(),
            decoder_input_ids=torch.tensor(target),
        ).logits.numpy()


@pytest.mark.parametrize("make", [t5_1_0, t5_1_1, mt5])
def test_logits(make):
    theirs, ours, params = pair(make)
    source, mask, target = example()
    expected = their_logits(theirs, source, mask, target)
    found = jax.jit(ours.apply)(params, *map(jnp.asarray, (source, mask, target)))
    assert np.std(expected) > 0.5  # the tolerance is small beside what is compared
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("make", [t5_1_0, t5_1_1])
def test_decoding_with_a_cache_gives_the_logits_of_the_whole_target(make):
    theirs, ours, params = pair(make)
    source, mask, _ = example()
    beams = np.random.default_rng(2).integers(0, ROWS, (3, 2, 3))
    expected = np.stack([their_logits(theirs, source, mask, beams[:, m]) for m in range(2)], 1)

    @jax.jit
    def decode(source, mask, beams):
        encoded = ours.apply(params, source, mask, method="encode")
        cross = ours.apply(params, encoded, method="start_decoding")
        cache = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=1), empty_cache(ours.config, 3))
        logits = []
        for t in range(3):
            decoded, cache = ours.apply(
                params, beams[:, :, t], cross, mask, cache, method="decode_step"
            )
            logits.append(ours.apply(params, decoded, method="logits"))
        return jnp.stack(logits, axis=2)

    found = decode(*map(jnp.asarray, (source, mask, beams)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
