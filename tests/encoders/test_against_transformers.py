"""The means of `transformers`' encoder states, from a random T5 that it saved."""

import numpy as np
import pytest

from catid2_jax.encoders.config import EmbeddingConfig
from catid2_jax.encoders.registry import make_encoder
from tests.checkpoints.examples import WORDS, write_vocabulary

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 128,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 3,
}
NETWORKS = {
    "1.0": (transformers.T5ForConditionalGeneration, transformers.T5Config, {}),
    "1.1": (
        transformers.T5ForConditionalGeneration,
        transformers.T5Config,
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "mT5": (
        transformers.MT5ForConditionalGeneration,
        transformers.MT5Config,
        {"feed_forward_proj": "gated-gelu"},
    ),
}


def save_random(name, folder):
    """A network whose weights are all drawn and whose states are of order 1."""
    network, config, changes = NETWORKS[name]
    model = network(config(**SIZES, **changes))
    if name != "1.0":
        # transformers ties the two until a checkpoint says otherwise.
        model.lm_head.weight = torch.nn.Parameter(torch.empty(128, 24))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            wide = parameter.ndim == 2 and "relative" not in parameter_name
            spread = parameter.shape[1] ** -0.5 if wide and "shared" not in parameter_name else 1.0
            parameter.normal_(0, spread, generator=generator)
    model.save_pretrained(folder)


@pytest.mark.parametrize("name", NETWORKS)
def test_means_of_states(tmp_path, name):
    save_random(name, tmp_path)
    write_vocabulary(tmp_path / "spiece.model")
    generator = np.random.default_rng(3)
    texts = ["", *(" ".join(generator.choice(WORDS, n)) for n in (1, 9, 3, 200, 30, 2))]
    section = EmbeddingConfig("t5", str(tmp_path), max_tokens=160, batch_tokens=400)
    encoder = make_encoder(section)
    found, lengths = encoder.encode_and_count(texts)
    assert lengths.max() > 160

    tokens, _ = encoder.network.tokenize(texts)
    width = max(map(len, tokens))
    batch = torch.tensor([ids + [0] * (width - len(ids)) for ids in tokens])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in tokens])
    theirs = transformers.T5EncoderModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        states = theirs(input_ids=batch, attention_mask=mask).last_hidden_state
    expected = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    assert expected.std() > 0.2
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
