"""Computes figures of a catalogue before preprocessing: category tree, texts and fields."""

import collections
import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from catid2_jax.data.health.text import (
    EXAMPLES,
    ODDITIES,
    Cases,
    LanguageSample,
    Lengths,
    Repeats,
    dominant_script,
    has_letters,
    normalized,
    shown,
)
from catid2_jax.data.sources.category_cells import RARE_IN_NAMES, SEPARATORS
from catid2_jax.types import Product

_LARGEST = 5  # largest nodes named per level
_FIRST = 1000  # products that are searched for examples of missing fields

_PIECE = re.compile(
    r"""^[\[{(]\s*['"\[{]|['"\]}]\s*[\]})]$|\\$"""
)  # of a list, or before an escape

Path = tuple[str, ...]


class CatalogScan:
    """The results of one pass over a catalogue: counts, hashes and paths, and texts of examples.

    Two texts are equal here if their normal forms are (see `normalized`).

    Attributes:
        products: number of products.
        judged: ids of the judged documents that are in the catalogue.
        untrained: products in no training pair.
        titled: normal forms of queries that equal the title of some product.
        depths: number of names in the category path -> products.
        paths: category path -> number of products.
        same_titles: products whose title equals another's.
        same_products: products whose title equals another's, with identical texts.
        title_lengths: lengths of all titles.
        text_lengths: lengths of the texts that are not empty.
        empty_texts: products with an empty text.
        title_again: products whose text equals their title.
        without_letters: products whose title has no letter.
        scripts: script of most letters in title and text -> products.
        languages: languages of title and text in a sample of the products.
        present: name of a further field -> number of products in which it is not empty.
        first: id and names of the filled further fields, for each of the first products.
        oddities: name of an oddity -> products with it in title or text.
        odd_titles: name of an oddity -> number of products with it in the title.
    """

    def __init__(self) -> None:
        self.products = 0
        self.judged: set[str] = set()
        self.untrained = Cases()
        self.titled: set[str] = set()
        self.depths: dict[int, Cases] = collections.defaultdict(Cases)
        self.paths: collections.Counter[Path] = collections.Counter()
        self.same_titles, self.same_products = Repeats(), Repeats()
        self.title_lengths, self.text_lengths = Lengths(), Lengths()
        self.empty_texts, self.title_again, self.without_letters = Cases(), Cases(), Cases()
        self.scripts: dict[str, Cases] = collections.defaultdict(Cases)
        self.languages = LanguageSample()
        self.present: collections.Counter[str] = collections.Counter()
        self.first: list[tuple[str, frozenset[str]]] = []
        self.oddities = {name: Cases() for name in ODDITIES}
        self.odd_titles = dict.fromkeys(ODDITIES, 0)


def scan_catalog(
    products: Iterable[Product],
    judged: Collection[str],
    trained: Collection[str],
    queries: Collection[str],
) -> CatalogScan:
    """Reads the catalogue once.

    Args:
        products: the catalogue, streamed.
        judged: ids of the documents that judgements name.
        trained: ids of the documents in training pairs.
        queries: normal forms of the query texts.
    """
    judged, trained, queries = frozenset(judged), frozenset(trained), frozenset(queries)
    scan = CatalogScan()
    for product in products:
        scan.products += 1
        scan.paths[product.categories] += 1
        scan.depths[len(product.categories)].add(" > ".join(product.categories), product.id)
        if product.id in judged:
            scan.judged.add(product.id)
        if product.id not in trained:
            scan.untrained.add(product.title, product.id)
        _scan_texts(scan, product, queries)
        present = [name for name, value in product.extra.items() if not _is_missing(value)]
        scan.present.update(dict.fromkeys(product.extra, 0))
        scan.present.update(present)
        if len(scan.first) < _FIRST:
            scan.first.append((product.id, frozenset(present)))
    return scan


def _scan_texts(scan: CatalogScan, product: Product, queries: frozenset[str]) -> None:
    title, text = product.title.strip(), product.text.strip()
    form = normalized(title)
    if form:
        scan.same_titles.add(form, title)
        scan.same_products.add((form, text), title)
        if form in queries:
            scan.titled.add(form)
    if not has_letters(title):
        scan.without_letters.add(title, product.id)
    scan.title_lengths.add(title, product.id)
    if text:
        scan.text_lengths.add(text, product.id)
        # Lengths are compared first: most texts are much longer than their title.
        if len(text) < 2 * len(title) and normalized(text) == form:
            scan.title_again.add(text, product.id)
    else:
        scan.empty_texts.add(title, product.id)
    both = f"{title} {text}"
    scan.scripts[dominant_script(both)].add(title, product.id)
    scan.languages.add(product.id, both)
    for name, oddity in ODDITIES.items():
        if match := oddity.search(title):
            scan.odd_titles[name] += 1
            scan.oddities[name].add(title, product.id, match.start())
        elif match := oddity.search(text):
            scan.oddities[name].add(text, product.id, match.start())


def catalog_figures(scan: CatalogScan) -> dict[str, Any]:
    """Returns the figures of a scan: nested dictionaries, with `Cases` for what is odd."""
    scripts = sorted(scan.scripts.items(), key=lambda item: -item[1].count)
    return {
        "products": scan.products,
        "judged": len(scan.judged),
        "untrained": scan.untrained,
        "depths": {str(depth): scan.depths[depth] for depth in sorted(scan.depths)},
        "categories": tree_figures(scan.paths),
        "titles": {
            "lengths": scan.title_lengths.figures(),
            "without_letters": scan.without_letters,
            "repeated": scan.same_titles.figures(),
        },
        "texts": {
            "lengths": scan.text_lengths.figures(),
            "title_again": scan.title_again,
            "repeated_with_title": scan.same_products.figures(),
        },
        "scripts": {name: cases.count for name, cases in scripts},
        "other_scripts": {
            "count": sum(cases.count for _, cases in scripts[1:]),
            "examples": [f"{name}, {cases.examples[0]}" for name, cases in scripts[1:3]],
        },
        "languages": scan.languages.figures(),
        "missing_fields": {
            "text": scan.empty_texts,
            **{name: _missing(scan, name) for name in scan.present},
        },
        "oddities": scan.oddities,
        "odd_titles": scan.odd_titles,
    }


def _missing(scan: CatalogScan, field: str) -> Cases:
    examples = [shown(record) for record, present in scan.first if field not in present]
    return Cases(scan.products - scan.present[field], examples[:EXAMPLES])


def _is_missing(value: Any) -> bool:
    """Tells whether a field is empty: null, blank text, an empty list or an empty object."""
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())


def tree_figures(paths: Mapping[Path, int]) -> dict[str, Any]:
    """Computes figures of a category tree, whose nodes are the prefixes of category paths.

    Args:
        paths: category path -> number of products.

    Returns:
        `nodes`, the number of nodes; `levels`, the figures of each level (see `_level_figures`);
        and `Cases` of

        - `singletons`: nodes with one product,
        - `single_children`: nodes without siblings,
        - `echoes`: nodes with the name of their parent,
        - `inner_products`: products whose path is a prefix of others,
        - `recurring_names`: names with several parents on one level,
        - `variant_siblings`: groups of siblings whose names have the same normal form,
        - `variant_names`: groups of names with the same normal form under different parents,
        - `unsplit_names`: nodes whose name seems to hold several, see `_unsplit_names`,
        - `oddities`: oddity -> nodes with it in their name.
    """
    documents: collections.Counter[Path] = collections.Counter()
    for path, count in paths.items():
        for level in range(1, len(path) + 1):
            documents[path[:level]] += count
    children: dict[Path, list[str]] = collections.defaultdict(list)
    for *parent, name in documents:
        children[tuple(parent)].append(name)
    inner = [path for path in paths if path in children]
    return {
        "nodes": len(documents),
        "levels": [
            _level_figures(documents, level) for level in range(1, max(map(len, paths)) + 1)
        ],
        "singletons": _nodes(path for path in documents if documents[path] == 1),
        "single_children": _nodes(
            (*path, names[0]) for path, names in children.items() if len(names) == 1
        ),
        "echoes": _nodes(
            path for path in documents if normalized(path[-1]) in map(normalized, path[-2:-1])
        ),
        "inner_products": dataclasses.replace(_nodes(inner), count=sum(paths[p] for p in inner)),
        "recurring_names": _recurring_names(documents),
        **_variants(children),
        "unsplit_names": _nodes(_unsplit_names(documents)),
        "oddities": {
            name: _nodes(path for path in documents if oddity.search(path[-1]))
            for name, oddity in ODDITIES.items()
            if name != "cut_off"  # "Other..." is a whole name
        },
    }


def _unsplit_names(nodes: Collection[Path]) -> Iterator[Path]:
    """Yields the nodes whose name seems to be several, or a piece of a list.

    That is: it has a separator that is rare in names, or one that is in most names; it begins or
    ends like a list, or ends with a backslash; or a comma or semicolon joins it to a root or to a
    sibling.
    """
    common = (s for s in SEPARATORS if s not in RARE_IN_NAMES)
    frequent = [s for s in common if 2 * sum(_has_inside(p[-1], s) for p in nodes) > len(nodes)]
    for path in nodes:
        first, *others = re.split(r"\s*[,;|]\s*", path[-1])
        if (
            any(_has_inside(path[-1], separator) for separator in (*RARE_IN_NAMES, *frequent))
            or _PIECE.search(path[-1])
            or any((other,) in nodes for other in others)
            or (others and (*path[:-1], first) in nodes)
        ):
            yield path


def _has_inside(name: str, separator: str) -> bool:
    return separator in name and sum(map(bool, map(str.strip, name.split(separator)))) > 1


def _level_figures(documents: Mapping[Path, int], level: int) -> dict[str, Any]:
    """Returns the number of `nodes`, `min`, `median` and `max` products per node, and `largest`."""
    sizes = {path: count for path, count in documents.items() if len(path) == level}
    counts = list(sizes.values())
    largest = sorted(sizes, key=lambda path: -sizes[path])[:_LARGEST]
    return {
        "nodes": len(sizes),
        "min": min(counts),
        "median": float(np.median(counts)),
        "max": max(counts),
        "largest": [{"path": list(path), "products": sizes[path]} for path in largest],
    }


def _nodes(paths: Iterable[Path]) -> Cases:
    cases = Cases()
    for path in paths:
        cases.add(" > ".join(path))
    return cases


def _recurring_names(nodes: Iterable[Path]) -> Cases:
    """Returns names with several parents on one level, which are one category if known by name."""
    parents: dict[tuple[int, str], list[str]] = collections.defaultdict(list)
    for path in nodes:
        if len(path) > 1:
            parents[len(path), path[-1]].append(path[-2])
    cases = Cases()
    for (_, name), above in parents.items():
        if len(above) > 1:
            listed = ", ".join(shown(parent) for parent in above[:3])
            cases.add(name, f"under {listed}{', ...' if len(above) > 3 else ''}")
    return cases


def _variants(children: Mapping[Path, list[str]]) -> dict[str, Cases]:
    siblings, names = Cases(), Cases()
    spellings: dict[str, set[str]] = collections.defaultdict(set)
    beside: set[str] = set()
    for path, below in children.items():
        for form, group in _by_form(below):
            spellings[form].update(group)
            if len(group) > 1:
                beside.add(form)
                siblings.add(" / ".join(sorted(group)), f"under {shown(' > '.join(path))}")
    for form, group in spellings.items():
        if len(group) > 1 and form not in beside:
            names.add(" / ".join(sorted(group)))
    return {"variant_siblings": siblings, "variant_names": names}


def _by_form(names: Iterable[str]) -> Iterator[tuple[str, set[str]]]:
    """Groups names by normal form; leaves out names of punctuation only."""
    forms: dict[str, set[str]] = collections.defaultdict(set)
    for name in names:
        if form := normalized(name):
            forms[form].add(name)
    yield from forms.items()
