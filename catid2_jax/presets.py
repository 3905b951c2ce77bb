"""The rows of the paper's Tables 3 to 6 and the points of Figure 5, by name.

A preset is what a row changes of the defaults, which are CAT-ID2's (Table 3, row 6). The two rows
of DSI in Table 4 are not here: their IDs come from clustering and not from stage 1.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from catid2_jax.config import as_nested_dict
from catid2_jax.errors import InputError
from catid2_jax.losses import TIGER

Fields = Mapping[str, Any]
"""Path of a configuration field -> value."""

_TIGER: Fields = {f"loss_weights.{name}": value for name, value in as_nested_dict(TIGER).items()}
_HCCL: Fields = {"loss_weights.hierarchical_class": 1e-4}
_CSCL: Fields = {"loss_weights.cluster_scale": 1.0}
# L_Dis stands in the place of L_recon (section 3.3).
_DISL: Fields = {"loss_weights.dispersion": 0.1, "loss_weights.reconstruction": 0.0}
_WITHOUT_CATEGORIES: Fields = {"embedding.with_categories": False}


def _layers(count: int) -> Fields:
    """L levels; H stays below L."""
    return {"rqvae.levels": count, "rqvae.category_levels": min(3, count - 1)}


_FIGURE_5: Mapping[str, tuple[str, tuple[float, ...]]] = {
    # The figure's axes are not in the text; these bracket the values of section 4.1.
    "alpha": ("loss_weights.dispersion", (0.01, 0.03, 0.1, 0.3, 1.0)),
    "beta": ("loss_weights.hierarchical_class", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
    "gamma": ("loss_weights.cluster_scale", (0.1, 0.3, 1.0, 3.0, 10.0)),
    "codes": ("rqvae.codebook_size", (64, 128, 256, 512, 1024)),
    "depth": ("rqvae.category_levels", (1, 2, 3)),
}

PRESETS: Mapping[str, Fields] = {
    "cat_id2": {},
    "tiger": _TIGER,
    "table3_tiger": _TIGER,
    "table3_hccl": {**_TIGER, **_HCCL},
    "table3_cscl": {**_TIGER, **_CSCL},
    "table3_hccl_cscl": {**_TIGER, **_HCCL, **_CSCL},
    "table3_disl": {**_TIGER, **_DISL},
    "table3_hccl_disl": {**_TIGER, **_HCCL, **_DISL},
    "table3_cat_id2": {},
    "table4_tiger": _TIGER,
    "table4_tiger_without_categories": {**_TIGER, **_WITHOUT_CATEGORIES},
    "table4_cat_id2": {},
    "table4_cat_id2_without_categories": _WITHOUT_CATEGORIES,
    "table5_tiger": _TIGER,
    "table5_random_sampling": {"loss_weights.negatives": "global"},
    "table5_1_level": {"rqvae.category_levels": 1},
    "table5_2_level": {"rqvae.category_levels": 2},
    "table5_2_and_3_level": {"rqvae.masked_categories": 0.5},
    "table5_3_level": {},
    **{f"table6_tiger_{count}_layers": {**_TIGER, **_layers(count)} for count in (3, 4, 5)},
    **{f"table6_cat_id2_{count}_layers": _layers(count) for count in (3, 4, 5)},
    **{
        f"figure5_{name}_{value:g}": {field: value}
        for name, (field, values) in _FIGURE_5.items()
        for value in values
    },
    **{
        f"figure5_tiger_codes_{value:g}": {**_TIGER, "rqvae.codebook_size": value}
        for value in _FIGURE_5["codes"][1]
    },
}


def set_preset(config: ml_collections.ConfigDict, name: str) -> None:
    """Gives `config` the fields of `PRESETS[name]`.

    Raises:
        InputError: no preset of that name.
    """
    if name not in PRESETS:
        raise InputError(f"found preset {name!r}, expected one of {', '.join(PRESETS)}")
    config.update_from_flattened_dict(dict(PRESETS[name]))
