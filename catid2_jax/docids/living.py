"""A catalogue that lives: products come, go and change, and no other product's ID moves.

A product keeps its ID for as long as the codes nearest to it are those that the ID was made from.
When it leaves, or has changed so much that they are others, its ID rests: for `grace` updates, this
one included, no other product gets it, so that what still knows the ID (a trained retriever, a
cache, a log) does not name the wrong product. A product that is back as it was, at the latest in
the update in which others may have its ID, has it again, before any other is served. New and
changed products get IDs as in a first assignment, around those that are in use or rest.
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

_ROUNDING = 1e-5  # of a latent's norm: what float32 sums in another order may change it by


@dataclasses.dataclass(frozen=True)
class RestingIds:
    """IDs whose products are gone or have changed, and that no other product may have yet.

    Attributes:
        ids: the product that had each of R IDs; a product may have left several.
        codes: int32 [R, L].
        nearest: int32 [R, L], as in `DocidTable`.
        updates_left: int32 [R], at least 1; after that many updates more the ID is free: 1 means
            that the next one may give it to another product.
    """

    ids: Sequence[str]
    codes: np.ndarray
    nearest: np.ndarray
    updates_left: np.ndarray


def no_resting_ids(levels: int) -> RestingIds:
    """What there is before the first update."""
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
    """IDs of the catalogue as it is now; unchanged products keep theirs.

    Args:
        previous: the IDs so far, made with the same codebooks.
        resting: what the last update left.
        ids: the products that there are now, N different ones in any order.
        latents: z, float [N, Z].
        codebooks: float [L, K, Z].
        nearest: nearest codes, int [N, L].
        config: see `CollisionConfig`.
        grace: updates, this one included, for which an ID freed now rests; 0: none.

    Returns:
        The new table, in the order of `ids`; what rests now; and counts: of the N products, those
        that kept their ID, came back to it, changed and are new; the products removed; the IDs
        that rest.

    Raises:
        InputError: fewer free IDs than new and changed products.
    """
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
    # By their ids, so that the order of the catalogue does not decide between equals.
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
    return DocidTable(ids, codes, made_from), resting, counts


def _next_resting(
    resting: RestingIds,
    asleep: np.ndarray,
    previous: DocidTable,
    made_from: np.ndarray,
    freed: np.ndarray,
    grace: int,
) -> RestingIds:
    """What rests after an update: rows `asleep` of `resting`, and rows `freed` of `previous`."""
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
    """Products that are as they were when they got an ID: their rows now, and those of the IDs.

    Codes that differ from the nearest by no more than rounding are nearest too.

    Args:
        row_of: row of each product in `latents` and `nearest`; others are left out.
        old_ids: the products of R IDs.
        made_from: int [R, L], their nearest codes at the time.
        latents: [N, Z].
        codebooks: [L, K, Z].
        nearest: int [N, L].
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
        # Distance to the plane between the two codes, beyond which the other one is nearest.
        apart = np.maximum(np.linalg.norm(other - one, axis=1), 1e-30)
        distance = np.sum(((one + other) / 2 - residuals) * (other - one), axis=1) / apart
        ties = near[distance <= tolerance[near]]
        nearest[ties, level] = made_from[ties, level]
        requantize(latents, codebooks, nearest, ties, level + 1)
    same = (made_from == nearest).all(axis=1)
    rows, first = np.unique(rows[same], return_index=True)
    return rows, old[same][first]


def _check_free(coming: int, in_use: int, resting: int, codebooks: np.ndarray) -> None:
    """Raises InputError if there are fewer free IDs than products that need one."""
    levels, codebook_size, _ = codebooks.shape
    free = codebook_size**levels - in_use - resting
    if coming > free:
        raise InputError(
            f"found {coming} new and changed products, expected at most {free}: of K^L = "
            f"{codebook_size}^{levels} IDs {in_use} are in use and {resting} rest; lower "
            "docids.grace, or train stage 1 anew with more rqvae.codebook_size or rqvae.levels"
        )


def resting_path(docids: str | os.PathLike[str]) -> pathlib.Path:
    """Where the resting IDs lie, beside the table of IDs in use: docids.resting.jsonl."""
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
    """Reads what `write_resting` wrote beside `table`; nothing rests if there is no such file.

    Raises:
        InputError: a line that is not as written, with its number; an ID of another length, or one
            that is in use or rests already.
    """
    levels = table.codes.shape[1]
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
            raise InputError(f"{where}: found updates_left {left!r:.60}, expected at least 1")
        if len(codes) != levels:
            raise InputError(f"{where}: found {len(codes)} codes, expected the table's {levels}")
        if codes in seen:
            raise InputError(
                f"{where}: found {format_docid(codes)}, expected an ID that is not in use and "
                "rests once"
            )
        seen.add(codes)
        rows.append((product_id, codes, nearest, left))
    if not rows:
        return no_resting_ids(levels)
    ids, *columns = zip(*rows, strict=True)
    return RestingIds(ids, *(np.array(column, np.int32) for column in columns))
