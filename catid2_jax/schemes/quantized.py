"""A corpus quantised by codebooks: k-means codebooks, and what unique IDs cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.collisions import CollisionConfig, collision_rate, resolve_collisions
from catid2_jax.docids.quality import codebook_usage, quantization_error
from catid2_jax.docids.table import DocidTable
from catid2_jax.ops.kmeans import balanced_kmeans, kmeans
from catid2_jax.ops.mesh import DATA_AXIS, replicate
from catid2_jax.ops.similarity import squared_distance
from catid2_jax.training.sharding import data_mesh, place


@dataclasses.dataclass(frozen=True)
class Quantized:
    """The vectors of a corpus and their codes.

    Attributes:
        latents: z, float32 [N, Z].
        codebooks: float32 [L, K, Z].
        nearest: codes that documents may share, the nearest unless balanced, int32 [N, L].
    """

    latents: np.ndarray
    codebooks: np.ndarray
    nearest: np.ndarray


def residual_kmeans(
    latents: np.ndarray, levels: int, codebook_size: int, key: jax.Array, balanced: bool = False
) -> Quantized:
    """Quantises by k-means, each level what the levels before it leave of the latents.

    All devices share the points; the result does not depend on how many they are.

    Args:
        latents: z of the whole corpus, float32 [N, Z].
        levels: L.
        codebook_size: K.
        key: random key.
        balanced: whether each code of a level gets about the same number of documents.
    """
    mesh = data_mesh()
    codebooks, codes = [], []
    with jax.set_mesh(mesh):
        rows = PartitionSpec(DATA_AXIS if len(latents) % mesh.size == 0 else None)
        residuals = place(latents, mesh, rows)
        for level in range(levels):
            level_key = jax.random.fold_in(key, level)
            if balanced:
                codebook, chosen = balanced_kmeans(residuals, codebook_size, level_key)
            else:
                codebook = kmeans(residuals, codebook_size, level_key)
                chosen = _nearest(residuals, codebook)
            residuals = _subtract(residuals, codebook, chosen)
            codebooks.append(np.asarray(codebook))
            codes.append(np.asarray(chosen))
    return Quantized(np.asarray(latents), np.stack(codebooks), np.stack(codes, axis=1))


@jax.jit
def _nearest(residuals: Float[Array, "N Z"], codebook: Float[Array, "K Z"]) -> Int[Array, " N"]:
    return replicate(jnp.argmin(squared_distance(residuals, codebook), axis=1))


@jax.jit
def _subtract(
    residuals: Float[Array, "N Z"], codebook: Float[Array, "K Z"], codes: Int[Array, " N"]
) -> Float[Array, "N Z"]:
    return residuals - codebook[codes]


def group_means(vectors: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Computes the mean vector of each document's group, float32 [N, D], summed in float64.

    Args:
        vectors: float [N, D].
        groups: number of each document's group, int [N].
    """
    _, numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
    starts = np.cumsum(counts) - counts
    ordered = vectors[np.argsort(numbers, kind="stable")]
    sums = np.add.reduceat(ordered, starts, axis=0, dtype=np.float64)
    return (sums / counts[:, None]).astype(np.float32)[numbers]


def query_means(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """What each product is searched with.

    A query counts for each of its relevant products, the less the more they are.

    Returns:
        (the mean vector of each product's training queries, float32 [N, D], 0 where there is none;
        whether there is any, bool [N]).
    """
    rows, queries = corpus.catalog.rows, corpus.queries
    means = np.zeros(corpus.embeddings.shape, np.float32)
    total = np.zeros(len(corpus), np.float32)
    if queries is not None and queries.vectors is not None:
        for query, vector in zip(queries.ids, np.asarray(queries.vectors), strict=True):
            found = [rows[product] for product in queries.qrels.get(query, ())]
            means[found] += vector / max(len(found), 1)
            total[found] += 1 / max(len(found), 1)
    searched = total > 0
    means[searched] /= total[searched, None]
    return means, searched


def unique_docids(
    corpus: Corpus, found: Quantized, config: CollisionConfig, figures: dict[str, float]
) -> DocidTable:
    """Gives every product of a quantised corpus an ID of its own, and adds what it costs.

    Args:
        corpus: N products.
        found: their vectors and codes.
        config: settings of the reassignment.
        figures: where `quantization_figures` go.
    """
    codes = resolve_collisions(found.latents, found.codebooks, found.nearest, config)
    figures.update(quantization_figures(found, codes))
    return DocidTable(corpus.catalog.ids, codes, found.nearest, found.codebooks.shape[1])


def quantization_figures(found: Quantized, codes: np.ndarray) -> dict[str, float]:
    """Measures what uniqueness costs; the IDs themselves are measured by whoever reads them.

    Args:
        found: the corpus.
        codes: the unique IDs, int [N, L].
    """
    before = {
        **codebook_usage(found.nearest, found.codebooks.shape[1]),
        **quantization_error(found.latents, found.codebooks, found.nearest),
    }
    return {
        "collision_rate": collision_rate(found.nearest),
        "documents_reassigned": float(np.mean((codes != found.nearest).any(axis=1))),
        **quantization_error(found.latents, found.codebooks, codes),
        **{f"before_reassignment/{name}": value for name, value in before.items()},
    }
