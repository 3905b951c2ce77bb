"""T5 for one unpadded example in float64, written out with loops from the papers.

Raffel et al. (2020), section 2.1, for the Transformer; Shazeer (2020) for the gated feed-forward
layer; Hendrycks and Gimpel (2016) for the tanh approximation of GELU. Heads are consecutive columns
of the joint projections.
"""

import math

import numpy as np


def bucket(relative, bidirectional, buckets, max_distance):
    """Bucket of key position - query position, in whole numbers only.

    Beyond `exact`, the bucket is exact + floor(wide log(n / exact) / log(max_distance / exact)).
    The floor is at least k where (n / exact)^wide >= (max_distance / exact)^k.
    """
    offset = 0
    if bidirectional:
        buckets //= 2
        offset = buckets if relative > 0 else 0
        n = abs(relative)
    else:
        n = max(-relative, 0)
    exact = buckets // 2
    if n < exact:
        return offset + n
    wide = buckets - exact
    k = 0
    while k + 1 < wide and n**wide * exact ** (k + 1) >= max_distance ** (k + 1) * exact**wide:
        k += 1
    return offset + exact + k


def norm(x, scale):
    return np.stack([row / math.sqrt(np.mean(row * row) + 1e-6) * scale for row in x])


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def attention(p, x, memory, heads, bias):
    """`bias(head, i, j)` is added to the logit of query i and key j; None hides the key."""
    q, k, v = x @ p["query"]["kernel"], memory @ p["key"]["kernel"], memory @ p["value"]["kernel"]
    width = q.shape[1] // heads
    joined = np.zeros((len(x), q.shape[1]))
    for h in range(heads):
        columns = slice(h * width, (h + 1) * width)
        for i in range(len(x)):
            seen = [j for j in range(len(memory)) if bias(h, i, j) is not None]
            logits = np.array([q[i, columns] @ k[j, columns] + bias(h, i, j) for j in seen])
            joined[i, columns] = softmax(logits) @ v[seen, columns]
    return joined @ p["out"]["kernel"]


def feed_forward(p, x):
    if "wi" in p:
        hidden = np.maximum(x @ p["wi"]["kernel"], 0)
    else:
        gate = x @ p["wi_0"]["kernel"]
        gelu = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        hidden = gelu * (x @ p["wi_1"]["kernel"])
    return hidden @ p["wo"]["kernel"]


def embed(p, source):
    """Of token ids, their rows; of a vector, where there are memory tokens, its projections."""
    if "memory" not in p:
        return p["token_embedder"]["embedding"][source]
    kernel, width = p["memory"]["projection"]["kernel"], p["token_embedder"]["embedding"].shape[1]
    vector = source / math.sqrt(sum(x * x for x in source) / len(source))
    starts = range(0, kernel.shape[1], width)
    return np.stack([vector @ kernel[:, start : start + width] for start in starts])


def encode(p, source, heads, buckets, max_distance):
    stack = p["encoder"]
    table = stack["relpos_bias"]["rel_embedding"]

    def bias(h, i, j):
        return table[h, bucket(j - i, True, buckets, max_distance)]

    x = embed(p, source)
    for i in range(sum(name.startswith("layers_") for name in stack)):
        layer = stack[f"layers_{i}"]
        h = norm(x, layer["pre_attention_layer_norm"]["scale"])
        x = x + attention(layer["attention"], h, h, heads, bias)
        x = x + feed_forward(layer["mlp"], norm(x, layer["pre_mlp_layer_norm"]["scale"]))
    return norm(x, stack["encoder_norm"]["scale"])


def logits(p, source, decoder_input, heads, buckets, max_distance):
    """Logits [T, V] of a source, token ids without padding or a vector, and a target."""
    encoded = encode(p, source, heads, buckets, max_distance)
    return decode(p, encoded, decoder_input, heads, buckets, max_distance)


def decode(p, encoded, decoder_input, heads, buckets, max_distance):
    """Logits [T, V] of a target, given what any encoder made of the source, [S, E]."""
    stack = p["decoder"]
    table = stack["relpos_bias"]["rel_embedding"]

    def bias(h, i, j):
        return table[h, bucket(j - i, False, buckets, max_distance)] if j <= i else None

    x = p["token_embedder"]["embedding"][decoder_input]
    for i in range(sum(name.startswith("layers_") for name in stack)):
        layer = stack[f"layers_{i}"]
        h = norm(x, layer["pre_self_attention_layer_norm"]["scale"])
        x = x + attention(layer["self_attention"], h, h, heads, bias)
        h = norm(x, layer["pre_cross_attention_layer_norm"]["scale"])
        cross = layer["encoder_decoder_attention"]
        x = x + attention(cross, h, encoded, heads, lambda h, i, j: 0.0)
        x = x + feed_forward(layer["mlp"], norm(x, layer["pre_mlp_layer_norm"]["scale"]))
    x = norm(x, stack["decoder_norm"]["scale"])
    if "logits_dense" in stack:
        return x @ stack["logits_dense"]["kernel"]
    return x @ p["token_embedder"]["embedding"].T / math.sqrt(x.shape[1])
