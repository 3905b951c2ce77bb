"""BERT for one unpadded text in float64, written out with loops from the paper.

Devlin et al. (2019), and Vaswani et al. (2017), section 3, for the layers; Hendrycks and Gimpel
(2016) for the exact GELU. Weights have Hugging Face's names and layout, [outputs, inputs].
"""

import math

import numpy as np


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights, name, x, epsilon):
    rows = [(row - row.mean()) / math.sqrt(np.mean((row - row.mean()) ** 2) + epsilon) for row in x]
    return np.stack(rows) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attention(weights, name, x, heads):
    query, key, value = (linear(weights, f"{name}.{part}", x) for part in ("query", "key", "value"))
    width = x.shape[1] // heads
    joined = np.zeros_like(x)
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        for i in range(len(x)):
            logits = np.array([query[i, columns] @ row for row in key[:, columns]])
            chances = np.exp(logits / math.sqrt(width))
            joined[i, columns] = chances / chances.sum() @ value[:, columns]
    return joined


def gelu(x):
    return np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


def states(weights, tokens, heads, layers, epsilon):
    """The state [S, E] of each of S tokens after the last layer."""
    x = np.stack(
        [
            weights["embeddings.word_embeddings.weight"][token]
            + weights["embeddings.position_embeddings.weight"][position]
            + weights["embeddings.token_type_embeddings.weight"][0]
            for position, token in enumerate(tokens)
        ]
    )
    x = norm(weights, "embeddings.LayerNorm", x, epsilon)
    for i in range(layers):
        layer = f"encoder.layer.{i}"
        h = attention(weights, f"{layer}.attention.self", x, heads)
        h = linear(weights, f"{layer}.attention.output.dense", h)
        x = norm(weights, f"{layer}.attention.output.LayerNorm", x + h, epsilon)
        h = gelu(linear(weights, f"{layer}.intermediate.dense", x))
        h = linear(weights, f"{layer}.output.dense", h)
        x = norm(weights, f"{layer}.output.LayerNorm", x + h, epsilon)
    return x
