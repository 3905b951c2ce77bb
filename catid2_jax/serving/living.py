"""The version that answers, and how another takes its place: built, tried, then exchanged at once.

A request keeps the version that it began with to its end, so that no request fails for a change.
One change is made at a time. If it fails at any point, the version before it goes on.
"""

import dataclasses
import os
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.data.lines import json_line, parse_id, parse_text
from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.table import DocidTable, format_docid, parse_docid
from catid2_jax.errors import InputError
from catid2_jax.files import read_sealed, values_digest, write_sealed
from catid2_jax.retrievers.generative import GenerativeRetriever
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.serving.base import Base, load_base
from catid2_jax.serving.compilations import Compilations
from catid2_jax.serving.config import ServeConfig
from catid2_jax.serving.version import Version
from catid2_jax.types import Product


@dataclasses.dataclass(frozen=True)
class Changes:
    """What has changed since the base was made.

    Attributes:
        products: id -> record of a product that is new or changed, its `docid` among the fields.
        removed: ids of the base's products that are gone.
        out_of_stock: ids of products that may not be found.
    """

    products: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    removed: tuple[str, ...] = ()
    out_of_stock: tuple[str, ...] = ()

    def name_on(self, base: str) -> str:
        """The name of the base with these changes: the same changes have the same name."""
        if self == Changes():
            return base
        return f"{base}-{values_digest(dataclasses.asdict(self))[:8]}"


class Living:
    """Holds the current version and makes the next.

    Attributes:
        current: the version that answers requests that begin now.
    """

    def __init__(
        self,
        path: pathlib.Path,
        config: ServeConfig,
        compilations: Compilations,
    ) -> None:
        """Loads, prepares and tries the first version, with the changes of an earlier run.

        Args:
            path: a bundle or a finished work directory.
            config: how it is served.
            compilations: counts what is compiled here as preparation.

        Raises:
            InputError: it cannot be loaded, or its self-check fails.
        """
        self._config, self._compilations = config, compilations
        self._lock = threading.Lock()
        self._path = path
        self._base = load_base(path, config)
        self._changes = self._read_state()
        with compilations.prepared():
            self.current = self._build(self._base, self._changes)
            self.current.prepare()

    def set_stock(self, out_of_stock: Sequence[str]) -> Version:
        """Replaces the list of products that may not be found."""
        with self._lock, self._compilations.prepared():
            ids = tuple(sorted(set(out_of_stock)))
            changes = dataclasses.replace(self._changes, out_of_stock=ids)
            version = self.current.with_stock(changes.name_on(self._base.name), ids)
            return self._exchange(self._base, changes, version, self._path)

    def change_products(
        self, upsert: Sequence[Mapping[str, Any]], remove: Sequence[str]
    ) -> Version:
        """Adds, changes and removes products.

        Args:
            upsert: records of products as a catalogue has them, maybe with a `docid`.
            remove: ids of products.

        Raises:
            InputError: an unknown product, or a document ID that is missing, malformed or taken;
                `where` names the field.
        """
        with self._lock, self._compilations.prepared():
            changes = merge(self._base, self._changes, upsert, remove)
            version = self._build(self._base, changes)
            version.prepare()
            return self._exchange(self._base, changes, version, self._path)

    def switch(self, name: str) -> Version:
        """Loads another bundle of the folder of versions; changes of the one before end with it.

        Raises:
            InputError: there is none of that name, it is damaged, or its self-check fails.
        """
        path = pathlib.Path(self._config.versions) / name
        if not self._config.versions or not path.is_dir():
            raise InputError("bundle", repr(name), "a bundle in the server's folder of versions")
        with self._lock, self._compilations.prepared():
            base = load_base(path, self._config)
            version = self._build(base, Changes())
            version.prepare()
            return self._exchange(base, Changes(), version, path)

    def _build(self, base: Base, changes: Changes) -> Version:
        retriever, dense = changed_retriever(base.retriever, changes), base.dense
        if dense and retriever is not base.retriever:
            kept, new = _kept_and_new(base.retriever, changes)
            dense = dense.changed(kept, new)
        name = changes.name_on(base.name)
        return Version(name, retriever, self._config, changes.out_of_stock, dense)

    def _exchange(
        self, base: Base, changes: Changes, version: Version, path: pathlib.Path
    ) -> Version:
        """Lets a version that is ready answer, once it would survive a restart."""
        if self._config.state:
            state = {"path": os.fspath(path.absolute()), "base": base.name}
            write_sealed(self._config.state, {**state, **dataclasses.asdict(changes)})
        self._base, self._changes, self._path = base, changes, path
        self.current = version
        return version

    def _read_state(self) -> Changes:
        """The changes of an earlier run; a bundle that it had switched to takes the first's place.

        Raises:
            InputError: the file is damaged.
        """
        path = self._config.state
        if not path or not pathlib.Path(path).exists():
            return Changes()
        try:
            state = read_sealed(path)
            other = pathlib.Path(state["path"])
            if state["base"] != self._base.name and other.is_dir() and self._is_version(other):
                self._base, self._path = load_base(other, self._config), other
            if state["base"] != self._base.name:
                return Changes()  # another base has been made since: it has what it is to have
            return Changes(state["products"], tuple(state["removed"]), tuple(state["out_of_stock"]))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(path, f"a damaged file ({error})", "it as it was written") from error

    def _is_version(self, path: pathlib.Path) -> bool:
        folder = self._config.versions
        return bool(folder) and path.parent == pathlib.Path(folder).absolute()


def merge(
    base: Base, before: Changes, upsert: Sequence[Mapping[str, Any]], remove: Sequence[str]
) -> Changes:
    """The changes of before with further ones; every product in them has a document ID.

    Raises:
        InputError: as `Living.change_products`.
    """
    table = base.retriever.table
    assert table is not None
    rows, products = base.retriever.catalog.rows, dict(before.products)
    removed = set(before.removed)
    for number, product_id in enumerate(remove):
        if product_id not in products and (product_id not in rows or product_id in removed):
            raise InputError(
                f"remove.{number}", f"{product_id!r:.60}", "a product of the catalogue"
            )
        products.pop(product_id, None)
        if product_id in rows:
            removed.add(product_id)
    for number, record in enumerate(upsert):
        product_id = record["id"]
        docid = record.get("docid") or products.get(product_id, {}).get("docid")
        if not docid and product_id in rows:
            docid = format_docid(table.codes[rows[product_id]].tolist())
        if not docid:
            raise InputError(
                f"upsert.{number}.docid", "none", "an ID for a new product, as `assign` gives it"
            )
        _check_docid(docid, table, f"upsert.{number}.docid")
        _product(record, f"upsert.{number}")
        products[product_id] = {**record, "docid": docid}
        removed.discard(product_id)
    changes = Changes(products, tuple(sorted(removed)), before.out_of_stock)
    _check_unique(base, changes, [record["id"] for record in upsert])
    return changes


def changed_retriever(retriever: ProductRetriever, changes: Changes) -> ProductRetriever:
    """The retriever of the products after some changes, with the same network."""
    if not changes.products and not changes.removed:
        return retriever
    inner, table = retriever.retriever, retriever.table
    assert isinstance(inner, GenerativeRetriever)
    assert table is not None
    kept, new = _kept_and_new(retriever, changes)
    tables = [retriever.catalog.table.filter(pa.array(kept)), new.table]
    catalog = Catalog(pa.concat_tables(tables).combine_chunks())
    if not len(catalog):
        raise InputError("remove", "all products", "at least one that is left")
    codes = np.full((len(new), table.levels), -1, np.int32)
    for row, record in enumerate(changes.products.values()):
        found = parse_docid(record["docid"])
        codes[row, : len(found)] = found
    codes = np.concatenate([table.codes[kept], codes])
    table = DocidTable(catalog.ids, codes, None, table.codebook_size)
    trie = build_trie(table.codes, table.codebook_size)
    model = dataclasses.replace(inner.model, table=table, trie=trie)
    changed = GenerativeRetriever(Corpus(catalog), model, inner.config)
    return ProductRetriever(retriever.name, catalog, changed, table)


def _kept_and_new(retriever: ProductRetriever, changes: Changes) -> tuple[np.ndarray, Catalog]:
    """Which products are as they were, bool [N], and those that are new or changed."""
    gone = {*changes.removed, *changes.products}
    kept = np.array([product_id not in gone for product_id in retriever.catalog.ids])
    products = (_product(record, "upsert") for record in changes.products.values())
    return kept, Catalog.from_products(products)


def _product(record: Mapping[str, Any], where: str) -> Product:
    """The product of a record with `id`, `title`, `text`, `categories` and `extra`.

    Raises:
        InputError: a field that a catalogue could not have.
    """
    names = [parse_text(name, "category", where).strip() for name in record["categories"]]
    json_line(dict(record["extra"]), f"{where}.extra")
    return Product(
        id=parse_id(record["id"], where),
        title=parse_text(record["title"], "title", where),
        text=record["text"],
        categories=tuple(names),
        extra=record["extra"],
    )


def _check_docid(docid: str, table: DocidTable, where: str) -> None:
    """Raises InputError unless an ID is of the table's form."""
    try:
        codes = parse_docid(docid)
    except InputError as error:
        raise error.within(where) from error
    has_ends = bool((table.codes < 0).any())
    if len(codes) > table.levels or (len(codes) < table.levels and not has_ends):
        raise InputError(where, f"an ID of {len(codes)} codes", f"{table.levels} codes")
    if max(codes) >= table.codebook_size:
        raise InputError(where, f"code {max(codes)}", f"0 to {table.codebook_size - 1}")


def _check_unique(base: Base, changes: Changes, upserted: Sequence[str]) -> None:
    """Raises InputError if a changed product has the ID of another product."""
    table = base.retriever.table
    assert table is not None
    gone = {*changes.removed, *changes.products}
    new: dict[str, str] = {}
    for product_id, record in changes.products.items():
        other = new.setdefault(record["docid"], product_id)
        if other != product_id:
            raise _taken(upserted, product_id, other, record["docid"])
    for product_id, codes in zip(table.ids, table.codes.tolist(), strict=True):
        if product_id not in gone:
            other = new.get(format_docid(codes), "")
            if other:
                raise _taken(upserted, other, product_id, format_docid(codes))


def _taken(upserted: Sequence[str], product_id: str, other: str, docid: str) -> InputError:
    number = upserted.index(product_id) if product_id in upserted else upserted.index(other)
    found = f"{docid}, which another product has"
    return InputError(f"upsert.{number}.docid", found, "an ID that is free")
