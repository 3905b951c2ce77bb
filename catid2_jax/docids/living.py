"""Updates of the document IDs of a living catalogue: unchanged products keep their IDs.

A product keeps its ID as long as its nearest codes are those from which the ID was made. When it
is removed, or has changed so much that they are others, its ID rests: for `grace` updates, this one
included, no other product gets it, so that whatever still uses the ID (a trained retriever, a
cache, a log) does not name the wrong product. A product that returns unchanged gets its ID back, at
the latest in the first update in which others may have it, and before they are served. New and
changed products get IDs as in a first assignment, around those in use and at rest.

All IDs have L codes, one per codebook.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from catid2_jax.data.lines import (
    json_line,
    parse_json_object,
    read_lines,
    require_fields,
    write_lines,
)
from catid2_jax.docids.collisions import (
    CollisionConfig,
    prefix_sum,
    requantize,
    resolve_collisions,
)
from catid2_jax.docids.table import DocidTable, docid_record, format_docid, parse_docid_record
from catid2_jax.errors import InputError

_ROUNDING = 1e-5  # relative change of a latent by float32 sums in another order


@dataclasses.dataclass(frozen=True)
class RestingIds:
    """R IDs that no other product may get yet, since their products are removed or changed.

    Attributes:
        ids: the product that had each ID; one product may have left several.
        codes: int32 [R, L], the IDs.
        nearest: int32 [R, L], the codes nearest to each product when it got the ID.
        updates_left: int32 [R], at least 1, the number of updates until the ID is free: with 1, the
            next update may give it to another product.
    """

    ids: Sequence[str]
    codes: np.ndarray
    nearest: np.ndarray
    updates_left: np.ndarray


def no_resting_ids(levels: int) -> RestingIds:
    """Makes the empty `RestingIds` that precede the first update."""
    codes = np.empty((0, levels), np.int32)
    return RestingIds([], codes, codes, np.empty(0, np.int32))


def update_docids(
    previous: DocidTable,
    resting: RestingIds,
    ids: Sequence[str],
    latents: np.ndarray,
    codebooks: np.ndarray,
    nearest: np.ndarray,
    config: CollisionConfig,
    grace: int,
) -> tuple[DocidTable, RestingIds, dict[str, int]]:
    """Gives every product of the current catalogue an ID; unchanged products keep theirs.

    Args:
        previous: the IDs of the previous catalogue, made with the same codebooks.
        resting: the resting IDs that the last update returned.
        ids: the current products, N different ones in any order.
        latents: z of the current products, float [N, Z].
        codebooks: float [L, K, Z].
        nearest: nearest codes of the current products, int [N, L].
        config: settings of the reassignment of new and changed products.
        grace: number of updates, this one included, for which an ID freed now rests; 0 for none.

    Returns:
        (the new table in the order of `ids`, the IDs that rest now, counts). The counts are of the
        N products that kept their ID, returned to it, changed and are new; of the products removed;
        and of the IDs that rest.

    Raises:
        InputError: an ID of `previous` has not one code per codebook, or there are fewer free IDs
            than new and changed products.
    """
    _check_lengths(previous, len(codebooks))
    codes = np.full(nearest.shape, -1, np.int32)
    made_from = np.array(nearest, np.int32)
    was = previous.codes if previous.nearest is None else previous.nearest

    row_of = {product_id: row for row, product_id in enumerate(ids)}
    kept, old = _unchanged(row_of, previous.ids, was, latents, codebooks, nearest)
    codes[kept], made_from[kept] = previous.codes[old], was[old]
    freed = np.setdiff1d(np.arange(len(previous.ids)), old)

    elsewhere = {product_id: row for product_id, row in row_of.items() if codes[row, 0] < 0}
    back, awake = _unchanged(elsewhere, resting.ids, resting.nearest, latents, codebooks, nearest)
    codes[back], made_from[back] = resting.codes[awake], resting.nearest[awake]
    asleep = np.setdiff1d(np.flatnonzero(resting.updates_left > 1), awake)
    resting = _next_resting(resting, asleep, previous, was, freed if grace else freed[:0], grace)

    taken = np.concatenate([codes[codes[:, 0] >= 0], resting.codes])
    # In the order of their ids: between equal products, that of the catalogue does not decide.
    coming = sorted(np.flatnonzero(codes[:, 0] < 0).tolist(), key=lambda row: ids[row])
    _check_free(len(coming), len(taken) - len(resting.ids), len(resting.ids), codebooks)
    codes[coming] = resolve_collisions(latents[coming], codebooks, nearest[coming], config, taken)

    before = set(previous.ids)
    new = sum(ids[row] not in before for row in coming)
    counts = {
        "products_kept": len(kept),
        "products_returned": len(back),
        "products_changed": len(coming) - new,
        "products_new": new,
        "products_removed": len(before - row_of.keys()),
        "resting_ids": len(resting.ids),
    }
    return DocidTable(ids, codes, made_from, codebooks.shape[1]), resting, counts


def _next_resting(
    resting: RestingIds,
    asleep: np.ndarray,
    previous: DocidTable,
    made_from: np.ndarray,
    freed: np.ndarray,
    grace: int,
) -> RestingIds:
    """Joins the rows `asleep` of `resting` and `freed` of `previous`, which rest afterwards."""
    return RestingIds(
        [*(resting.ids[row] for row in asleep), *(previous.ids[row] for row in freed)],
        np.concatenate([resting.codes[asleep], previous.codes[freed]]),
        np.concatenate([resting.nearest[asleep], made_from[freed]]),
        np.append(resting.updates_left[asleep] - 1, np.full(len(freed), grace, np.int32)),
    )


def _unchanged(
    row_of: Mapping[str, int],
    old_ids: Sequence[str],
    made_from: np.ndarray,
    latents: np.ndarray,
    codebooks: np.ndarray,
    nearest: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the products whose nearest codes are those from which an old ID was made.

    Codes whose distance exceeds that of the nearest by no more than rounding count as nearest too.

    Args:
        row_of: product -> row of `latents` and `nearest`; other products are left out.
        old_ids: the products of R old IDs.
        made_from: int [R, L], the codes nearest to them when they got the IDs.
        latents: [N, Z].
        codebooks: [L, K, Z].
        nearest: int [N, L].

    Returns:
        (rows of `latents`, rows of `old_ids`), a pair per product found.
    """
    old = np.array([row for row, i in enumerate(old_ids) if i in row_of], np.int64)
    rows = np.array([row_of[old_ids[row]] for row in old], np.int64)
    made_from, nearest, latents = made_from[old], np.array(nearest[rows]), latents[rows]
    tolerance = _ROUNDING * np.linalg.norm(latents, axis=1)
    for level, codebook in enumerate(codebooks):
        same_prefix = (made_from[:, :level] == nearest[:, :level]).all(axis=1)
        near = np.flatnonzero(same_prefix & (made_from[:, level] != nearest[:, level]))
        residuals = latents[near] - prefix_sum(codebooks, nearest[near], level)
        one, other = codebook[nearest[near, level]], codebook[made_from[near, level]]
        # Distance to the plane halfway between the two codes, beyond which the other is nearest.
        apart = np.maximum(np.linalg.norm(other - one, axis=1), 1e-30)
        distance = np.sum(((one + other) / 2 - residuals) * (other - one), axis=1) / apart
        ties = near[distance <= tolerance[near]]
        nearest[ties, level] = made_from[ties, level]
        requantize(latents, codebooks, nearest, ties, level + 1)
    same = (made_from == nearest).all(axis=1)
    rows, first = np.unique(rows[same], return_index=True)
    return rows, old[same][first]


def _check_lengths(previous: DocidTable, levels: int) -> None:
    """Raises InputError unless every ID has as many codes as there are codebooks."""
    if previous.levels != levels or previous.codes.min(initial=0) < 0:
        lengths = np.unique(np.sum(previous.codes >= 0, axis=1)).tolist()
        found = f"IDs of {lengths} codes in a table of {previous.levels} levels"
        raise InputError("previous", found, f"{levels} codes in every ID, one per codebook")


def _check_free(coming: int, in_use: int, resting: int, codebooks: np.ndarray) -> None:
    """Raises InputError if there are fewer free IDs than products that need one."""
    levels, codebook_size, _ = codebooks.shape
    free = codebook_size**levels - in_use - resting
    if coming > free:
        raise InputError(
            "",
            f"{coming} new and changed products",
            f"at most {free}: of K^L = {codebook_size}^{levels} IDs {in_use} are in use and "
            f"{resting} rest; let IDs rest for fewer updates, or train stage 1 again with larger "
            "codebooks or more levels",
        )


def resting_path(docids: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path of the resting IDs' file, beside that of the table: docids.resting.jsonl."""
    return pathlib.Path(docids).with_suffix(".resting.jsonl")


def write_resting(path: str | os.PathLike[str], resting: RestingIds) -> None:
    """Writes a line of `id`, `codes`, `docid` and `updates_left` per resting ID, atomically."""
    columns = (resting.codes.tolist(), resting.nearest.tolist(), resting.updates_left.tolist())
    records = (
        docid_record(i, codes, nearest) | {"updates_left": left}
        for i, codes, nearest, left in zip(resting.ids, *columns, strict=True)
    )
    write_lines(path, (json_line(record, str(path)) for record in records))


def read_resting(path: str | os.PathLike[str], table: DocidTable) -> RestingIds:
    """Reads a file that `write_resting` wrote beside `table`; none rest if there is no such file.

    Raises:
        InputError: a line (named by its number) is not as written, or its ID has not the table's
            number of codes, is in use or rests already.
    """
    levels = table.levels
    if not pathlib.Path(path).exists():
        return no_resting_ids(levels)
    seen = set(map(tuple, table.codes.tolist()))
    rows: list[tuple[str, Iterable[int], Iterable[int], int]] = []
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        record = parse_json_object(line, where)
        product_id, codes, nearest = parse_docid_record(record, where)
        require_fields(record, ("updates_left",), where)
        left = record["updates_left"]
        if type(left) is not int or left < 1:
            raise InputError(where, f"updates_left {left!r:.60}", "an integer of at least 1")
        if len(codes) != levels:
            raise InputError(where, f"{len(codes)} codes", f"the table's {levels}")
        if codes in seen:
            raise InputError(
                where, format_docid(codes), "an ID that is not in use and rests only once"
            )
        seen.add(codes)
        rows.append((product_id, codes, nearest, left))
    if not rows:
        return no_resting_ids(levels)
    ids, *columns = zip(*rows, strict=True)
    return RestingIds(ids, *(np.array(column, np.int32) for column in columns))
