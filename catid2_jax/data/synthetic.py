"""The built-in synthetic catalogue: products, queries as people type them, graded judgements.

No data come from a real shop: categories, words and brands are in `synthetic_taxonomy.json`, and
the seed determines everything else. The queries are hard for keyword search, since shoppers use
other words than the shop ("sneakers" for "trainers", "dark blue" for "navy"). A model can learn
these words, since they recur in other queries for the same kind of product.
"""

import bisect
import dataclasses
import functools
import hashlib
import importlib.resources
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from catid2_jax.constraints import NonNegativeInt, PositiveInt, check_fields
from catid2_jax.data import synthetic_wording as wording
from catid2_jax.data.synthetic_wording import Attribute, Draws, Item, Leaf
from catid2_jax.errors import InputError
from catid2_jax.types import GRADES, Product, Query

QUERY_KINDS: Mapping[str, int] = {
    "plain": 25,  # words of the product
    "synonym": 30,  # a shopper's words for the same thing
    "misspelled": 15,  # plain, with typing errors
    "ambiguous": 12,  # a category or a use, nothing else
    "long_tail": 18,  # three or four facts, phrased as in speech
}
"""Kind of query -> share in percent."""

SPLITS: Mapping[str, range] = {
    "train": range(80),
    "dev": range(80, 87),
    "test": range(87, 100),
}
"""Split -> hashes modulo 100 of the query texts that may belong to it."""

_SCANNED = 256  # how many products of a leaf, the most popular, may be judged
_MOST = {"E": 10, "S": 8, "C": 6, "I": 8}  # most judgements of a query, by label
_BRANDS_PER_LEAF = 12
_SERIES_PER_BRAND = 3
_ATTEMPTS = 300  # how often to try for a text that is new and belongs to the split

_SPLIT_STREAM = {"train": 3, "dev": 4, "test": 5}
_FACTS_STREAM, _PROSE_STREAM = 1, 2


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """Sizes of the synthetic catalogue and its splits.

    Attributes:
        products: number of products.
        train_queries: number of training queries.
        dev_queries: number of development queries.
        test_queries: number of test queries.

    Raises:
        InputError: a number is too small.
    """

    products: PositiveInt = 5_000
    train_queries: NonNegativeInt = 12_000
    dev_queries: NonNegativeInt = 400
    test_queries: NonNegativeInt = 1_000

    def __post_init__(self) -> None:
        check_fields(self)


def generate_products(config: SyntheticConfig, seed: int) -> Iterator[Product]:
    """Yields `config.products` products in the order of their ids, in constant memory."""
    catalogue = _catalogue(config.products, seed)
    for index in range(config.products):
        yield catalogue.product(index)


def product(config: SyntheticConfig, seed: int, index: int) -> Product:
    """Returns the product at `index`, a pure function of `config.products`, `seed` and `index`.

    Raises:
        IndexError: `index` is not in [0, config.products).
    """
    if not 0 <= index < config.products:
        raise IndexError(f"found index {index}, expected 0 to {config.products - 1}")
    return _catalogue(config.products, seed).product(index)


def generate_queries(
    config: SyntheticConfig, seed: int, split: str
) -> Iterator[tuple[Query, dict[str, int]]]:
    """Yields the queries of a split with their judgements.

    A query asks for a leaf category (or an inner one) and for some facts of a target product.
    Among the most popular products of the category, those with all the facts are graded E and
    those that lack one S. Products of neighbouring leaves are graded C, those of other departments
    I. At most 32 products are judged. No text occurs twice, in one split or in two; a catalogue
    too small for that yields fewer queries.

    Args:
        config: sizes of the catalogue and its splits.
        seed: seed of the products and the queries.
        split: "train", "dev" or "test".

    Yields:
        The query and its grades by document id. The query's `extra` has `kind` (a key of
        QUERY_KINDS), `target` (a document id), `category` (a path) and `constraints` (field ->
        value).

    Raises:
        InputError: the split is unknown.
    """
    if split not in SPLITS:
        raise InputError("split", repr(split), f"one of {', '.join(SPLITS)}")
    catalogue = _catalogue(config.products, seed)
    seen: set[str] = set()
    for number in range(getattr(config, f"{split}_queries")):
        wish = _new_wish(catalogue, split, number, seen)
        if wish is None:
            return
        seen.add(wish.text)
        extra = {
            "kind": wish.kind,
            "target": catalogue.id(wish.target),
            "category": list(wish.category),
            "constraints": wish.constraints,
        }
        draws = Draws(seed, _SPLIT_STREAM[split], number)
        grades = catalogue.judge(wish, draws)
        yield Query(f"{split}{number:07d}", wish.text, extra), grades


class _Wish(NamedTuple):
    """The text of a query and what it asks for."""

    kind: str
    text: str
    target: int
    category: tuple[str, ...]
    constraints: dict[str, str]


@functools.cache
def _taxonomy() -> dict[str, Any]:
    source = importlib.resources.files("catid2_jax.data") / "synthetic_taxonomy.json"
    return json.loads(source.read_text(encoding="utf-8"))


def _nodes(
    tree: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yields (path, node) of every category below `tree`, parents first."""
    for name, node in tree.items():
        yield (*path, name), node
        if "nouns" not in node:
            yield from _nodes(node, (*path, name))


def _read_leaf(path: tuple[str, ...], node: Mapping[str, Any], draws: Draws) -> Leaf:
    department = _taxonomy()["departments"][path[0]]
    attributes = {}
    for name in node["attributes"]:
        entry = _taxonomy()["attributes"][name]
        values = tuple(entry["values"])
        attributes[entry["field"]] = Attribute(
            entry["phrase"],
            entry.get("sentence", ""),
            values,
            entry["values"],
            draws.below(len(values)),
        )
    brands = draws.sample(department["brands"], _BRANDS_PER_LEAF)
    return Leaf(
        path,
        node["nouns"],
        node["synonyms"],
        node["uses"],
        node["features"],
        attributes,
        brands,
        {brand: draws.sample(_taxonomy()["series"], _SERIES_PER_BRAND) for brand in brands},
        draws.sample(department["adjectives"], 5),
        department["people"],
    )


class _Catalogue:
    """Computes products from their indices, and the members of a leaf, without storing a table.

    An affine permutation maps the index of a product to a rank. Each leaf owns a block of ranks,
    its most popular product first; the block sizes follow the Zipf-Mandelbrot law.
    """

    def __init__(self, products: int, seed: int):
        self.products, self.seed = products, seed
        self._digits = max(7, len(str(products - 1)))
        draws = Draws(seed)
        nodes = list(_nodes(_taxonomy()["categories"]))
        leaves = [_read_leaf(path, node, draws) for path, node in nodes if "nouns" in node]
        self.leaves = draws.sample(leaves, len(leaves))
        names = [path[-1] for path, _ in nodes]
        self._shared_names = {name for name in names if names.count(name) > 1}
        weights = [10**9 // (place + 5) for place in range(len(leaves))]
        total, below = sum(weights), 0
        self.starts = [0]
        for weight in weights:
            below += weight
            self.starts.append(products * below // total)
        self._factor = products // 2 + draws.below(products)
        while math.gcd(self._factor, products) != 1:
            self._factor += 1
        self._inverse = pow(self._factor, -1, products)
        self._shift = draws.below(products)
        self._heads: dict[int, list[tuple[int, dict[str, str]]]] = {}

    def id(self, index: int) -> str:
        return f"p{index:0{self._digits}d}"

    def index(self, rank: int) -> int:
        return (rank - self._shift) * self._inverse % self.products

    def item(self, index: int) -> Item:
        rank = (index * self._factor + self._shift) % self.products
        number = bisect.bisect_right(self.starts, rank) - 1
        leaf = self.leaves[number]
        draws = Draws(self.seed, _FACTS_STREAM, index)
        brand = leaf.brands[draws.skewed(len(leaf.brands))]
        facts = {"brand": brand, "series": draws.choice(leaf.series[brand])}
        for field, attribute in leaf.attributes.items():
            values = attribute.values
            facts[field] = values[(attribute.favourite + draws.skewed(len(values))) % len(values)]
        return Item(number, draws.choice(leaf.nouns), facts)

    def product(self, index: int) -> Product:
        item = self.item(index)
        leaf = self.leaves[item.leaf]
        draws = Draws(self.seed, _PROSE_STREAM, index)
        adjective = draws.choice(leaf.adjectives)
        return Product(
            id=self.id(index),
            title=wording.title(leaf, item, adjective, draws),
            text=wording.text(leaf, item, adjective, draws),
            categories=leaf.path,
            extra={"brand": item.facts["brand"]},
        )

    def target(self, draws: Draws) -> int:
        """Draws the index of a product to ask for: leaves by size, popular members more often."""
        number = bisect.bisect_right(self.starts, draws.below(self.products)) - 1
        start, end = self.starts[number], self.starts[number + 1]
        return self.index(start + draws.skewed(end - start))

    def head(self, number: int) -> list[tuple[int, dict[str, str]]]:
        """Returns the (index, facts) of a leaf's most popular members."""
        if number not in self._heads:
            start, end = self.starts[number], self.starts[number + 1]
            ranks = range(start, min(end, start + _SCANNED))
            indices = [self.index(rank) for rank in ranks]
            self._heads[number] = [(index, self.item(index).facts) for index in indices]
        return self._heads[number]

    def leaves_under(self, path: tuple[str, ...]) -> list[int]:
        """Returns the numbers of the leaves at or below a category that have products."""
        return [
            number
            for number, leaf in enumerate(self.leaves)
            if leaf.path[: len(path)] == path and self.starts[number] < self.starts[number + 1]
        ]

    def label(self, path: tuple[str, ...]) -> str:
        """Returns a category's name as typed, after its parent's name if several share it."""
        shared = path[-1] in self._shared_names
        return " ".join(path[-2:] if shared else path[-1:]).lower().replace("&", "and")

    def judge(self, wish: _Wish, draws: Draws) -> dict[str, int]:
        """Returns the grades of the judged products by document id, the target first."""
        wanted = self.leaves_under(wish.category)
        found: dict[str, list[int]] = {"E": [wish.target], "S": [], "C": [], "I": []}
        heads = [self.head(number) for number in wanted]
        for place in range(max(map(len, heads))):
            for index, facts in (head[place] for head in heads if place < len(head)):
                missing = sum(facts[field] != value for field, value in wish.constraints.items())
                if missing < 2 and index != wish.target:
                    found["ES"[missing]].append(index)
        for number in draws.sample(self._neighbours(wish.category), 3):
            found["C"].extend(index for index, _ in self.head(number)[:2])
        for _ in range(_MOST["I"]):
            index = draws.below(self.products)
            department = self.leaves[self.item(index).leaf].path[0]
            if department != wish.category[0] and index not in found["I"]:
                found["I"].append(index)
        return {
            self.id(index): GRADES[label]
            for label, indices in found.items()
            for index in indices[: _MOST[label]]
        }

    def _neighbours(self, path: tuple[str, ...]) -> list[int]:
        """Returns the leaves nearest to a category that are outside it, in the same department."""
        own = self.leaves_under(path)
        for depth in range(len(path) - 1, 0, -1):
            around = [number for number in self.leaves_under(path[:depth]) if number not in own]
            if around:
                return around
        return []


@functools.lru_cache(maxsize=2)
def _catalogue(products: int, seed: int) -> _Catalogue:
    return _Catalogue(products, seed)


def _new_wish(catalogue: _Catalogue, split: str, number: int, seen: set[str]) -> _Wish | None:
    """Draws a wish whose text belongs to the split and is not in `seen`; None if none is found."""
    kinds = [kind for kind, share in QUERY_KINDS.items() for _ in range(share)]
    kind = Draws(catalogue.seed, _SPLIT_STREAM[split], number).choice(kinds)
    for attempt in range(_ATTEMPTS):
        draws = Draws(catalogue.seed, _SPLIT_STREAM[split], number, attempt + 1)
        if attempt > _ATTEMPTS // 2:  # this kind may have no text left
            kind = draws.choice(kinds)
        wish = _make_wish(catalogue, kind, draws)
        digest = hashlib.blake2b(wish.text.encode(), digest_size=8).digest()
        if int.from_bytes(digest, "big") % 100 in SPLITS[split] and wish.text not in seen:
            return wish
    return None


def _make_wish(catalogue: _Catalogue, kind: str, draws: Draws) -> _Wish:
    target = catalogue.target(draws)
    item = catalogue.item(target)
    leaf = catalogue.leaves[item.leaf]
    fields = list(leaf.attributes)
    if kind == "ambiguous":
        text, category = _ambiguous_text(catalogue, leaf, draws)
        return _Wish(kind, wording.with_fillers(text, leaf, draws), target, category, {})
    if kind == "synonym":
        chosen = draws.sample(fields, 1 + draws.below(2)) + ["brand"] * draws.chance(25)
        text = wording.typed(leaf, item, draws.choice(leaf.synonyms), chosen, 100, draws)
        text = wording.with_fillers(text, leaf, draws)
    elif kind == "long_tail":
        chosen = draws.sample([*fields, "series"], 3) + ["brand"] * draws.chance(40)
        noun = draws.choice([item.noun, *leaf.synonyms])
        text = wording.typed(leaf, item, noun, chosen, 75, draws)
        text = wording.spoken(text, leaf, draws)
    else:
        chosen = draws.sample(["brand", "series", *fields], 1 + draws.below(3))
        text = wording.typed(leaf, item, item.noun, chosen, 0, draws)
        text = wording.with_fillers(text, leaf, draws)
    if kind == "misspelled":
        text = wording.misspelled(text, draws)
    constraints = {field: item.facts[field] for field in chosen}
    return _Wish(kind, text, target, leaf.path, constraints)


def _ambiguous_text(catalogue: _Catalogue, leaf: Leaf, draws: Draws) -> tuple[str, tuple[str, ...]]:
    """Draws a text that names no fact, and the category it means."""
    form = draws.below(10)
    if form < 5:
        return draws.choice(leaf.uses), leaf.path
    if form < 7:
        return draws.choice(leaf.synonyms), leaf.path
    if form < 8:
        return draws.choice(leaf.nouns), leaf.path
    category = leaf.path[: 2 + draws.below(len(leaf.path) - 1)]
    return catalogue.label(category), category
