"""Settings of stage 1 to start from, by the size and the tree of a catalogue."""

from collections.abc import Mapping
from typing import Any

_LEVELS = 4  # L
_CODES = ((2_000, 256), (500, 64), (0, 16))  # products at least, K
_DEEP_ENOUGH = 0.5  # share of the products that have a level which L_HCC is to see


def suggestion(catalog: Mapping[str, Any], flag: str = "") -> str:
    """Says what `suggest_settings` suggests, each name with `flag` before it."""
    settings = suggest_settings(catalog).items()
    said = " ".join(f"{flag}{name}={value}" for name, value in settings)
    return f"stage 1 may start from {said} and the default weights of its loss"


def suggest_settings(catalog: Mapping[str, Any]) -> dict[str, int]:
    """Suggests L, K and H, the fields of `rqvae`, as docs/results/ids.md found them.

    Args:
        catalog: the figures of a catalogue, by `catalog_figures`, as plain values.
    """
    products = catalog["products"]
    depths = {int(names): cases["count"] for names, cases in catalog["depths"].items()}
    deep = [
        level
        for level, figures in enumerate(catalog["categories"]["levels"][: _LEVELS - 1], 1)
        if figures["nodes"] > 1
        and sum(n for depth, n in depths.items() if depth >= level) >= _DEEP_ENOUGH * products
    ]
    return {
        "levels": _LEVELS,
        "codebook_size": next(size for least, size in _CODES if products >= least),
        "category_levels": max(deep, default=0),
    }
