"""A work directory's seqio tasks and vocabulary; its functions are what the gin files name.

The work directory has been brought up to `assign`. Of its systems, `system` names the one whose IDs
are learnt; empty for the one that `catid2_jax.load` takes, or else the first with IDs. T5's own
vocabulary is that of `convert_checkpoint`: the same SentencePiece model, 100 extra ids.
"""

import functools
import pathlib
from collections.abc import Sequence

from catid2_jax.constraints import check_local
from catid2_jax.docids.table import DocidTable, format_docid, read_docids
from catid2_jax.errors import InputError
from catid2_jax.evaluation.recall import CUTOFFS, recall_at_k
from catid2_jax.records import check_files, choose_system, read_record, record_path
from catid2_jax.t5x.seqio_tasks import register_tasks
from catid2_jax.t5x.vocabulary import IdVocabulary
from catid2_jax.types import GRADES
from catid2_jax.workdir import Place, Workdir, check_built_on


@functools.lru_cache(maxsize=4)
def vocabulary(workdir: str, model: str = "", extra_ids: int = 0, system: str = "") -> IdVocabulary:
    """The text and ID tokens of a system.

    Args:
        workdir: the work directory.
        model: the SentencePiece model; empty for the work directory's own.
        extra_ids: ids after the pieces; T5's model has 100.
        system: the system whose IDs get tokens, see the module.

    Raises:
        InputError: there are no IDs, or there is no such model.
    """
    _, levels, codebook_size = _docids(workdir, system)
    path = model or Workdir(pathlib.Path(workdir)).vocabulary
    return IdVocabulary(path, levels, codebook_size, extra_ids)


def rows(vocabulary: IdVocabulary) -> int:
    """The rows of the network's embedding."""
    return vocabulary.ids.rows


def feature_lengths(vocabulary: IdVocabulary, source_tokens: int = 32) -> dict[str, int]:
    """The most tokens of a query or title, which is cut there, and of an ID: one per level."""
    return {"inputs": source_tokens, "targets": vocabulary.ids.levels}


@functools.lru_cache(maxsize=4)
def table(workdir: str, system: str = "") -> DocidTable:
    """The table of document IDs of a system.

    Raises:
        InputError: there are no IDs, or they differ in length: T5X leaves token 0, which ends a
            shorter one, out of its attention and its loss.
    """
    folder, _, codebook_size = _docids(workdir, system)
    found = read_docids(folder / "docids.jsonl", codebook_size)
    shorter = (found.codes < 0).any(axis=1)
    if shorter.any():
        raise InputError(
            folder / "docids.jsonl",
            f"an ID of fewer codes than others, {format_docid(found.codes[shorter][0])}",
            f"{found.levels} codes in each: T5X cannot learn where an ID ends, native training can",
        )
    return found


def _docids(workdir: str, system: str) -> tuple[pathlib.Path, int, int]:
    """Returns a system's folder, and L and K of its IDs."""
    root = check_local(workdir, "workdir")
    folder = root / choose_system(root, system, ("train_seq2seq", "docids"))
    record = read_record(record_path(folder, "docids"))
    if record is None or not record.done:
        raise InputError(folder, "no finished step docids", "document IDs, by `assign`")
    check_files(record_path(root, "prepare"), ("data/*",))
    check_files(record_path(folder, "docids"), ("docids*",))
    place = Place(Workdir(root), folder, folder, root)
    check_built_on(place, "docids", record_path(folder, "docids"))
    return folder, record.result["levels"], record.result["codebook_size"]


@functools.lru_cache(maxsize=4)
def register(
    workdir: str,
    vocabulary: IdVocabulary,
    prefix: str = "",
    title_weight: float = 1.0,
    substitute_weight: float = 1.0,
    data: str = "",
    system: str = "",
) -> str:
    """Registers the tasks of a work directory; see `register_tasks`.

    Args:
        workdir: the work directory.
        vocabulary: the vocabulary of its texts and IDs.
        prefix: the beginning of the names; empty for the work directory's own name.
        title_weight: weight of a pair title -> ID, beside 1 for a query and an exact product.
        substitute_weight: weight of a pair of a query and a product of grade S.
        data: folder of a data set that tensorflow_datasets built; empty for the work directory's
            files.
        system: the system whose IDs are learnt, see the module.

    Returns:
        The name of the mixture.
    """
    place, ids = Workdir(pathlib.Path(workdir)), table(workdir, system)
    texts = dict(zip(ids.ids, map(format_docid, ids.codes.tolist()), strict=True))
    return register_tasks(
        prefix or place.root.absolute().name,
        pathlib.Path(data) if data else place.data,
        texts,
        vocabulary,
        [recall],
        title_weight,
        substitute_weight,
    )


def queries(mixture: str) -> str:
    """The name of the mixture's task of queries, which alone has a test split."""
    return f"{mixture.removesuffix('to_id')}query_to_id"


def recall(targets: Sequence[list[str]], predictions: Sequence[list[str]]) -> dict[str, float]:
    """Computes Recall@k for the paper's k, as far as there are so many predictions.

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
