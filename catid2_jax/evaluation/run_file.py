"""Rankings in TREC's run format: `qid Q0 docid rank score tag`."""

import math
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike

import numpy as np

from catid2_jax.data.lines import decode_line, parse_id, read_lines, write_lines
from catid2_jax.errors import InputError


def write_run(
    path: str | PathLike[str],
    rankings: Iterable[tuple[str, Sequence[tuple[str, float]]]],
    tag: str,
) -> None:
    """Writes rankings (compressed if `path` ends in .gz), streaming and atomically.

    Args:
        path: the file to write.
        rankings: (query id, [(document id, score), ...] best first), each query once.
        tag: name of the system, without white space.

    Raises:
        InputError: a repeated query, a repeated document in a ranking, scores that rise, a score
            that is not a finite float32, or an id or tag with white space.
    """
    parse_id(tag, "tag")
    write_lines(path, _run_lines(rankings, tag))


def read_run(path: str | PathLike[str]) -> dict[str, list[tuple[str, float]]]:
    """Reads rankings, ordered by the rank column, with the exact scores that `write_run` wrote.

    Args:
        path: text file of six columns separated by white space, compressed if its name ends in .gz.

    Returns:
        Query id -> [(document id, score rounded to float32), ...] best first. A query that found
        nothing has no row and is not among them, so that a file without rows gives none.

    Raises:
        InputError: a bad line (named by its number), a repeated rank or document of a query, or an
            unreadable file.
    """
    by_rank: dict[str, dict[int, tuple[str, float]]] = {}
    pairs: set[tuple[str, str]] = set()
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        query, document, rank, score = _parse_row(decode_line(line, where), where)
        ranking = by_rank.setdefault(query, {})
        if rank in ranking:
            raise InputError(where, f"rank {rank} of query {query!r} again", "each rank once")
        if (query, document) in pairs:
            raise InputError(
                where, f"document {document!r} of query {query!r} again", "each document once"
            )
        ranking[rank] = (document, score)
        pairs.add((query, document))
    return {
        query: [ranking[rank] for rank in sorted(ranking)] for query, ranking in by_rank.items()
    }


def _run_lines(
    rankings: Iterable[tuple[str, Sequence[tuple[str, float]]]], tag: str
) -> Iterator[str]:
    queries: set[str] = set()
    for query, ranking in rankings:
        where = f"ranking of query {query!r}"
        parse_id(query, where)
        if query in queries:
            raise InputError(where, "a second one", "each query once")
        queries.add(query)
        documents: set[str] = set()
        previous = math.inf
        for rank, (document, score) in enumerate(ranking, 1):
            if parse_id(document, where) in documents:
                raise InputError(where, f"document {document!r} twice", "it once")
            documents.add(document)
            score = _to_float32(score, where)
            if score > previous:
                raise InputError(where, f"score {score} after {previous}", "scores that never rise")
            previous = score
            # Nine digits distinguish any two float32 values.
            yield f"{query} Q0 {document} {rank} {score:.9g} {tag}"


def _parse_row(line: str, where: str) -> tuple[str, str, int, float]:
    columns = line.split()
    if len(columns) != 6:
        raise InputError(
            where, f"{len(columns)} columns", "6: query, Q0, document, rank, score, tag"
        )
    query, _, document, rank, score, _ = columns
    try:
        rank_number = int(rank)
    except ValueError as error:
        raise InputError(where, f"rank {rank!r:.60}", "an integer") from error
    return query, document, rank_number, _to_float32(score, where)


def _to_float32(score: float | str, where: str) -> float:
    try:
        with np.errstate(over="ignore"):
            value = float(np.float32(float(score)))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(where, f"score {score!r:.60}", "a finite float32")
    return value
