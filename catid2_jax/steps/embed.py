"""Step 2: an embedding per product."""

import json

import numpy as np

from catid2_jax.config import Config
from catid2_jax.data.catalog import product_text, read_catalog
from catid2_jax.embedding.lsa import lsa_embeddings
from catid2_jax.embedding.precomputed import read_embeddings
from catid2_jax.files import atomic_write, write_npy
from catid2_jax.progress import console
from catid2_jax.steps.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes `embeddings.npy` and the ids of its rows, in the preprocessed catalogue's order."""
    products = list(read_catalog(workdir.data / "catalog.jsonl"))
    embedding = config.embedding
    if embedding.encoder == "precomputed":
        source = json.loads((workdir.data / "source.json").read_text(encoding="utf-8"))
        rows = np.load(workdir.data / "rows.npy", allow_pickle=False)
        embeddings = read_embeddings(embedding.path, source["products"])[rows]
    else:
        console.print(f"embedding {len(products):,} products by TF-IDF and truncated SVD ...")
        texts = [product_text(product, embedding.with_categories) for product in products]
        embeddings = lsa_embeddings(texts, embedding.dim, config.seed)
    with atomic_write(workdir.embeddings.with_suffix(".ids.txt")) as file:
        file.writelines(f"{product.id}\n" for product in products)
    write_npy(workdir.embeddings, embeddings)
