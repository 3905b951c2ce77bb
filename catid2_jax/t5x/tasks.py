"""A work directory's seqio tasks and vocabulary; its functions are what the gin files name.

The work directory has been brought up to `assign`. T5's own vocabulary is that of
`convert_checkpoint`: the same SentencePiece model, 100 extra ids.
"""

import functools
import pathlib
from collections.abc import Sequence

from catid2_jax.docids.table import DocidTable, format_docid, read_docids
from catid2_jax.errors import InputError
from catid2_jax.evaluation.recall import CUTOFFS, recall_at_k
from catid2_jax.steps.workdir import Workdir, read_record
from catid2_jax.t5x.seqio_tasks import register_tasks
from catid2_jax.t5x.vocabulary import IdVocabulary
from catid2_jax.types import GRADES


@functools.lru_cache(maxsize=4)
def vocabulary(
    workdir: str, model: str = "", extra_ids: int = 0, codebook_size: int = 0
) -> IdVocabulary:
    """Text and ID tokens.

    Args:
        workdir: of a run.
        model: the SentencePiece model; empty for the work directory's own.
        extra_ids: ids after the pieces; T5's model has 100.
        codebook_size: K; 0 for that of the work directory's stage 1.

    Raises:
        InputError: no IDs, no such model, or nothing says what K is.
    """
    place = Workdir(pathlib.Path(workdir))
    levels = table(workdir).codes.shape[1]
    record = read_record(place.record("train_rqvae"))
    if not codebook_size and record is None:
        raise InputError(
            f"{workdir}: found no record of stage 1, expected one, or codes to be given"
        )
    codebook_size = codebook_size or record["config"]["rqvae"]["codebook_size"]  # type: ignore[index]
    return IdVocabulary(model or place.vocabulary, levels, codebook_size, extra_ids)


def rows(vocabulary: IdVocabulary) -> int:
    """Rows of the network's embedding."""
    return vocabulary.ids.rows


def feature_lengths(vocabulary: IdVocabulary, source_tokens: int = 32) -> dict[str, int]:
    """Longer queries and titles are cut to `source_tokens`; an ID has a token per level."""
    return {"inputs": source_tokens, "targets": vocabulary.ids.levels}


@functools.lru_cache(maxsize=4)
def table(workdir: str) -> DocidTable:
    """The table of document IDs."""
    return read_docids(Workdir(pathlib.Path(workdir)).docids)


@functools.lru_cache(maxsize=4)
def register(
    workdir: str,
    vocabulary: IdVocabulary,
    prefix: str = "",
    title_weight: float = 1.0,
    substitutes: bool = True,
    data: str = "",
) -> str:
    """Registers the tasks of a work directory; see `register_tasks`.

    Args:
        workdir: of a run.
        vocabulary: of its texts and IDs.
        prefix: of the names; empty for the work directory's own name.
        title_weight: of titles in the mixture, beside 1 for queries.
        substitutes: whether pairs of grade S are learnt, too.
        data: folder of a data set that tensorflow_datasets built; empty for the work directory's
            files.

    Returns:
        The name of the mixture.
    """
    place, ids = Workdir(pathlib.Path(workdir)), table(workdir)
    texts = dict(zip(ids.ids, map(format_docid, ids.codes.tolist()), strict=True))
    return register_tasks(
        prefix or place.root.absolute().name,
        pathlib.Path(data) if data else place.data,
        texts,
        vocabulary,
        [recall],
        title_weight,
        substitutes,
    )


def queries(mixture: str) -> str:
    """The name of the mixture's task of queries, which alone has a test split."""
    return f"{mixture.removesuffix('to_id')}query_to_id"


def recall(targets: Sequence[list[str]], predictions: Sequence[list[str]]) -> dict[str, float]:
    """Recall@k for the paper's k, as far as there are so many predictions.

    Args:
        targets: relevant IDs of each query.
        predictions: predicted IDs, best first; "" where there is none.
    """
    queries = [str(i) for i in range(len(targets))]
    # What is no ID may come up more than once.
    ranked = [list(dict.fromkeys(filter(None, found))) for found in predictions]
    relevant = [dict.fromkeys(found, GRADES["E"]) for found in targets]
    width = max(map(len, predictions))
    cutoffs = [k for k in CUTOFFS if k <= width] or [width]
    return recall_at_k(
        dict(zip(queries, ranked, strict=True)), dict(zip(queries, relevant, strict=True)), cutoffs
    )
