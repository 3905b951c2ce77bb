"""The systems that can be trained and compared, a row each.

A system is an ID scheme and a retriever, or a retriever alone, with what it changes of the
configuration. One more is one row here; a row, a scheme or a retriever of your own is named by its
dotted path instead.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from catid2_jax.ablations import (
    ABLATIONS,
    CATEGORIES_AND_QUERIES,
    DISPERSION_ALONE,
    LITERAL,
    PAPER,
    TIGER_LOSS,
)
from catid2_jax.encoders.config import SPLITS
from catid2_jax.retrievers.retriever import DPR, FUSED


@dataclasses.dataclass(frozen=True)
class System:
    """A row.

    Attributes:
        label: its name in tables.
        retriever: short name or dotted path.
        scheme: short name or dotted path of the ID scheme; empty for a retriever without IDs.
        changes: path of a configuration field -> its value for this system; options of its scheme
            and its retriever (`options.NAME.FIELD`) are such fields, too.
        model_of: another system whose IDs and network it searches with; empty for its own.
        paper: data set -> cutoff -> Recall in % that the paper reports.
        source: the paper it comes from, and where this differs.
    """

    label: str
    retriever: str = "generative"
    scheme: str = ""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model_of: str = ""
    paper: Mapping[str, Mapping[int, float]] = dataclasses.field(default_factory=dict)
    source: str = ""


_CUTOFFS = (5, 10, 20, 50, 100)


def _table2(us: str, es: str, jp: str) -> Mapping[str, Mapping[int, float]]:
    """A row of Table 2: Recall@5, 10, 20, 50, 100 on ESCI-us, es and jp."""
    return {
        name: dict(zip(_CUTOFFS, map(float, row.split()), strict=True))
        for name, row in (("us", us), ("es", es), ("jp", jp))
    }


def _sentence_encoder(path: str) -> Mapping[str, Any]:
    """What has products and queries encoded by a model of sentence-transformers."""
    return {
        "embedding.encoder": "sentence_transformers",
        "embedding.path": path,
        "embedding.vocabulary": "",
        **{f"embedding.{split}_query_vectors": "" for split in SPLITS},
    }


SYSTEMS: Mapping[str, System] = {
    "cat_id2": System(
        "CAT-ID2",
        scheme="rqvae",
        paper=_table2(
            "3.64 5.86 8.99 15.17 21.00",
            "6.09 10.14 15.97 24.79 32.10",
            "4.90 7.89 12.39 20.23 26.61",
        ),
        source="after Liu et al., 2025 (K = 256), with losses that act and a term of the queries",
    ),
    "cat_id2_literal": System(
        "CAT-ID2, literal",
        scheme="rqvae",
        changes=LITERAL,
        source="Liu et al., 2025, to the letter: docs/results/ids.md says what that does",
    ),
    "tiger": System(
        "TIGER",
        scheme="rqvae",
        changes=TIGER_LOSS,
        paper=_table2(
            "2.86 4.93 7.86 13.42 18.59",
            "5.70 9.45 15.31 24.14 31.08",
            "4.32 7.64 12.40 20.21 25.83",
        ),
        source="Rajput et al., 2023: Eq. 3; unique IDs by reassignment, not by a further code",
    ),
    "cost": System(
        "CoST",
        scheme="rqvae",
        changes=DISPERSION_ALONE,
        paper={"us": {10: 5.10, 50: 13.58, 100: 18.83}},
        source="Zhu et al., 2024: L_Dis alone (Table 3, row 4); unique IDs by reassignment",
    ),
    "bm25": System(
        "BM25",
        retriever="bm25",
        paper=_table2(
            "3.35 5.68 9.05 14.69 19.42",
            "3.10 5.19 8.40 13.75 18.85",
            "2.56 3.23 3.85 4.45 4.86",
        ),
        source="Robertson and Zaragoza, 2009; bm25s with its defaults and English stop words",
    ),
    "rq_kmeans": System(
        "RQ-KMeans",
        scheme="residual_kmeans",
        source="residual k-means as in QARM (Luo et al., 2024); unique IDs by reassignment",
    ),
    "rq_kmeans_balanced": System(
        "RQ-KMeans, balanced",
        scheme="residual_kmeans",
        changes={"options.residual_kmeans.balanced": True},
        source="OneRec (Deng et al., 2025), with Sinkhorn's plan in the place of a greedy one",
    ),
    "category_prefix": System(
        "category prefix",
        scheme="category_prefix",
        source="after Hi-Gen (Wu et al., 2024): the category path, then residual k-means",
    ),
    "random_ids": System("random IDs", scheme="random", source="the floor of all IDs"),
    "given": System("given IDs", scheme="given", source="IDs made elsewhere: docids.path"),
    "clusters": System(
        "CAT-ID2, clusters",
        retriever="clusters",
        model_of="cat_id2",
        source="section 4.7, after Hi-Gen (Wu et al., 2024) and GDR (Yuan et al., 2024)",
    ),
    **{
        name: System(name, scheme="rqvae", changes=changes, paper={"us": PAPER.get(name, {})})
        for name, changes in ABLATIONS.items()
    },
    "cat_id2_512": System(
        "CAT-ID2, K = 512",
        scheme="rqvae",
        changes={"rqvae.codebook_size": 512},
        paper=_table2(
            "3.97 6.54 10.21 16.75 23.37",
            "5.38 9.71 15.50 24.73 31.60",
            "4.57 8.09 13.06 21.88 28.14",
        ),
        source="as cat_id2, with codebooks of 512, the paper's other size",
    ),
    "dense": System(
        "dense",
        retriever="dense",
        source="exact search by the run's own embeddings, which other systems learn their IDs from",
    ),
    "dpr": System(
        "DPR",
        retriever=DPR,
        paper=_table2(
            "3.84 6.77 10.88 18.76 26.34",
            "2.77 4.64 7.63 13.73 19.50",
            "2.86 4.45 6.45 10.05 14.10",
        ),
        source="Karpukhin et al., 2020: towers as stage 2's encoder, cosines, means of states",
    ),
    "sentence_t5": System(
        "Sentence-T5",
        retriever="dense",
        changes=_sentence_encoder("sentence-transformers/sentence-t5-base"),
        paper={"us": dict(zip(_CUTOFFS, (3.04, 4.98, 8.32, 14.80, 23.47), strict=True))},
        source="Ni et al., 2022: the base model, frozen; the paper does not say which, or how",
    ),
    "mpnet": System(
        "multilingual MPNet",
        retriever="dense",
        changes=_sentence_encoder("sentence-transformers/paraphrase-multilingual-mpnet-base-v2"),
        paper=_table2(
            "1.70 2.88 4.62 8.62 13.08",
            "1.69 3.04 4.94 8.00 11.69",
            "0.57 0.85 1.19 1.65 2.07",
        ),
        source="Song et al., 2020, by Reimers and Gurevych, frozen; the paper does not say which",
    ),
    "nearest_query": System(
        "nearest training query",
        retriever="nearest_query",
        source="the products of the training queries that BM25 finds: no model, not in the paper",
    ),
    "fused": System(
        "fused",
        retriever=FUSED,
        source="Cormack et al., 2009: what options.fused.systems names; CAT-ID2, BM25 and the "
        "nearest training query are the best three on dev, see docs/results/ids.md",
    ),
    "dsi_naive": System(
        "DSI, naive",
        scheme="naive",
        paper=_table2(
            "0.19 0.27 0.38 0.66 1.05",
            "1.22 2.22 3.66 6.09 8.84",
            "1.05 1.76 2.91 5.07 6.73",
        ),
        source="Tay et al., 2022; digits are ID tokens of their place, titles stand for documents",
    ),
    "dsi_semantic": System(
        "DSI, semantic",
        scheme="tree_kmeans",
        paper=_table2(
            "1.29 2.09 3.23 5.31 7.51",
            "4.61 7.93 12.96 21.37 27.28",
            "3.06 5.52 9.44 16.55 21.47",
        ),
        source="Tay et al., 2022: 10 clusters, 100 per leaf; a leaf's number is one token",
    ),
    "hi_gen": System(
        "Hi-Gen",
        scheme="tree_kmeans",
        changes={
            "options.tree_kmeans.category_levels": 2,
            "options.tree_kmeans.branches": 10,
            "options.tree_kmeans.leaf_size": 100,
            "seq2seq.objective.position_decay": 0.8,
        },
        paper=_table2(
            "1.82 2.93 4.40 7.00 9.60",
            "4.87 8.31 13.60 22.00 28.15",
            "3.44 6.08 10.75 17.32 22.96",
        ),
        source="Wu et al., 2024; the weights of its loss depend on the position alone, vectors are "
        "those of all systems, and nothing knows how products sell",
    ),
    "nci": System(
        "NCI",
        scheme="tree_kmeans",
        changes={
            "options.tree_kmeans.branches": 30,
            "options.tree_kmeans.leaf_size": 30,
            "seq2seq.decoder": "pawa",
            "seq2seq.objective.r_drop": 0.15,
            "seq2seq.pseudo_queries": 5,
            "t5.dropout_rate": 0.1,
        },
        paper=_table2(
            "2.67 4.55 6.48 10.59 16.82",
            "5.16 8.98 14.11 22.56 29.32",
            "3.82 6.95 11.47 17.65 23.71",
        ),
        source="Wang et al., 2022; weights adapt by a matrix of low rank, and pseudo-queries are "
        "pieces of titles and not a network's",
    ),
    "letter": System(
        "LETTER",
        scheme="rqvae",
        changes={
            **TIGER_LOSS,
            "loss_weights.collaborative": 0.02,
            "loss_weights.diversity": 1e-4,
        },
        source="Wang et al., 2024; products of the same training queries stand for those of the "
        "same users, and stage 2 has no ranking-guided loss",
    ),
    "genret": System(
        "GenRet",
        scheme="genret",
        source="Sun et al., 2023; an MLP over embeddings, whose codes are learnt before stage 2",
    ),
    "cq_sid": System(
        "CQ-SID",
        scheme="rqvae",
        changes=CATEGORIES_AND_QUERIES,
        source="Zhu et al., 2026: an RQ-VAE with contrastive terms of category and query; IDs are "
        "unique, stage 2 has no reinforcement learning",
    ),
    "hiergr": System(
        "HierGR",
        scheme="rqvae",
        changes={**TIGER_LOSS, "rqvae.code_shrinkage": (1.1, 1.05)},
        source="Zhang et al., 2025: levels leave a share of their residual to the next; the "
        "reconstruction is made of the codes alone",
    ),
    "table4_dsi_semantic": System(
        "table4_dsi_semantic",
        scheme="tree_kmeans",
        paper={"us": PAPER["table4_dsi_semantic"]},
    ),
    "table4_dsi_semantic_without_categories": System(
        "table4_dsi_semantic_without_categories",
        scheme="tree_kmeans",
        changes={"embedding.with_categories": False},
        paper={"us": PAPER["table4_dsi_semantic_without_categories"]},
    ),
}
