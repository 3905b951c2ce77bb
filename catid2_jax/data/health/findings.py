"""What is odd in the figures of a data set, how bad it is, and what to do about it."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from catid2_jax.data.health.queries import HEAD
from catid2_jax.data.health.text import EXAMPLES, shown
from catid2_jax.data.preprocessing import PreprocessingConfig

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Worst first: a step stops or Recall is false; training or Recall suffer; good to know."""

_BIG_CATEGORY = 0.5  # share of the products in one category of level 1
_HEAVY_HEAD = 50, 0.1  # documents with pairs, and share of the pairs on the most wanted
_ONE_LENGTH = 20, 0.01  # texts, and share of the products, as long as the longest
_OTHER_LANGUAGES = 0.005  # of the sample; less is within the error of telling languages apart
_OFTEN_MISSING = 0.5  # share of the products without a field

_CLEAN = "clean the texts; python -m catid2_jax.import_data does it for what it imports"
_DECODE = "read the source again with its true encoding; what was lost cannot be had from here"
_BOILERPLATE = "remove it if it repeats: it says nothing of the product"

_ODDITIES: Mapping[str, tuple[Severity, str, str]] = {
    "markup": ("warning", "HTML markup", _CLEAN),
    "entities": ("warning", "HTML entities such as &amp;", _CLEAN),
    "control_characters": ("warning", "control or invisible characters", _CLEAN),
    "mojibake": ("warning", "text in a wrong encoding, such as Ã© for é", _DECODE),
    "lost_characters": ("warning", "characters lost to an encoding (�, __, wo?d)", _DECODE),
    "foreign_letters": ("warning", "a letter of another script inside a Latin word", _DECODE),
    "placeholders": ("warning", "a placeholder such as #NAME? or n/a for text", "leave it empty"),
    "addresses": ("note", "web addresses", _BOILERPLATE),
    "cut_off": ("note", "text that breaks off (...)", "use the whole text if it can be had"),
}

_TREE_ODDITIES: tuple[tuple[Severity, str, str, str, str], ...] = (
    (
        "warning",
        "variant_siblings",
        "",
        "groups of sibling categories that differ only by case, spaces or punctuation",
        "merge them: L_HCC pushes apart what belongs together",
    ),
    (
        "note",
        "variant_names",
        "",
        "category names spelt in several ways under different parents",
        'spell them alike if config.rqvae.category_identity is "name"',
    ),
    (
        "note",
        "recurring_names",
        "",
        "category names that recur under other parents",
        'config.rqvae.category_identity="path" keeps them apart, "name" takes them as one',
    ),
    (
        "note",
        "echoes",
        "categories",
        "categories named as their parent",
        "nothing is wrong if the source has no finer category for them",
    ),
    (
        "note",
        "single_children",
        "categories",
        "categories without siblings",
        "their level tells nothing there; consider merging it with the parent",
    ),
    (
        "note",
        "singletons",
        "categories",
        "categories of one product",
        "L_HCC finds no second product for them; consider merging them",
    ),
    (
        "note",
        "inner_products",
        "products",
        "products whose path ends where others go on",
        "give them a category of the last level if there is one",
    ),
)
"""(severity, figure, what it is out of, what, advice)."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something odd.

    Attributes:
        severity: see SEVERITIES.
        what: the oddity; it goes on after a number.
        count: how often.
        of: out of how many; 0 where there is no whole.
        examples: the first two, printable.
        advice: what to do about it.
    """

    severity: Severity
    what: str
    count: int
    of: int
    examples: tuple[str, ...]
    advice: str

    @property
    def share(self) -> float:
        """`count` of `of`; 0 where there is no whole."""
        return self.count / self.of if self.of else 0.0


def find(figures: Mapping[str, Any], config: PreprocessingConfig) -> tuple[Finding, ...]:
    """The findings of `Health.figures`, by severity, then by share."""
    findings = [
        *_catalog_findings(figures, config),
        *_tree_findings(figures["catalog"]),
        *_text_findings(figures["catalog"]),
        *_language_findings(figures["catalog"]),
        *_oddity_findings(figures["catalog"]),
    ]
    for split, split_figures in figures["splits"].items():
        findings += _query_findings(split, split_figures)
        findings += _label_findings(split, split_figures)
    findings += _split_findings(figures)
    return tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), -f.share)))


def _found(
    severity: Severity, cases: Mapping[str, Any], of: int, what: str, advice: str
) -> Iterator[Finding]:
    """A finding of what was counted, if it was seen at all."""
    if cases["count"]:
        yield Finding(severity, what, cases["count"], of, tuple(cases["examples"]), advice)


def _together(several: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    cases = list(several)
    return {
        "count": sum(c["count"] for c in cases),
        "examples": [example for c in cases for example in c["examples"]][:EXAMPLES],
    }


def _catalog_findings(figures: Mapping[str, Any], config: PreprocessingConfig) -> Iterator[Finding]:
    catalog = figures["catalog"]
    products = catalog["products"]
    rejected = figures["rejected"]
    yield from _found(
        "error",
        rejected,
        products + rejected["count"],
        "records of the catalogue that cannot be read",
        "mend them (inspect.rejected.jsonl has all), or leave them out: config.data.on_error=skip",
    )
    depths = {int(names): cases for names, cases in catalog["depths"].items()}
    least, most = config.minimum_depth, config.maximum_depth
    yield from _found(
        "warning",
        _together(cases for names, cases in depths.items() if names < least),
        products,
        f"products less than {least} categories deep",
        "prepare drops them; config.data.preprocessing.minimum_depth keeps them",
    )
    yield from _found(
        "note",
        _together(cases for names, cases in depths.items() if names > most),
        products,
        f"products more than {most} categories deep",
        "prepare cuts their paths; config.data.preprocessing.maximum_depth keeps them whole",
    )
    yield from _found(
        "note",
        catalog["untrained"],
        products,
        "products of no training pair",
        "only their own titles teach them: keep config.seq2seq.title_weight above 0",
    )


def _tree_findings(catalog: Mapping[str, Any]) -> Iterator[Finding]:
    products, tree = catalog["products"], catalog["categories"]
    whole = {"categories": tree["nodes"], "products": products, "": 0}
    for severity, name, of, what, advice in _TREE_ODDITIES:
        yield from _found(severity, tree[name], whole[of], what, advice)
    biggest = tree["levels"][0]["largest"][0]
    if biggest["products"] > _BIG_CATEGORY * products:
        yield Finding(
            "note",
            "products in one category of level 1",
            biggest["products"],
            products,
            (shown(biggest["path"][0]),),
            "the first code has little to tell; consider a tree that starts a level deeper",
        )
    for name, (severity, label, advice) in _ODDITIES.items():
        if name in tree["oddities"]:
            what = f"category names with {label}"
            yield from _found(severity, tree["oddities"][name], tree["nodes"], what, advice)


def _text_findings(catalog: Mapping[str, Any]) -> Iterator[Finding]:
    products, titles, texts = catalog["products"], catalog["titles"], catalog["texts"]
    yield from _found(
        "warning",
        titles["without_letters"],
        products,
        "titles without a letter",
        "give them words; a query can hardly find them",
    )
    yield from _found(
        "warning",
        texts["repeated_with_title"],
        products,
        "products with the title and the text of another",
        "merge them, or add what tells them apart: no query can find one before the other",
    )
    yield from _found(
        "note",
        titles["repeated"],
        products,
        "products with the title of another",
        "stage 2 sees one title with several IDs; add size, colour or pack to the title",
    )
    yield from _found(
        "note",
        texts["title_again"],
        products,
        "texts that repeat the title",
        "they add nothing; give a description if there is one",
    )
    longest = texts["lengths"].get("of_maximal_length", 0)
    least, share = _ONE_LENGTH
    if longest >= least and longest > share * products:
        length = texts["lengths"]["characters"]["max"]
        yield Finding(
            "note",
            f"texts of just {length:,} characters, as many as the longest has",
            longest,
            products,
            (texts["lengths"]["longest"],),
            "they were cut there; use the whole text if it can be had",
        )
    for name, missing in catalog["missing_fields"].items():
        if name == "text" or missing["count"] > _OFTEN_MISSING * products:
            what, advice = f"products without {shown(name)}", "fill it in if it is known"
            yield from _found("note", missing, products, what, advice)


def _language_findings(catalog: Mapping[str, Any]) -> Iterator[Finding]:
    main = next(iter(catalog["scripts"]))
    yield from _found(
        "note",
        catalog["other_scripts"],
        catalog["products"],
        f"products not mainly in {main} letters",
        "expected in a shop of several languages; else look for damage",
    )
    languages = catalog["languages"]
    if languages["others"]["count"] >= _OTHER_LANGUAGES * languages["sampled"]:
        yield from _found(
            "note",
            languages["others"],
            languages["sampled"],
            f"sampled products in other languages than {next(iter(languages['shares']))}",
            "the vocabulary must know them, and so must the queries",
        )


def _oddity_findings(catalog: Mapping[str, Any]) -> Iterator[Finding]:
    for name, (severity, label, advice) in _ODDITIES.items():
        what = f"products with {label} ({catalog['odd_titles'][name]:,} in the title)"
        yield from _found(severity, catalog["oddities"][name], catalog["products"], what, advice)


def _query_findings(split: str, figures: Mapping[str, Any]) -> Iterator[Finding]:
    queries = figures["queries"]
    yield from _found(
        "warning",
        figures["empty"],
        queries,
        f"{split} queries without letters, digits or symbols",
        "remove them: nothing can be learnt from them",
    )
    yield from _found(
        "warning",
        figures["repeated"],
        queries,
        f"{split} queries with the text of another",
        "merge their judgements: each counts by itself, and for each the other's are wrong",
    )
    yield from _found(
        "note",
        figures["titles"],
        queries,
        f"{split} queries that are a product's title",
        "keyword search finds these; Recall on them says little of other queries",
    )
    for name, (severity, label, advice) in _ODDITIES.items():
        what = f"{split} queries with {label}"
        yield from _found(severity, figures["oddities"][name], queries, what, advice)


def _label_findings(split: str, figures: Mapping[str, Any]) -> Iterator[Finding]:
    judgements = figures["judgements"]
    yield from _found(
        "error",
        figures["unknown_documents"],
        judgements,
        f"{split} judgements on documents that the catalogue lacks",
        f"add the products or remove the judgements: prepare stops at config.data.{split}_qrels",
    )
    yield from _found(
        "error",
        figures["unknown_queries"],
        judgements,
        f"{split} judgements of queries that are not there",
        f"add the queries to config.data.{split}_queries or remove the judgements",
    )
    yield from _found(
        "warning",
        figures["without_relevant"],
        figures["queries"],
        f"{split} queries without a relevant document",
        "prepare drops them; which grades count is config.data.preprocessing."
        + ("training_labels" if split == "train" else "relevant_labels"),
    )
    least, share = _HEAVY_HEAD
    if figures["relevant_documents"] >= least and figures["head"]["share"] > share:
        yield from _found(
            "note",
            figures["head"],
            figures["pairs"],
            f"{split} pairs on the most wanted {HEAD:.0%} of the products that have any",
            "what always gives the same products does well on these; look at the tail too",
        )


def _split_findings(figures: Mapping[str, Any]) -> Iterator[Finding]:
    for split, cases in figures["unseen"].items():
        yield from _found(
            "warning",
            cases,
            figures["splits"][split]["pairs"],
            f"{split} pairs on products of no training pair",
            "prepare drops them; config.data.preprocessing.test_seen_in_training=False keeps them",
        )
    for both, common in figures["between"].items():
        later, _, earlier = both.split()
        of = figures["splits"][later]
        yield from _found(
            "error",
            common["pairs"],
            of["pairs"],
            f"{later} pairs whose query and product are a pair of {earlier} too",
            f"remove them from one of the two: Recall on {later} would show what was learnt by "
            "heart",
        )
        yield from _found(
            "warning",
            common["queries"],
            of["queries"],
            f"{later} queries whose text stands in {earlier} too",
            "split by the query's text, not by its id",
        )
        yield from _found(
            "warning",
            common["ids"],
            of["queries"],
            f"{later} queries whose id stands in {earlier} too",
            "give every query an id of its own: runs and vectors are kept by id",
        )
