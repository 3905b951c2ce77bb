"""The paper's equations written out in NumPy loops, in float64."""

import math

import numpy as np


def cosine(a, b):
    return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))


def reconstruction(d, d_hat):
    """Eq. 1, mean over documents and dimensions."""
    total = 0.0
    for row, row_hat in zip(d, d_hat, strict=True):
        total += float(np.sum((row - row_hat) ** 2))
    return total / d.size


def residual_quantization(r, e, eta, reduction="mean"):
    """Eq. 2 in value (stop-gradients do not change it), mean over documents.

    "mean" is that over levels and dimensions too, "sum" the equation's own.
    """
    total = (1.0 + eta) * float(np.sum((r - e) ** 2))
    return total / (r.size if reduction == "mean" else len(r))


def hierarchical_class(r, categories, level, tau, negatives):
    """Eq. 4, anchor by anchor."""
    anchors = []
    for a in range(len(r)):
        if categories[a][level] < 0:
            continue
        pos, neg = [], []
        for b in range(len(r)):
            if b == a or categories[b][level] < 0:
                continue
            similarity = math.exp(cosine(r[a], r[b]) / tau)
            if categories[b][level] == categories[a][level]:
                pos.append(similarity)
            elif (
                negatives == "global"
                or level == 0
                or categories[b][level - 1] == categories[a][level - 1]
            ):
                neg.append(similarity)
        if pos and neg:
            anchors.append(-sum(math.log(p / (p + sum(neg))) for p in pos) / len(pos))
    return sum(anchors) / len(anchors) if anchors else 0.0


def code_probabilities(r, codebook, temperature=1.0, power=1):
    """p^l = softmax(-||r - e_k||_2^power / temperature); the paper's power is 1."""
    rows = []
    for row in r:
        scores = [
            math.exp(-(math.sqrt(float(np.sum((row - e) ** 2))) ** power) / temperature)
            for e in codebook
        ]
        rows.append([s / sum(scores) for s in scores])
    return np.array(rows)


def cluster_scale(p):
    """Eq. 5: KL(mean p || uniform) + KL(uniform || mean p)."""
    mean = p.mean(axis=0)
    uniform = 1.0 / p.shape[1]
    forward = sum(m * math.log(m / uniform) for m in mean)
    backward = sum(uniform * math.log(uniform / m) for m in mean)
    return forward + backward


def dispersion(d_hat, d, tau):
    """Eq. 7; Eq. 6 with d = d_hat."""
    total = 0.0
    for i in range(len(d)):
        scores = [math.exp(cosine(d_hat[i], d[j]) / tau) for j in range(len(d))]
        total -= math.log(scores[i] / sum(scores))
    return total / len(d)


def sequence(logits, targets, weights, position_weights=None, label_smoothing=0.0, z_loss=0.0):
    """Eq. 9, weighted mean over pairs; cross entropy with a smoothed target; log(Z)^2 beside it."""
    total = 0.0
    for pair, target, weight in zip(logits, targets, weights, strict=True):
        for t, (row, y) in enumerate(zip(pair, target, strict=True)):
            normalizer = sum(math.exp(v) for v in row)
            loss = z_loss * math.log(normalizer) ** 2
            for token, v in enumerate(row):
                share = label_smoothing / len(row) + (token == y) * (1 - label_smoothing)
                loss -= share * math.log(math.exp(v) / normalizer)
            total += weight * loss * (position_weights[t] if position_weights else 1)
    return total / sum(weights)


def finite_difference(function, x, epsilon=1e-6):
    """Central differences of a scalar function of one array."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = epsilon
        gradient[index] = (function(x + step) - function(x - step)) / (2 * epsilon)
    return gradient
