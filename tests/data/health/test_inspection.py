"""Every finding is found where it was planted, and a clean data set has none."""

import dataclasses
import json
import tracemalloc

import pytest

from catid2_jax.data.health.catalog import scan_catalog
from catid2_jax.data.health.inspection import Split, inspect_data
from catid2_jax.data.preprocessing import PreprocessingConfig
from catid2_jax.types import Product, Query
from tests.data.health.data_sets import (
    SENTENCE,
    clean_products,
    clean_splits,
    findings,
    health,
    with_product,
)


def changed(splits, name, queries=(), qrels=()):
    """Returns the splits with further queries and judgements in one of them."""
    old = splits[name]
    return splits | {name: Split([*old.queries, *queries], old.qrels | dict(qrels))}


def test_a_clean_data_set_has_no_findings():
    assert findings() == []
    assert findings(splits={}) == [("note", "products in no training pair", 80)]


PLANTED_PRODUCTS = {
    "shallow": (
        {"categories": ("Top A",)},
        ("warning", "products less than 3 categories deep", 1),
    ),
    "deep": (
        {"categories": ("Top A", "Middle C", "Leaf G", "Twig")},
        ("note", "products more than 3 categories deep", 1),
    ),
    "inner": (
        {"categories": ("Top A", "Middle C")},
        ("note", "products whose path ends where others continue", 1),
    ),
    "singleton": (
        {"categories": ("Top A", "Middle C", "Leaf X")},
        ("note", "categories of one product", 1),
    ),
    "only child": (
        {"categories": ("Top A", "Middle X", "Leaf X")},
        ("note", "categories without siblings", 1),
    ),
    "echo": (
        {"categories": ("Top A", "Middle C", "MIDDLE C")},
        ("note", "categories with the name of their parent", 1),
    ),
    "variant sibling": (
        {"categories": ("Top A", "Middle C", "leaf-g")},
        (
            "warning",
            "groups of sibling categories that differ only by case, spaces or punctuation",
            1,
        ),
    ),
    "unsplit name": (
        {"categories": ("Top A", "Middle C", "Leaf G | Leaf H")},
        ("warning", "category names that seem to hold several, or a piece of a list", 1),
    ),
    "variant elsewhere": (
        {"categories": ("Top A", "Middle C", "leaf N")},
        ("note", "category names spelt in several ways under different parents", 1),
    ),
    "recurring": (
        {"categories": ("Top A", "Middle C", "Leaf N")},
        ("note", "category names that recur under other parents", 1),
    ),
    "category with markup": (
        {"categories": ("Top A", "Middle C", "Leaf <b>X</b>")},
        ("warning", "category names with HTML markup", 1),
    ),
    "category with entity": (
        {"categories": ("Top A", "Middle C", "Leaf &amp; co")},
        ("warning", "category names with HTML entities such as &amp;", 1),
    ),
    "no letters": ({"title": "12-34"}, ("warning", "titles without a letter", 1)),
    "same title": (
        {"title": "a RED mug, for the house"},
        ("note", "products with the title of another", 2),
    ),
    "same title and text": (
        {
            "title": "A red mug for the house!",
            "text": SENTENCE.format("mug") + ", and it comes in a box" * 2 + " with red",
        },
        ("warning", "products with the title and the text of another", 2),
    ),
    "no text": ({"text": " "}, ("note", "products without 'text'", 1)),
    "text is title": (
        {"text": "A blue mug for the house."},
        ("note", "texts that repeat the title", 1),
    ),
    "script": (
        {"title": "Синяя кружка для дома", "text": "Очень хорошая кружка для всей семьи"},
        ("note", "products not mainly in Latin letters", 1),
    ),
    "language": (
        {"title": "Une belle tasse bleue pour la maison", "text": "Elle est livrée avec une boîte"},
        ("note", "sampled products in other languages than en", 1),
    ),
    "markup": (
        {"text": "A very good mug for the <b>whole family</b>, made well"},
        ("warning", "products with HTML markup (0 in the title)", 1),
    ),
    "markup in title": (
        {"title": "A blue <i>mug</i> for the house"},
        ("warning", "products with HTML markup (1 in the title)", 1),
    ),
    "entity": (
        {"title": "A blue mug &amp; spoon for the house"},
        ("warning", "products with HTML entities such as &amp; (1 in the title)", 1),
    ),
    "control": (
        {"title": "A blue mug\x07 for the house"},
        ("warning", "products with control or invisible characters (1 in the title)", 1),
    ),
    "mojibake": (
        {"title": "A blue cafÃ© mug for the house"},
        ("warning", "products with text in a wrong encoding, such as Ã© for é (1 in the title)", 1),
    ),
    "lost": (
        {"title": "A blue caf\ufffd mug for the house"},
        (
            "warning",
            "products with characters lost to an encoding (�, __, wo?d) (1 in the title)",
            1,
        ),
    ),
    "foreign letter": (
        {"title": "A blu\u0435x mug for the house"},
        (
            "warning",
            "products with a letter of another script inside a Latin word (1 in the title)",
            1,
        ),
    ),
    "placeholder": (
        {"text": "#NAME?"},
        (
            "warning",
            "products with a placeholder such as #NAME? or n/a for text (0 in the title)",
            1,
        ),
    ),
    "address": (
        {"text": "A very good mug for the whole family, see www.example.com"},
        ("note", "products with web addresses (0 in the title)", 1),
    ),
    "cut": (
        {"text": "A very good mug for the whole family, made of the best [...]"},
        ("note", "products with text that breaks off (...) (0 in the title)", 1),
    ),
}


@pytest.mark.parametrize("case", PLANTED_PRODUCTS)
def test_what_is_planted_in_a_product_is_found(case):
    fields, expected = PLANTED_PRODUCTS[case]
    assert expected in findings(with_product(**fields))


@pytest.mark.parametrize("case", PLANTED_PRODUCTS)
def test_every_finding_has_examples_and_advice(case):
    fields, expected = PLANTED_PRODUCTS[case]
    (finding,) = [f for f in health(with_product(**fields)).findings if f.what == expected[1]]
    assert len(finding.examples) == 1
    assert finding.examples[0].isprintable()
    assert len(finding.advice) > 10


def test_two_examples_are_given_where_there_are_two():
    products = clean_products()
    for place in (3, 5, 7):
        products[place] = dataclasses.replace(products[place], title=f"{place}{place}")
    (finding,) = [f for f in health(products).findings if "without a letter" in f.what]
    assert finding.examples == ("p03: '33'", "p05: '55'")
    assert (finding.count, finding.of, finding.share) == (3, 80, 3 / 80)


def test_depths_follow_the_configuration():
    products = with_product(categories=("Top A",))
    deep = with_product(categories=("Top A", "Middle C", "Leaf G", "Twig"))
    assert not any("deep" in w for _, w, _ in findings(products, minimum_depth=1))
    assert not any("deep" in w for _, w, _ in findings(deep, maximum_depth=4))
    found = findings(minimum_depth=4, maximum_depth=4)
    assert found == [("warning", "products less than 4 categories deep", 80)]


def test_one_category_that_holds_most():
    def moved(count):
        products = clean_products()
        rest = [p for p in products if p.categories[0] == "Top B"]
        kept = [p for p in products if p.categories[0] == "Top A"] + rest[: 40 - count]
        trained = {p.id for p in kept}
        queries = [q for q in clean_splits()["train"].queries if q.id[5:] in trained]
        qrels = {q.id: {q.id[5:]: 3} for q in queries}
        return [w for _, w, _ in findings(kept, {"train": Split(queries, qrels)})]

    assert "products in one category of level 1" not in moved(0)
    assert "products in one category of level 1" in moved(1)


def test_texts_cut_to_one_length():
    def cut(count):
        return [
            dataclasses.replace(p, text=p.text[:90] if n < count else p.text[: 40 + n % 30])
            for n, p in enumerate(clean_products())
        ]

    what = "texts of exactly 90 characters, the length of the longest"
    assert ("note", what, 20) in findings(cut(20))
    assert not any("the length of the longest" in found for _, found, _ in findings(cut(19)))


def test_a_field_that_most_products_lack():
    def without(count):
        return [
            dataclasses.replace(p, extra={} if n < count else p.extra)
            for n, p in enumerate(clean_products())
        ]

    assert findings(without(41)) == [("note", "products without 'brand'", 41)]
    assert findings(without(40)) == []


def test_products_of_no_training_pair():
    splits = clean_splits()
    splits["train"].qrels["trainp00"] = {"p01": 3}
    del splits["dev"], splits["test"]
    assert findings(splits=splits) == [("note", "products in no training pair", 1)]


def test_records_that_cannot_be_read():
    found = inspect_data(
        clean_products(), clean_splits(), PreprocessingConfig(), lambda: ["c:3: bad", "c:9: worse"]
    ).findings
    (finding,) = found
    assert (finding.severity, finding.count, finding.of) == ("error", 2, 82)
    assert finding.examples == ("c:3: bad", "c:9: worse")


def planted_queries():
    """Yields (case, splits, expected finding)."""
    clean = clean_splits()
    train = clean["train"].queries
    again = [Query("again", train[0].text.upper() + "!")]
    yield (
        "repeated",
        changed(clean, "train", again, {"again": {"p03": 3}}),
        ("warning", "train queries with the text of another", 2),
    )
    yield (
        "empty",
        changed(clean, "train", [Query("e", "?!")], {"e": {"p00": 3}}),
        ("warning", "train queries without letters, digits or symbols", 1),
    )
    yield (
        "title",
        changed(clean, "test", [Query("t", "a blue mug for the house")], {"t": {"p00": 3}}),
        ("note", "test queries that are a product's title", 1),
    )
    yield (
        "entity",
        changed(clean, "test", [Query("t", "mug &#34;x")], {"t": {"p00": 3}}),
        ("warning", "test queries with HTML entities such as &amp;", 1),
    )
    yield (
        "not judged",
        changed(clean, "train", [Query("n", "never judged")]),
        ("warning", "train queries without a relevant document", 1),
    )
    yield (
        "none relevant",
        changed(clean, "test", [Query("n", "not relevant")], {"n": {"p00": 1, "p01": 0}}),
        ("warning", "test queries without a relevant document", 1),
    )
    yield (
        "unknown document",
        changed(clean, "dev", (), {"devp00": {"p00": 3, "nobody": 2}}),
        ("error", "dev judgements on documents that the catalogue lacks", 1),
    )
    yield (
        "unknown query",
        changed(clean, "test", (), {"nobody": {"p00": 3, "p01": 0}}),
        ("error", "test judgements of queries that the split lacks", 2),
    )
    yield (
        "heavy head",
        changed(
            clean,
            "train",
            [Query(f"h{n}", f"head query {n}") for n in range(8)],
            {f"h{n}": {"p00": 3} for n in range(8)},
        ),
        ("note", "train pairs on the 1% of the products with most pairs", 9),
    )
    leaked = [Query("leak", f" {train[0].text.replace(' ', '-')} ")]
    yield (
        "leaked text",
        changed(clean, "test", leaked, {"leak": {"p01": 3}}),
        ("warning", "test queries whose text is in train too", 1),
    )
    yield (
        "leaked pair",
        changed(clean, "test", leaked, {"leak": {"p00": 2, "p01": 3}}),
        ("error", "test pairs whose query and product are a pair of train too", 1),
    )
    yield (
        "id in two splits",
        changed(clean, "test", [Query("devp00", "another text")], {"devp00": {"p00": 3}}),
        ("warning", "test queries whose id is in dev too", 1),
    )
    unseen = clean_splits()
    unseen["train"].qrels["trainp00"] = {"p01": 3}
    yield (
        "unseen",
        unseen,
        ("warning", "test pairs on products in no training pair", 1),
    )


PLANTED_QUERIES = {case: (splits, expected) for case, splits, expected in planted_queries()}


@pytest.mark.parametrize("case", PLANTED_QUERIES)
def test_what_is_planted_in_a_split_is_found_and_nothing_else(case):
    splits, expected = PLANTED_QUERIES[case]
    found = findings(splits=splits)
    assert expected in found
    consequences = {
        "leaked pair": {"test queries whose text is in train too"},
        "unseen": {"products in no training pair", "dev pairs on products in no training pair"},
    }
    assert {what for _, what, _ in found} - {expected[1]} == consequences.get(case, set())


def test_findings_are_sorted_by_severity_then_share():
    products = with_product(title="12-34", text=" ")
    for place in (1, 2, 3):  # a note and a warning on more products than the others
        fields = {"text": "", "categories": ("Top A",)}
        products[place] = dataclasses.replace(products[place], **fields)
    splits = PLANTED_QUERIES["unknown document"][0]
    found = health(products, splits).findings
    order = [("error", "warning", "note").index(f.severity) for f in found]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}
    for severity in range(3):
        shares = [f.share for f, place in zip(found, order, strict=True) if place == severity]
        assert shares == sorted(shares, reverse=True)
        assert severity == 0 or len(set(shares)) > 1


def test_one_product_is_no_heavy_head_of_a_few():
    # 4 of 19 pairs of dev, which has 16 products.
    more = {f"h{n}": {"p00": 3} for n in range(3)}
    splits = changed(clean_splits(), "dev", [Query(q, f"head query {q}") for q in more], more)
    assert health(splits=splits).figures["splits"]["dev"]["head"]["share"] == 4 / 19
    assert findings(splits=splits) == []


def test_figures_are_json_and_hold_every_part():
    figures = json.loads(json.dumps(health().figures, allow_nan=False))
    assert figures["rejected"] == {"count": 0, "examples": []}
    assert figures["catalog"]["products"] == 80
    assert figures["catalog"]["judged"] == 80
    assert list(figures["splits"]) == ["train", "dev", "test"]
    assert figures["splits"]["test"]["queries"] == figures["splits"]["test"]["pairs"] == 40
    assert figures["between"]["test in train"]["pairs"] == {"count": 0, "examples": []}


def test_memory_of_titles_is_hashes():
    """Catalogues whose titles and texts differ only in length take the same memory."""

    def held(length):
        tracemalloc.start()
        stream = (
            Product(f"p{n}", f"mug {n} " + "word " * length, "text " * length, ("A",))
            for n in range(500)
        )
        scan = scan_catalog(stream, (), (), ())
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert scan.products == 500
        return size

    # The sample of languages keeps at most 500 characters of each; the titles and texts differ by
    # 500 x 9,000 characters.
    held(100)  # fills tables that stay
    assert held(1000) - held(100) < 2e5
