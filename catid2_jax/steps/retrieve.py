"""Step 6: a ranking per query, by beam search constrained to the catalogue."""

from collections.abc import Iterator

import jax
import numpy as np

from catid2_jax.config import Config
from catid2_jax.data.queries import read_queries
from catid2_jax.decoding.generate import retrieve
from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.table import read_docids
from catid2_jax.docids.vocabulary import PAD
from catid2_jax.evaluation.run_file import write_run
from catid2_jax.progress import track
from catid2_jax.steps.train_seq2seq import load_trained, load_vocabulary
from catid2_jax.steps.workdir import Workdir


def run(config: Config, workdir: Workdir) -> None:
    """Writes the TREC run of the test queries, or of those that the configuration names."""
    section = config.retrieve
    queries = read_queries(section.queries or workdir.data / "queries.test.jsonl")
    vocabulary = load_vocabulary(config, workdir)
    model, params = load_trained(config, workdir, vocabulary)
    table = read_docids(workdir.docids)
    trie = build_trie(table.codes, vocabulary.codes)
    search = jax.jit(
        lambda params, tokens, trie: retrieve(
            model, params, tokens, tokens != PAD, trie, vocabulary.first_id_token, section.beams
        )
    )
    tokens = vocabulary.encode([query.text for query in queries], config.seq2seq.source_tokens)

    def rankings() -> Iterator[tuple[str, list[tuple[str, float]]]]:
        for start in range(0, len(queries), section.batch_size):
            batch = tokens[start : start + section.batch_size]
            padded = np.pad(batch, ((0, section.batch_size - len(batch)), (0, 0)))
            result = search(params, padded, trie)
            documents, scores = np.asarray(result.documents), np.asarray(result.scores)
            for row, query in enumerate(queries[start : start + len(batch)]):
                ranked = zip(documents[row], scores[row], strict=True)
                yield query.id, [(table.ids[d], float(s)) for d, s in ranked if d >= 0][: section.k]

    write_run(
        workdir.models / section.output,
        track(rankings(), "retrieving", len(queries)),
        workdir.variant or "cat_id2",
    )
