"""Finds what is odd in the figures of a data set, how bad it is and what to do about it."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from catid2_jax.data.health.queries import HEAD
from catid2_jax.data.health.text import EXAMPLES, shown
from catid2_jax.data.preprocessing import PreprocessingConfig

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Worst first. error: a step stops, or Recall is wrong; warning: training or Recall suffers;
note: good to know."""

# Thresholds of findings.
_BIG_CATEGORY = 0.5  # share of the products in one category of level 1
_HEAVY_HEAD = 50, 0.1  # documents with pairs; share of the pairs that fall on the head
_ONE_LENGTH = 20, 0.01  # texts as long as the longest; their share of the products
_OTHER_LANGUAGES = 0.005  # share of the sample; smaller ones may be errors of identification
_OFTEN_MISSING = 0.5  # share of the products without a field

_CLEAN = "clean the texts, as import_data does"
_DECODE = "read the source again in its own encoding; the lost characters cannot be restored"
_BOILERPLATE = "remove it if it repeats: it does not describe the product"

_ODDITIES: Mapping[str, tuple[Severity, str, str]] = {
    "markup": ("warning", "HTML markup", _CLEAN),
    "entities": ("warning", "HTML entities such as &amp;", _CLEAN),
    "control_characters": ("warning", "control or invisible characters", _CLEAN),
    "mojibake": ("warning", "text in a wrong encoding, such as Ã© for é", _DECODE),
    "lost_characters": ("warning", "characters lost to an encoding (�, __, wo?d)", _DECODE),
    "foreign_letters": ("warning", "a letter of another script inside a Latin word", _DECODE),
    "placeholders": ("warning", "a placeholder such as #NAME? or n/a for text", "leave it empty"),
    "addresses": ("note", "web addresses", _BOILERPLATE),
    "cut_off": ("note", "text that breaks off (...)", "use the whole text if you can get it"),
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
        "warning",
        "unsplit_names",
        "categories",
        "category names that seem to hold several, or a piece of a list",
        "import again with what separates the names and the paths; a flat or wrong tree misleads "
        "L_HCC",
    ),
    (
        "note",
        "variant_names",
        "",
        "category names spelt in several ways under different parents",
        "spell them alike if a category is identified by its name alone",
    ),
    (
        "note",
        "recurring_names",
        "",
        "category names that recur under other parents",
        "identified by path they stay apart, identified by name they become one category",
    ),
    (
        "note",
        "echoes",
        "categories",
        "categories with the name of their parent",
        "nothing to do if the source has no finer category for them",
    ),
    (
        "note",
        "single_children",
        "categories",
        "categories without siblings",
        "they add nothing to their parent; consider merging the two",
    ),
    (
        "note",
        "singletons",
        "categories",
        "categories of one product",
        "L_HCC has no second product to pair with; consider merging them",
    ),
    (
        "note",
        "inner_products",
        "products",
        "products whose path ends where others continue",
        "give them a category of the last level if there is one",
    ),
)
"""(severity, name of the figure, what it is a share of or "", what, advice)."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something odd in a data set.

    Attributes:
        severity: how bad it is, one of SEVERITIES.
        what: the oddity, in words that follow the count: "titles without a letter".
        count: number of cases.
        of: number of things that could be a case; 0 if that has no meaning.
        examples: the first EXAMPLES cases, printable on any terminal.
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
        """The fraction `count / of`; 0 if `of` is 0."""
        return self.count / self.of if self.of else 0.0


def find(figures: Mapping[str, Any], config: PreprocessingConfig) -> tuple[Finding, ...]:
    """Returns the findings in `Health.figures`, sorted by severity, then by share."""
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
    """Yields a finding, unless there is no case."""
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
        "correct them (inspect.rejected.jsonl lists all), or skip them when reading",
    )
    depths = {int(names): cases for names, cases in catalog["depths"].items()}
    least, most = config.minimum_depth, config.maximum_depth
    yield from _found(
        "warning",
        _together(cases for names, cases in depths.items() if names < least),
        products,
        f"products less than {least} categories deep",
        "preprocessing drops them; a smaller minimum_depth keeps them",
    )
    yield from _found(
        "note",
        _together(cases for names, cases in depths.items() if names > most),
        products,
        f"products more than {most} categories deep",
        "preprocessing cuts their paths; a larger maximum_depth keeps them whole",
    )
    yield from _found(
        "note",
        catalog["untrained"],
        products,
        "products in no training pair",
        "only their titles train them: keep the weight of the title task above 0",
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
            "level 1 tells little apart; consider a tree that starts a level deeper",
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
        "describe the product in words; queries can hardly find it now",
    )
    yield from _found(
        "warning",
        texts["repeated_with_title"],
        products,
        "products with the title and the text of another",
        "merge them, or add what distinguishes them: no query can rank one above the other",
    )
    yield from _found(
        "note",
        titles["repeated"],
        products,
        "products with the title of another",
        "stage 2 sees one title with several IDs; add size, colour or pack size to the title",
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
            f"texts of exactly {length:,} characters, the length of the longest",
            longest,
            products,
            (texts["lengths"]["longest"],),
            "they were probably cut there; use the whole text if you can get it",
        )
    for name, missing in catalog["missing_fields"].items():
        if name == "text" or missing["count"] > _OFTEN_MISSING * products:
            what, advice = f"products without {shown(name)}", "fill it in if you know it"
            yield from _found("note", missing, products, what, advice)


def _language_findings(catalog: Mapping[str, Any]) -> Iterator[Finding]:
    main = next(iter(catalog["scripts"]))
    yield from _found(
        "note",
        catalog["other_scripts"],
        catalog["products"],
        f"products not mainly in {main} letters",
        "normal in a shop of several languages; otherwise look for damaged text",
    )
    languages = catalog["languages"]
    if languages["others"]["count"] >= _OTHER_LANGUAGES * languages["sampled"]:
        yield from _found(
            "note",
            languages["others"],
            languages["sampled"],
            f"sampled products in other languages than {next(iter(languages['shares']))}",
            "use a vocabulary and queries that cover these languages",
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
        "merge them: each is scored alone, and the documents of the other count as wrong",
    )
    yield from _found(
        "note",
        figures["titles"],
        queries,
        f"{split} queries that are a product's title",
        "keyword search finds these; Recall on them says little about other queries",
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
        "add the products or remove the judgements: the prepare step refuses the file",
    )
    yield from _found(
        "error",
        figures["unknown_queries"],
        judgements,
        f"{split} judgements of queries that the split lacks",
        "add the queries or remove the judgements: the prepare step refuses the file",
    )
    yield from _found(
        "warning",
        figures["without_relevant"],
        figures["queries"],
        f"{split} queries without a relevant document",
        "preprocessing drops them; which labels count as relevant is set by "
        + ("training_labels" if split == "train" else "relevant_labels"),
    )
    least, share = _HEAVY_HEAD
    if figures["relevant_documents"] >= least and figures["head"]["share"] > share:
        yield from _found(
            "note",
            figures["head"],
            figures["pairs"],
            f"{split} pairs on the {HEAD:.0%} of the products with most pairs",
            "a model that always returns the same products scores well; look at the tail too",
        )


def _split_findings(figures: Mapping[str, Any]) -> Iterator[Finding]:
    for split, cases in figures["unseen"].items():
        yield from _found(
            "warning",
            cases,
            figures["splits"][split]["pairs"],
            f"{split} pairs on products in no training pair",
            "preprocessing drops them; test_seen_in_training=False keeps them",
        )
    for both, common in figures["between"].items():
        later, _, earlier = both.split()
        of = figures["splits"][later]
        yield from _found(
            "error",
            common["pairs"],
            of["pairs"],
            f"{later} pairs whose query and product are a pair of {earlier} too",
            f"remove them from one split: Recall on {later} would measure memorisation",
        )
        yield from _found(
            "warning",
            common["queries"],
            of["queries"],
            f"{later} queries whose text is in {earlier} too",
            "split by the query's text, not by its id",
        )
        yield from _found(
            "warning",
            common["ids"],
            of["queries"],
            f"{later} queries whose id is in {earlier} too",
            "give every query its own id: run files and vectors are keyed by id",
        )
