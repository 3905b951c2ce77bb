"""Retrieval by clusters: the documents beneath the best prefixes, ranked by dense scores.

The paper's section 4.7 (after Hi-Gen and GDR): to save time the model decodes prefixes only, and
dense retrieval ranks the documents beneath them. A prefix of the trie is a cluster, whose documents
are consecutive leaves.
"""

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from catid2_jax.decoding.trie import Trie
from catid2_jax.errors import InputError


class Clusters:
    """The clusters of one level of a trie.

    Attributes:
        starts: int32 [clusters + 1]; the leaves of cluster n are starts[n]..starts[n + 1]-1.
    """

    def __init__(self, trie: Trie, depth: int, embeddings: Float[np.ndarray, "N D"]) -> None:
        """Finds the clusters.

        Args:
            trie: the documents.
            depth: number of codes of a cluster's prefix, 1..L; with L, a cluster is a document.
            embeddings: the documents' embeddings, in the order of the table of document IDs.

        Raises:
            InputError: there is not one embedding per document.
        """
        self.starts = trie.leaf_starts(depth)
        self._documents = np.asarray(trie.documents)
        self._embeddings = embeddings
        documents = int(self.starts[-1])
        if len(embeddings) != documents:
            expected = f"{documents}, one per document of the trie"
            raise InputError("embeddings", f"{len(embeddings)} rows", expected)

    def rank(
        self,
        nodes: Int[Array | np.ndarray, "B W"],
        scores: Float[Array | np.ndarray, "B W"],
        queries: Float[np.ndarray, "B D"],
        k: int,
        allowed: Bool[np.ndarray, "*batch N"] | None = None,
    ) -> tuple[Int[np.ndarray, "B k"], Float[np.ndarray, "B k"]]:
        """Ranks the documents of each query's clusters by inner products of embeddings.

        Args:
            nodes: the clusters of each query, as `Prefixes` of `depth` codes has them.
            scores: theirs; -inf where there is none.
            queries: the queries' embeddings, from the encoder of the documents' embeddings.
            k: number of documents per query.
            allowed: whether a document may be found, for all queries or per query; None for all.

        Returns:
            (rows of the table, inner products), best first; -1 and -inf where the clusters have
            fewer than k documents. Equal scores are in the order of the clusters.
        """
        documents = np.full((len(queries), k), -1, np.int32)
        similarities = np.full((len(queries), k), -np.inf, np.float32)
        nodes, found = np.asarray(nodes), np.asarray(scores) > -np.inf
        for row, query in enumerate(queries):
            members = self._members(nodes[row, found[row]])
            if allowed is not None:
                members = members[(allowed if allowed.ndim == 1 else allowed[row])[members]]
            similarity = self._embeddings[members] @ query
            best = np.argsort(-similarity, kind="stable")[:k]
            documents[row, : len(best)] = members[best]
            similarities[row, : len(best)] = similarity[best]
        return documents, similarities

    def _members(self, nodes: np.ndarray) -> np.ndarray:
        """Lists the documents of some clusters as rows of the table, cluster by cluster."""
        leaves = [np.arange(self.starts[node], self.starts[node + 1]) for node in nodes]
        return self._documents[np.concatenate([np.zeros(0, np.int32), *leaves])]
