"""Step 6: a ranking per query, by beam search constrained to the catalogue."""

from collections.abc import Iterator

import jax
import numpy as np

from catid2_jax.config import Config
from catid2_jax.data.queries import read_queries
from catid2_jax.decoding.beam_search import SearchResult, widen_until_exact
from catid2_jax.decoding.generate import retrieve
from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.table import read_docids
from catid2_jax.docids.vocabulary import PAD
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import write_run
from catid2_jax.progress import Progress, console
from catid2_jax.steps.train_seq2seq import load_trained, load_vocabulary
from catid2_jax.steps.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes the TREC run of the test queries, or of those that the configuration names."""
    section = config.retrieve
    queries = read_queries(section.queries or workdir.data / "queries.test.jsonl")
    vocabulary = load_vocabulary(config, workdir)
    model, params = load_trained(config, workdir, vocabulary)
    table = read_docids(workdir.docids)
    if table.codes.shape[1] != vocabulary.levels:
        raise InputError(
            f"{workdir.docids}: found IDs of {table.codes.shape[1]} codes, expected "
            f"{vocabulary.levels} as the model has learnt"
        )
    trie = build_trie(table.codes, vocabulary.codes)
    tokens = vocabulary.encode([query.text for query in queries], config.seq2seq.source_tokens)

    retrieve_jitted = jax.jit(retrieve, static_argnames=("model", "first_id_token", "beams", "k"))

    def rankings() -> Iterator[tuple[str, list[tuple[str, float]]]]:
        with Progress("retrieving", len(queries)) as progress:

            def search(rows: np.ndarray, beams: int) -> SearchResult:
                progress.advance(len(np.unique(rows)))
                batch = tokens[rows]
                return retrieve_jitted(
                    model,
                    params,
                    batch,
                    batch != PAD,
                    trie,
                    first_id_token=vocabulary.first_id_token,
                    beams=beams,
                    k=section.k,
                )

            found = widen_until_exact(
                search, len(queries), section.batch_size, section.beams, section.beams
            )
        proven = int(np.sum(found.exact))
        console.print(f"{proven} of {len(queries)} results are proven to be the best {section.k}")
        for query, documents, scores in zip(queries, found.documents, found.scores, strict=True):
            ranked = zip(documents.tolist(), scores.tolist(), strict=True)
            yield query.id, [(table.ids[d], score) for d, score in ranked if d >= 0]

    write_run(workdir.models / section.output, rankings(), workdir.variant or "cat_id2")
