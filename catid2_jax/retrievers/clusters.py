"""Section 4.7: prefixes by generation, the products beneath them by dense scores."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.constraints import PositiveInt
from catid2_jax.data.corpus import Corpus
from catid2_jax.decoding.beam_search import SearchResult
from catid2_jax.decoding.clusters import Clusters
from catid2_jax.encoders.encoder import check_vectors
from catid2_jax.errors import InputError
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.retrievers.generative import (
    TrainedModel,
    divided_over_devices,
    node_mask,
    search_in_batches,
)
from catid2_jax.retrievers.retriever import Ranking, Retriever
from catid2_jax.seq2seq.search import retrieve_prefixes

_retrieve_prefixes = jax.jit(
    divided_over_devices(retrieve_prefixes),
    static_argnames=("decoder", "beams", "depth", "normalize_over"),
)


class ClusterRetriever(Retriever):
    """Decodes the first codes of IDs and ranks what is beneath the best prefixes by inner product.

    It needs the queries' vectors, by the encoder of the embeddings, and finds fewer than k products
    where the prefixes have fewer. Nothing is proven: the bound is on the model's scores, and these
    are others.
    """

    needs_query_vectors = True

    def __init__(
        self, corpus: Corpus, model: TrainedModel, config: RetrieveConfig, level: PositiveInt = 2
    ) -> None:
        """Finds the clusters.

        Args:
            corpus: the products and their embeddings.
            model: stage 2 and its trie.
            config: beams (the prefixes that are expanded) and batch size.
            level: codes to decode, 1 to the length of an ID.

        Raises:
            InputError: another level.
        """
        if not 1 <= level <= model.trie.levels:
            raise InputError("level", level, f"1 to {model.trie.levels}, the length of an ID")
        self.model, self.config, self.level = model, config, level
        self._width = corpus.embeddings.shape[1]
        self._clusters = Clusters(model.trie, level, corpus.embeddings)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        vectors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> Ranking:
        """Ranks by the inner product of embedding and query vector.

        Raises:
            InputError: no vectors, or vectors of another width.
        """
        if vectors is None:
            raise InputError("vectors", "none", "a vector per query, by the products' encoder")
        vectors = check_vectors(vectors, queries)
        if vectors.shape[1] != self._width:
            raise InputError(
                "vectors", f"width {vectors.shape[1]}", f"the embeddings' {self._width}"
            )
        model, config = self.model.on_local_devices, self.config
        sources = model.source.of_queries(queries, vectors)

        def search(rows: np.ndarray, beams: int) -> SearchResult:
            prefixes = _retrieve_prefixes(
                model.decoder,
                model.params,
                jnp.asarray(sources[rows]),
                model.trie,
                beams=beams,
                depth=self.level,
                mask=node_mask(model.trie, allowed, rows),
                normalize_over=model.normalize_over,
            )
            may_be_found = allowed if allowed is None or allowed.ndim == 1 else allowed[rows]
            documents, scores = self._clusters.rank(
                prefixes.nodes, prefixes.scores, vectors[rows], k, may_be_found
            )
            return SearchResult(documents, scores, prefixes.bound, np.zeros(len(rows), bool))

        found = search_in_batches(search, len(queries), config, widen=False)
        return Ranking(found.documents, found.scores)
