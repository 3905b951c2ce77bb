"""Sequences and scores of Hugging Face's beam search with `prefix_allowed_tokens_fn`."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from catid2_jax.decoding.trie import build_trie
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from catid2_jax.seq2seq.decoder import T5Decoder
from catid2_jax.seq2seq.search import retrieve
from tests.reference import beam_search as reference

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

FIRST, K, L, N, V = 17, 9, 4, 400, 60
CONFIG = T5Config(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=2,
)
SUBLAYERS = {
    "encoder": {"attention": "0.SelfAttention", "mlp": "1.DenseReluDense"},
    "decoder": {
        "self_attention": "0.SelfAttention",
        "encoder_decoder_attention": "1.EncDecAttention",
        "mlp": "2.DenseReluDense",
    },
}
NORMS = {
    "pre_attention_layer_norm": 0,
    "pre_self_attention_layer_norm": 0,
    "pre_cross_attention_layer_norm": 1,
}
KERNELS = {"query": "q", "key": "k", "value": "v", "out": "o"}


def hugging_face_name(path):
    """The name in Hugging Face's model of a parameter in T5X's tree."""
    stack, *rest = path
    if stack == "token_embedder":
        return "shared.weight"
    if rest[0] == "relpos_bias":
        return f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    if rest[0] == "logits_dense":
        return "lm_head.weight"
    if rest[0].endswith("_norm"):
        return f"{stack}.final_layer_norm.weight"
    layer, part, kernel = int(rest[0].removeprefix("layers_")), *rest[1:3]
    if kernel == "scale":
        position = NORMS.get(part, len(SUBLAYERS[stack]) - 1)
        return f"{stack}.block.{layer}.layer.{position}.layer_norm.weight"
    place = SUBLAYERS[stack][part]
    return f"{stack}.block.{layer}.layer.{place}.{KERNELS.get(kernel, kernel)}.weight"


def hugging_face_model(params):
    """The same network in PyTorch."""
    config = transformers.T5Config(
        vocab_size=V,
        d_model=CONFIG.emb_dim,
        d_kv=CONFIG.head_dim,
        d_ff=CONFIG.mlp_dim,
        num_layers=CONFIG.num_encoder_layers,
        num_decoder_layers=CONFIG.num_decoder_layers,
        num_heads=CONFIG.num_heads,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=None,
    )
    # T5 1.1's output layer is its own; the class ties it to the embedding.
    config.tie_word_embeddings = config.scale_decoder_outputs = False
    model = transformers.T5ForConditionalGeneration(config).eval()
    state = {
        hugging_face_name(path): torch.tensor(np.array(leaf.T if path[-1] != "embedding" else leaf))
        for path, leaf in flax.traverse_util.flatten_dict(params).items()
    }
    for stack in ("encoder", "decoder"):
        state[f"{stack}.embed_tokens.weight"] = state["shared.weight"]
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def setting():
    """Parameters, three queries (two padded) and 400 of the 6,561 possible IDs."""
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(1, FIRST, (3, 7)), jnp.int32)
    mask = jnp.arange(7)[None, :] < jnp.array([[7], [4], [2]])
    tokens = jnp.where(mask, tokens, 0)
    shapes = jax.eval_shape(Transformer(CONFIG, V).init, jax.random.key(0), tokens, mask, tokens)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape), jnp.float32), shapes["params"]
    )
    rows = np.unique(rng.integers(0, K, (2 * N, L)), axis=0)
    return params, tokens, mask, rng.permutation(rows)[:N]


@pytest.mark.parametrize("beams", [1, 5, 9, 30])
def test_sequences_and_scores_are_those_of_transformers(setting, beams):
    params, tokens, mask, rows = setting
    found = jax.jit(
        lambda params, tokens, trie: retrieve(
            T5Decoder(CONFIG, V, FIRST, L, K), params, tokens, trie, beams, beams
        )
    )(params, tokens, build_trie(rows, K))

    ids = rows + FIRST + K * np.arange(L)
    prefixes = reference.dict_trie(ids.tolist())

    def allowed(query, generated):
        node = prefixes
        for token in generated.tolist()[1:]:
            node = node[token]
        return sorted(node)

    expected = hugging_face_model(params).generate(
        input_ids=torch.tensor(np.array(tokens, np.int64)),
        attention_mask=torch.tensor(np.array(mask, np.int64)),
        prefix_allowed_tokens_fn=allowed,
        num_beams=beams,
        num_return_sequences=beams,
        do_sample=False,
        early_stopping=True,
        length_penalty=0.0,
        max_new_tokens=L,
        return_dict_in_generate=True,
        output_scores=True,
    )
    sequences = expected.sequences.numpy().reshape(3, beams, L + 1)[:, :, 1:]
    np.testing.assert_array_equal(ids[found.documents], sequences)
    if beams > 1:
        scores = expected.sequences_scores.numpy().reshape(3, beams)
        np.testing.assert_allclose(found.scores, scores, atol=2e-4)
