"""Shapes of the published T5s, by name.

They follow the public configurations of T5 1.0 (Raffel et al., 2020), T5 1.1 (Shazeer, 2020), mT5
(Xue et al., 2021) and the two smallest of T5 Efficient (Tay et al., 2022), which are built like T5
1.0. The other three `*_tiny` are T5X's, 8 wide, to try things out.
"""

import dataclasses
from collections.abc import Mapping

from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config


@dataclasses.dataclass(frozen=True)
class T5Shape:
    """A network and its vocabulary.

    Attributes:
        config: the network; without dropout, which is the user's choice.
        rows: rows of the published embedding.
    """

    config: T5Config
    rows: int


T5_ROWS, MT5_ROWS = 32_128, 250_112


def _gated(width: int, heads: int, hidden: int, layers: int, head_dim: int = 64) -> T5Config:
    """Returns a T5 1.1: GEGLU, and logits through a kernel of their own."""
    return T5Config(width, heads, head_dim, hidden, layers, layers)


def _relu(width: int, heads: int, hidden: int, layers: int, head_dim: int = 64) -> T5Config:
    """Returns a T5 1.0: ReLU, and logits through the embedding."""
    return dataclasses.replace(
        _gated(width, heads, hidden, layers, head_dim),
        mlp_activations=("relu",),
        logits_via_embedding=True,
    )


_T5 = {
    "tiny": _relu(8, 4, 16, 2, head_dim=3),
    "efficient_tiny": _relu(256, 4, 1024, 4),
    "efficient_mini": _relu(384, 8, 1536, 4),
    "small": _relu(512, 8, 2048, 6),
    "base": _relu(768, 12, 3072, 12),
    "large": _relu(1024, 16, 4096, 24),
}
_T5_1_1 = {
    "tiny": _gated(8, 4, 16, 2, head_dim=3),
    "small": _gated(512, 6, 1024, 8),
    "base": _gated(768, 12, 2048, 12),
    "large": _gated(1024, 16, 2816, 24),
}

SHAPES: Mapping[str, T5Shape] = {
    **{f"t5_{size}": T5Shape(config, T5_ROWS) for size, config in _T5.items()},
    **{f"t5_1_1_{size}": T5Shape(config, T5_ROWS) for size, config in _T5_1_1.items()},
    # mT5 is T5 1.1 with the vocabulary of 101 languages.
    **{f"mt5_{size}": T5Shape(config, MT5_ROWS) for size, config in _T5_1_1.items()},
}


def named_shape(name: str) -> T5Shape:
    """Returns the shape of that name.

    Raises:
        InputError: there is no such shape.
    """
    if name not in SHAPES:
        raise InputError("name", repr(name), f"one of {', '.join(SHAPES)}")
    return SHAPES[name]
