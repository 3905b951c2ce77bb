"""The rows of the paper's Tables 3 to 6 and the points of Figure 5, as systems.

A row is what it changes of the configuration, whose defaults are CAT-ID2's (Table 3, row 6). The
two rows of DSI in Table 4 are in `systems`: their IDs come from clustering and not from stage 1.
"""

from collections.abc import Mapping
from typing import Any

from catid2_jax.losses import LITERAL as LITERAL_WEIGHTS

Fields = Mapping[str, Any]
"""Path of a configuration field -> value."""

LITERAL: Fields = {
    **{f"loss_weights.{name}": value for name, value in vars(LITERAL_WEIGHTS).items()},
    "rqvae.latent_dim": 32,
    "rqvae.hidden_dims": (2048, 1024, 512, 256, 128, 64),
    "rqvae.code_temperature": 1.0,
    "rqvae.code_temperature_unit": "one",
    "rqvae.linear_path": "none",
    "rqvae.held_out": 0.0,
    "rqvae_training.batch_size": 4096,
    "rqvae_training.epochs": 300,
    "rqvae_training.steps": 0,
    "rqvae_training.warmup_steps": 0,
    "rqvae_training.schedule": "constant",
    "rqvae_training.evaluate_every": 1000,
    "rqvae_training.best_metric": "",
    "rqvae_training.best_margin": 0.0,
    "rqvae_training.patience": 0,
}
"""Stage 1 to the paper's letter and, where that is silent, as related work has it."""


def _only(*terms: str) -> Fields:
    """These terms alone; L_Dis stands in the place of L_recon (section 3.3)."""
    ours = ("dispersion", "hierarchical_class", "cluster_scale", "query_alignment")
    off = {f"loss_weights.{name}": 0.0 for name in ours if name not in terms}
    return off if "dispersion" in terms else {**off, "loss_weights.reconstruction": 1.0}


_WITHOUT_CATEGORIES: Fields = {"embedding.with_categories": False}
_WITHOUT_QUERIES: Fields = {"loss_weights.query_alignment": 0.0}

CATEGORIES_AND_QUERIES: Fields = _only("hierarchical_class", "query_alignment")
"""Eq. 3 and the two constraints of CQ-SID."""

TIGER_LOSS: Fields = _only()
"""Eq. 3: the reconstruction loss in the place of the paper's three."""

DISPERSION_ALONE: Fields = _only("dispersion")
"""Eq. 2 with L_Dis in the place of L_recon: Table 3's row 4, and the loss of CoST."""


def _layers(count: int) -> Fields:
    """L levels; H stays below L."""
    return {"rqvae.levels": count, "rqvae.category_levels": min(3, count - 1)}


_FIGURE_5: Mapping[str, tuple[str, tuple[float, ...]]] = {
    # The figure's axes are not in the text; these bracket the values of section 4.1.
    "alpha": ("loss_weights.dispersion", (0.01, 0.03, 0.1, 0.3, 1.0)),
    "beta": ("loss_weights.hierarchical_class", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
    "gamma": ("loss_weights.cluster_scale", (0.1, 0.3, 1.0, 3.0, 10.0)),
    "codebook_size": ("rqvae.codebook_size", (64, 128, 256, 512, 1024)),
    "depth": ("rqvae.category_levels", (1, 2, 3)),
}

ABLATIONS: Mapping[str, Fields] = {
    "table3_tiger": TIGER_LOSS,
    "table3_hccl": _only("hierarchical_class"),
    "table3_cscl": _only("cluster_scale"),
    "table3_hccl_cscl": _only("hierarchical_class", "cluster_scale"),
    "table3_disl": DISPERSION_ALONE,
    "table3_hccl_disl": _only("hierarchical_class", "dispersion"),
    "table3_cat_id2": _WITHOUT_QUERIES,
    "table4_tiger": TIGER_LOSS,
    "table4_tiger_without_categories": {**TIGER_LOSS, **_WITHOUT_CATEGORIES},
    "table4_cat_id2": {},
    "table4_cat_id2_without_categories": _WITHOUT_CATEGORIES,
    "table5_tiger": TIGER_LOSS,
    "table5_random_sampling": {"loss_weights.negatives": "global"},
    "table5_1_level": {"rqvae.category_levels": 1},
    "table5_2_level": {"rqvae.category_levels": 2},
    "table5_2_and_3_level": {"rqvae.masked_categories": 0.5},
    "table5_3_level": {},
    **{f"table6_tiger_{count}_layers": {**TIGER_LOSS, **_layers(count)} for count in (3, 4, 5)},
    **{f"table6_cat_id2_{count}_layers": _layers(count) for count in (3, 4, 5)},
    **{
        f"figure5_{name}_{value:g}": {field: value}
        for name, (field, values) in _FIGURE_5.items()
        for value in values
    },
    **{
        f"figure5_tiger_codebook_size_{value:g}": {**TIGER_LOSS, "rqvae.codebook_size": value}
        for value in _FIGURE_5["codebook_size"][1]
    },
}
"""Name of the row -> what it changes."""


def _figures(cutoffs: tuple[int, ...], rows: Mapping[str, str]) -> dict[str, Mapping[int, float]]:
    return {
        name: dict(zip(cutoffs, map(float, row.split()), strict=True)) for name, row in rows.items()
    }


PAPER: Mapping[str, Mapping[int, float]] = {
    **_figures(
        (10, 50, 100),
        {
            "table3_tiger": "4.93 13.42 18.60",
            "table3_hccl": "4.76 12.81 17.99",
            "table3_cscl": "4.83 12.65 17.84",
            "table3_hccl_cscl": "5.35 14.69 19.05",
            "table3_disl": "5.10 13.58 18.83",
            "table3_hccl_disl": "5.17 13.76 18.95",
            "table3_cat_id2": "5.86 15.17 21.00",
        },
    ),
    **_figures(
        (5, 10, 20, 50, 100),
        {
            "table4_dsi_semantic": "1.29 2.10 3.24 5.31 7.51",
            "table4_dsi_semantic_without_categories": "1.22 1.93 3.10 5.15 7.33",
            "table4_tiger": "2.86 4.94 7.86 13.42 18.60",
            "table4_tiger_without_categories": "2.70 4.85 7.69 13.27 18.23",
            "table4_cat_id2": "3.64 5.87 8.99 15.17 21.00",
            "table4_cat_id2_without_categories": "3.60 5.79 8.90 15.13 20.95",
            "table5_tiger": "2.86 4.93 7.86 13.42 18.59",
            "table5_random_sampling": "3.50 5.61 8.76 14.78 20.34",
            "table5_1_level": "3.19 5.33 8.34 13.99 19.00",
            "table5_2_level": "3.28 5.46 8.57 14.24 19.21",
            "table5_2_and_3_level": "3.46 5.57 8.68 14.49 19.96",
            "table5_3_level": "3.65 5.87 8.99 15.17 21.00",
            "table6_tiger_3_layers": "2.88 4.87 7.44 12.64 17.38",
            "table6_cat_id2_3_layers": "2.97 5.00 7.83 12.93 17.50",
            "table6_tiger_4_layers": "2.86 4.94 7.86 13.42 18.60",
            "table6_cat_id2_4_layers": "3.64 5.87 8.99 15.17 21.00",
            "table6_tiger_5_layers": "3.06 5.01 7.87 13.40 17.99",
            "table6_cat_id2_5_layers": "3.13 5.12 8.11 13.68 19.03",
        },
    ),
}
"""Name of the row -> k -> Recall@k in % on ESCI-us that the paper reports."""
