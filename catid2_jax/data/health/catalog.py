"""Figures of a catalogue as it was given: its category tree, its texts, its fields."""

import collections
import dataclasses
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
from catid2_jax.types import Product

_LARGEST = 5  # nodes named per level
_FIRST = 1000  # products in which examples of missing fields are looked for

Path = tuple[str, ...]


class CatalogScan:
    """What one pass over a catalogue keeps: counts, hashes and paths, no texts but examples.

    Attributes:
        products: how many there are.
        judged: the judged documents that the catalogue has.
        untrained: documents of no training pair.
        titled: normal forms of queries that are some title's too.
        depths: names in the category path -> products.
        paths: category path -> products.
        same_titles: titles that are the same but for case, punctuation and white space.
        same_products: those that share their text too.
        title_lengths: of all titles.
        text_lengths: of texts that are not empty.
        empty_texts: products with nothing in `text`.
        title_again: texts that are the title.
        without_letters: titles without a letter.
        scripts: script of most letters of title and text -> products.
        languages: of title and text of a sample.
        present: further field -> products that have something in it.
        first: id and further fields of the first products.
        oddities: products by what is odd in title or text.
        odd_titles: products by what is odd in their title.
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
        judged: ids of documents that judgements name.
        trained: ids of documents of training pairs.
        queries: normal forms of query texts.
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
        # The lengths first: most texts are much longer than their title.
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
    """The figures of a scan, nested, ready for JSON."""
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
    """Whether a field holds nothing: null, blank text, an empty list or object."""
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())


def tree_figures(paths: Mapping[Path, int]) -> dict[str, Any]:
    """Figures of a category tree; a node is a path prefix.

    Args:
        paths: category path -> products.

    Returns:
        `nodes`, `levels` (see `_level_figures`), and, as counts with examples, nodes that are
        `singletons` (one product), `single_children` (no siblings) or `echoes` (named as their
        parent), `inner_products` (their path ends where others go on), `recurring_names` (with
        several parents on one level), `variant_siblings` and `variant_names` (groups of names with
        the same normal form, with the same parent or not), and by oddity the nodes whose name
        has it.
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
        "oddities": {
            name: _nodes(path for path in documents if oddity.search(path[-1]))
            for name, oddity in ODDITIES.items()
            if name != "cut_off"  # "Other..." is a name
        },
    }


def _level_figures(documents: Mapping[Path, int], level: int) -> dict[str, Any]:
    """`nodes` of a level, `min`, `median` and `max` products of a node, the `largest` nodes."""
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
    """Names on one level under several parents: one category to identity "name"."""
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
    """Groups names by normal form; names of punctuation only have none."""
    forms: dict[str, set[str]] = collections.defaultdict(set)
    for name in names:
        if form := normalized(name):
            forms[form].add(name)
    yield from forms.items()
