"""Parts of the user's own, which a configuration names by dotted paths."""

import dataclasses
import functools
import re
import zlib

import numpy as np

from catid2_jax.docids.table import DocidTable
from catid2_jax.encoders.encoder import Encoder
from catid2_jax.systems import System


class WordEncoder(Encoder):
    """Adds up a random vector per word, so that queries have vectors too."""

    def __init__(self, dim=16):
        self.dim = dim

    def encode(self, texts):
        sums = [sum(word_vector(w, self.dim) for w in words_of(text)) for text in texts]
        return np.array([total / np.linalg.norm(total) for total in sums], np.float32)


def words_of(text):
    return re.findall(r"\w+", text.lower()) or [""]


@functools.cache
def word_vector(word, dim):
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=dim)


@dataclasses.dataclass(frozen=True)
class SortedDocids:
    """Codes 0, 1, ... in the order of a coordinate of the embeddings; learns nothing."""

    coordinate: int = 0

    def fit(self, corpus, run):
        rank = np.argsort(np.argsort(corpus.embeddings[:, self.coordinate], kind="stable"))
        return DocidTable(corpus.catalog.ids, rank[:, None])


SORTED = System("sorted", scheme="tests.steps.own:SortedDocids")
SORTED_WITHOUT_CATEGORIES = System(
    "sorted, without categories",
    scheme="tests.steps.own:SortedDocids",
    changes={"embedding.with_categories": False},
)
CLUSTERS_OF_GIVEN = System("given IDs, clusters", retriever="clusters", model_of="given")
NARROW_DENSE = System("own vectors", "dense", changes={"embedding.options": {"dim": 8}})
OF_ANOTHER = System(
    "sorted, searched otherwise",
    retriever="clusters",
    model_of="tests.steps.own:SMALL_MODEL",
)
SMALL_MODEL = System("small", scheme="rqvae", changes={"t5.emb_dim": 24, "rqvae.levels": 5})
