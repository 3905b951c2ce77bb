"""Recall on dev queries while stage 2 trains."""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.table import DocidTable
from catid2_jax.evaluation.recall import recall_at_k
from catid2_jax.ops.mesh import DATA_AXIS
from catid2_jax.progress import console
from catid2_jax.seq2seq.config import DevEvaluationConfig
from catid2_jax.seq2seq.decoder import (
    Decoder,
    TrainedNormalizeOver,
    resolve_normalize_over,
)
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.training.loop import Evaluator, TrainState
from catid2_jax.training.sharding import place
from catid2_jax.types import Qrels

_BATCH = 64  # queries per device and call


def make_recall_evaluator(
    decoder: Decoder,
    table: DocidTable,
    sources: np.ndarray,
    qrels: Qrels,
    config: DevEvaluationConfig,
    trained: TrainedNormalizeOver,
) -> Evaluator:
    """An evaluator for the training loop: `dev/recall@k` of a constrained beam search.

    Args:
        decoder: the network of stage 2.
        table: the document IDs, for the trie.
        sources: tokens of the queries, int [Q, S], or their vectors, float [Q, D], in the order of
            `qrels`.
        qrels: their judgements, as `recall_at_k` takes them.
        config: the search and its cutoffs.
        trained: what the network's training normalises over.

    Raises:
        InputError: the search cannot normalise over what `config` says.
    """
    normalize_over = resolve_normalize_over(config.normalize_over, trained)
    trie = build_trie(table.codes, table.codebook_size)
    cutoffs = [k for k in config.cutoffs if k <= config.beams]

    @functools.partial(jax.jit, out_shardings=PartitionSpec())
    def search(params: dict, batch: jax.Array) -> Any:
        found = retrieve(
            decoder,
            params,
            batch,
            trie,
            config.beams,
            max(cutoffs),
            normalize_over=normalize_over,
        )
        return found.documents

    def evaluate(state: TrainState) -> dict[str, float]:
        mesh = jax.sharding.get_mesh()
        size = _BATCH * mesh.shape[DATA_AXIS]
        found = []
        for start in range(0, len(sources), size):
            batch = sources[start : start + size]
            batch = np.pad(batch, ((0, size - len(batch)), (0, 0)), constant_values=1)
            found.append(
                np.asarray(search(state.params, place(batch, mesh, PartitionSpec(DATA_AXIS))))
            )
        run = {
            query: [table.ids[d] for d in documents.tolist() if d >= 0]
            for query, documents in zip(qrels, np.concatenate(found), strict=False)
        }
        figures = {f"dev/{name}": value for name, value in recall_at_k(run, qrels, cutoffs).items()}
        shown = ", ".join(f"{name} {100 * value:.1f} %" for name, value in figures.items())
        console.print(f"step {int(state.step):,}: {shown}")
        return figures

    return evaluate
