"""Queries in JSON Lines and relevance judgements in TREC's qrels format."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from os import PathLike

from catid2_jax.data.lines import (
    JSON_SUFFIXES,
    at_least_one,
    check_suffix,
    decode_line,
    json_line,
    parse_id,
    parse_json_object,
    parse_text,
    read_lines,
    require_fields,
    write_lines,
)
from catid2_jax.errors import InputError
from catid2_jax.types import GRADES, Qrels, Query

SOURCE_ROW = "source_row"
"""Field of a preprocessed query: its row in the file that it comes from."""

_GRADE_OF_COLUMN = {str(grade): grade for grade in GRADES.values()}


def relevant_grades(labels: Iterable[str], where: str = "labels") -> frozenset[int]:
    """Returns the grades of ESCI labels.

    Args:
        labels: some of "E", "S", "C" and "I".
        where: name of the labels in errors.

    Raises:
        InputError: there is no label, or one that ESCI does not have.
    """
    labels = tuple(labels)
    unknown = [label for label in labels if label not in GRADES]
    if unknown or not labels:
        found = repr(unknown[0]) if unknown else "no label"
        raise InputError(where, found, f"some of {', '.join(GRADES)}")
    return frozenset(GRADES[label] for label in labels)


def read_queries(path: str | PathLike[str]) -> list[Query]:
    """Reads queries: JSON Lines (.jsonl, .json, either with .gz) with `id` and `text`.

    Further fields go to `Query.extra`; blank lines are ignored.

    Raises:
        InputError: a bad line (named by its number), a repeated id, an unreadable file, or a file
            without queries.
    """
    check_suffix(path, JSON_SUFFIXES)
    queries = []
    first_seen: dict[str, int] = {}
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        fields = parse_json_object(line, where)
        require_fields(fields, ("id", "text"), where)
        query_id = parse_id(fields.pop("id"), where)
        if query_id in first_seen:
            raise InputError(
                where,
                f"id {query_id!r} again",
                f"unique ids (first at {path}:{first_seen[query_id]})",
            )
        first_seen[query_id] = number
        queries.append(Query(query_id, parse_text(fields.pop("text"), "text", where), fields))
    if not queries:
        raise InputError(path, "no query", "at least one")
    return queries


def write_queries(path: str | PathLike[str], queries: Iterable[Query]) -> None:
    """Writes queries as JSON Lines (compressed if `path` ends in .gz), atomically.

    Raises:
        InputError: the suffix is not one of JSON Lines, there is no query, an id has white space, a
            text is blank, or a field in `extra` is not JSON.
    """
    check_suffix(path, JSON_SUFFIXES)
    write_lines(path, at_least_one(map(_query_line, queries), path, "query"))


def read_qrels(
    path: str | PathLike[str],
    query_ids: Collection[str] | None = None,
    document_ids: Collection[str] | None = None,
) -> Qrels:
    """Reads judgements: one `qid 0 docid grade` per line, columns separated by white space.

    The second column is ignored, as in trec_eval; a judgement may be repeated.

    Args:
        path: text file, compressed if its name ends in .gz.
        query_ids: ids of the queries that may occur; None allows all.
        document_ids: ids of the documents that may occur; None allows all.

    Returns:
        Query id -> document id -> grade, in the file's order.

    Raises:
        InputError: a bad line (named by its number), an unknown id, two grades for one pair, an
            unreadable file, or a file without judgements.
    """
    known_queries = None if query_ids is None else frozenset(query_ids)
    known_documents = None if document_ids is None else frozenset(document_ids)
    qrels: Qrels = {}
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        query_id, document_id, grade = _parse_judgement(decode_line(line, where), where)
        if known_queries is not None and query_id not in known_queries:
            raise InputError(where, f"query {query_id!r}", "one of the queries")
        if known_documents is not None and document_id not in known_documents:
            raise InputError(where, f"document {document_id!r}", "one of the catalogue")
        earlier = qrels.setdefault(query_id, {}).setdefault(document_id, grade)
        if earlier != grade:
            raise InputError(
                where,
                f"grade {grade} for {query_id!r} and {document_id!r}",
                f"{earlier} as before",
            )
    if not qrels:
        raise InputError(path, "no judgement", "at least one")
    return qrels


def named_documents(path: str | PathLike[str]) -> set[str]:
    """The documents that a file of judgements names; what is wrong with it `read_qrels` says."""
    documents: set[str] = set()
    with contextlib.suppress(InputError):
        for number, line in read_lines(path):
            documents.update(decode_line(line, f"{path}:{number}").split()[2:3])
    return documents


def write_qrels(
    path: str | PathLike[str],
    qrels: Mapping[str, Mapping[str, int]] | Iterable[tuple[str, Mapping[str, int]]],
) -> None:
    """Writes judgements in TREC's format (compressed if `path` ends in .gz), atomically.

    Args:
        path: the file to write.
        qrels: query id -> document id -> grade, or an iterable of its items, which is streamed.

    Raises:
        InputError: an id with white space, a grade that ESCI does not have, or no judgement.
    """
    items = qrels.items() if isinstance(qrels, Mapping) else qrels
    write_lines(path, at_least_one(_judgement_lines(items), path, "judgement"))


def _query_line(query: Query) -> str:
    where = f"query {query.id!r}"
    record = {"id": parse_id(query.id, where), "text": parse_text(query.text, "text", where)}
    return json_line({**record, **query.extra, **record}, where)


def _parse_judgement(line: str, where: str) -> tuple[str, str, int]:
    columns = line.split()
    if len(columns) != 4:
        raise InputError(where, f"{len(columns)} columns", "4: query, 0, document, grade")
    query_id, _, document_id, grade = columns
    if grade not in _GRADE_OF_COLUMN:
        raise InputError(where, f"grade {grade!r:.60}", f"one of {', '.join(_GRADE_OF_COLUMN)}")
    return query_id, document_id, _GRADE_OF_COLUMN[grade]


def _judgement_lines(items: Iterable[tuple[str, Mapping[str, int]]]) -> Iterator[str]:
    for query_id, grades in items:
        where = f"judgements of query {query_id!r}"
        parse_id(query_id, where)
        for document_id, grade in grades.items():
            parse_id(document_id, where)
            if grade not in GRADES.values():
                raise InputError(where, f"grade {grade!r}", f"one of {', '.join(_GRADE_OF_COLUMN)}")
            yield f"{query_id} 0 {document_id} {int(grade)}"
