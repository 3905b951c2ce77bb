"""Searches on the devices there are; run as a script by test_devices.py.

python search_on_devices.py OUTPUT
"""

import itertools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.docids.table import DocidTable
from catid2_jax.docids.vocabulary import CodeVocabulary
from catid2_jax.models.t5.config import T5Config
from catid2_jax.retrievers.clusters import ClusterRetriever
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.retrievers.generative import GenerativeRetriever, make_model
from catid2_jax.seq2seq.decoder import make_decoder
from catid2_jax.seq2seq.source import VectorSource
from catid2_jax.types import Product

N, L, K, D, Q = 24, 3, 4, 6, 7
CONFIG = RetrieveConfig(k=5, beams=5, max_beams=10, batch_size=4)


def searched() -> dict[str, np.ndarray]:
    """Documents, scores and proofs for seven queries in batches of four, with and without masks."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(list(itertools.product(range(K), repeat=L)))[:N]
    products = (Product(f"p{n}", "t", "", ("c",)) for n in range(N))
    corpus = Corpus(Catalog.from_products(products), rng.normal(size=(N, D)).astype(np.float32))
    source = VectorSource(CodeVocabulary(L, K), D)
    network = T5Config(16, 2, 8, 16, 0, 1, memory_tokens=2)
    decoder = make_decoder("t5", network, source.vocabulary)
    shapes = jax.eval_shape(lambda: decoder.initialize(jax.random.key(0), source.form))
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.5, s.shape), jnp.float32), shapes)
    table = DocidTable(corpus.catalog.ids, codes)
    model = make_model(decoder, params, source, table, "float32", "full")
    queries, vectors = [f"q{n}" for n in range(Q)], rng.normal(size=(Q, D)).astype(np.float32)
    of_each = rng.random((Q, N)) < 0.6
    found = {}
    for name, retriever in (
        ("generative", GenerativeRetriever(corpus, model, CONFIG)),
        ("clusters", ClusterRetriever(corpus, model, CONFIG)),
    ):
        for mask, allowed in (("none", None), ("all", of_each[0]), ("each", of_each)):
            ranking = retriever.search(queries, 5, vectors=vectors, allowed=allowed)
            found[f"{name} {mask} documents"] = ranking.documents
            found[f"{name} {mask} scores"] = ranking.scores
            if ranking.proven is not None:
                found[f"{name} {mask} proven"] = ranking.proven
    return found


if __name__ == "__main__":
    output = pathlib.Path(sys.argv[1])
    np.savez(output, devices=jax.local_device_count(), **searched())
