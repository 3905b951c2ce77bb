"""What a table of codes is worth before any model is trained on it."""

import numpy as np


def codebook_usage(codes: np.ndarray, codes_per_level: int) -> dict[str, float]:
    """How evenly each level uses its codes.

    Args:
        codes: int [N, L].
        codes_per_level: K.

    Returns:
        Per level l from 1: `perplexity/level_l`, exp of the usage's entropy (K at the best), and
        `codes_used/level_l`, the share of the K codes that occur.
    """
    usage: dict[str, float] = {}
    for level, column in enumerate(codes.T, 1):
        share = np.bincount(column, minlength=codes_per_level) / len(column)
        used = share[share > 0]
        usage[f"perplexity/level_{level}"] = float(np.exp(-np.sum(used * np.log(used))))
        usage[f"codes_used/level_{level}"] = float(np.mean(share > 0))
    return usage
