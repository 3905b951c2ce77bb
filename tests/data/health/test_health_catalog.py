import collections
import statistics
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.data.health.catalog import catalog_figures, scan_catalog, tree_figures
from catid2_jax.data.health.text import shown
from catid2_jax.types import Product

names = st.sampled_from(["A", "a", "B", "B ", "C", "D d", "d-d", "&"])
trees = st.dictionaries(
    st.lists(names, min_size=1, max_size=4).map(tuple), st.integers(1, 5), min_size=1, max_size=12
)


def form(name):
    """Returns the normal form of the few names above."""
    return name.lower().replace("-", " ").replace("&", "").strip()


@settings(max_examples=200)
@given(trees)
def test_tree_figures_are_those_of_a_brute_force(paths):
    figures = tree_figures(paths)
    documents = [path for path, count in paths.items() for _ in range(count)]
    nodes = {path[:n] for path in paths for n in range(1, len(path) + 1)}
    size = {node: sum(d[: len(node)] == node for d in documents) for node in nodes}
    parent = {node: node[:-1] for node in nodes}
    assert figures["nodes"] == len(nodes)
    assert len(figures["levels"]) == max(map(len, nodes))
    for level, found in enumerate(figures["levels"], 1):
        sizes = [size[node] for node in nodes if len(node) == level]
        assert found["nodes"] == len(sizes)
        assert (found["min"], found["max"]) == (min(sizes), max(sizes))
        assert found["median"] == statistics.median(sizes)
        assert [node["products"] for node in found["largest"]] == sorted(sizes, reverse=True)[:5]
        for node in found["largest"]:
            assert size[tuple(node["path"])] == node["products"]
    siblings = collections.Counter(parent.values())
    assert figures["singletons"].count == sum(size[node] == 1 for node in nodes)
    assert figures["single_children"].count == sum(siblings[parent[n]] == 1 for n in nodes)
    assert figures["echoes"].count == sum(len(n) > 1 and form(n[-1]) == form(n[-2]) for n in nodes)
    inner = set(parent.values())
    assert figures["inner_products"].count == sum(d in inner for d in documents)
    labels = {(len(n), n[-1]) for n in nodes}
    assert figures["recurring_names"].count == sum(
        len({parent[n] for n in nodes if (len(n), n[-1]) == label}) > 1 for label in labels
    )


@settings(max_examples=200)
@given(trees)
def test_variants_are_those_of_a_brute_force(paths):
    figures = tree_figures(paths)
    nodes = {path[:n] for path in paths for n in range(1, len(path) + 1)}
    groups = {(n[:-1], form(n[-1])) for n in nodes}
    split = {
        (above, f)
        for above, f in groups
        if f and len({n[-1] for n in nodes if n[:-1] == above and form(n[-1]) == f}) > 1
    }
    assert figures["variant_siblings"].count == len(split)
    spelt = {f: {n[-1] for n in nodes if form(n[-1]) == f} for _, f in groups if f}
    beside = {f for _, f in split}
    assert figures["variant_names"].count == sum(
        len(s) > 1 and f not in beside for f, s in spelt.items()
    )


def test_examples_name_the_nodes():
    paths = {("Home", "T-Shirts"): 2, ("Home", "T shirts"): 1, ("Art", "Art"): 3}
    figures = tree_figures(paths)
    assert figures["variant_siblings"].examples == ["under 'Home': 'T shirts / T-Shirts'"]
    assert figures["singletons"].examples == ["'Home > T shirts'"]
    assert figures["echoes"].examples == ["'Art > Art'"]
    assert figures["single_children"].examples == ["'Art > Art'"]


@pytest.mark.parametrize(
    "name",
    [
        *("Cups > Mugs", "Cups|Mugs", "Cups » Mugs", "Cups::Mugs", "Cups>>Mugs", "A -> B"),
        *("['Cups", '["Cups', 'Mugs"]', '{"Cups', "Mugs']", "[[Cups", "Audio\\"),
        *("Mugs, Garden", "Mugs;Garden", "Cups, Sale"),
    ],
)
def test_names_that_hold_several_are_found(name):
    paths = {("Home", "Cups"): 2, ("Home", name): 1, ("Garden",): 1, ("Garden", "Tools"): 1}
    found = tree_figures(paths)["unsplit_names"]
    assert (found.count, found.examples) == (1, [shown(f"Home > {name}")])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Food, Beverages & Tobacco",
            "TV/Audio",
            "Sale [new]",
            "(New) Cups",
            "24:7",
            "5 > ",
            "<3",
        ),
        *("Cups, Tools", "Garden tools", "Salt; pepper", "[Sale]"),
    ],
)
def test_names_that_are_one_are_not_found(name):
    paths = {("Home", "Mugs"): 2, ("Home", name): 1, ("Garden",): 1, ("Garden", "Tools"): 1}
    assert tree_figures(paths)["unsplit_names"].count == 0


@pytest.mark.parametrize("separator", ["/", ",", ";", ":", "\\"])
def test_a_separator_in_most_names_is_found(separator):
    flat = {(f"Home{separator}Cups",): 1, (f"Home{separator}Rugs",): 1, ("Gifts",): 3}
    assert tree_figures(flat)["unsplit_names"].count == 2
    half = flat | {("Sale",): 1}
    assert tree_figures(half)["unsplit_names"].count == 0


def test_recurring_names_name_the_parents():
    paths = {("A", "Sets"): 1, ("B", "Sets"): 1, ("C", "Sets"): 1, ("D", "Sets"): 1}
    found = tree_figures(paths)["recurring_names"]
    assert found.examples == ["under 'A', 'B', 'C', ...: 'Sets'"]


texts = st.sampled_from(["", " ", "Blue mug", "blue  MUG!", "Red pen", "<b>pen</b>", "чай", "42"])
values = st.sampled_from([None, "", " ", "x", 0, False, [], {}, [1]])
products = st.lists(
    st.builds(
        lambda title, text, extra: (title, text, extra),
        texts.filter(str.strip),
        texts,
        st.dictionaries(st.sampled_from("abc"), values),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda rows: [
        Product(f"p{i}", title, text, ("A", "B", "C")[: 1 + i % 3], extra)
        for i, (title, text, extra) in enumerate(rows)
    ]
)


def title_form(text):
    return {"Blue mug": "blue mug", "blue  MUG!": "blue mug", "<b>pen</b>": "<b>pen< b>"}.get(
        text, text.lower()
    )


@settings(max_examples=200, deadline=None)  # the languages' model is read the first time
@given(products)
def test_product_figures_are_those_of_a_brute_force(catalog):
    judged, trained = {"p0", "p5", "nobody"}, {"p0", "p1"}
    scan = scan_catalog(iter(catalog), judged, trained, {"blue mug", "nothing"})
    figures = catalog_figures(scan)
    count = len(catalog)
    assert figures["products"] == count
    assert scan.judged == {p.id for p in catalog} & judged
    assert scan.titled == {title_form(p.title) for p in catalog} & {"blue mug"}
    assert figures["untrained"].count == sum(p.id not in trained for p in catalog)
    depths = collections.Counter(str(len(p.categories)) for p in catalog)
    assert {d: cases.count for d, cases in figures["depths"].items()} == depths
    titles = collections.Counter(title_form(p.title) for p in catalog)
    assert figures["titles"]["repeated"]["count"] == sum(n for n in titles.values() if n > 1)
    both = collections.Counter((title_form(p.title), p.text.strip()) for p in catalog)
    repeated = figures["texts"]["repeated_with_title"]
    assert repeated["count"] == sum(n for n in both.values() if n > 1)
    assert figures["titles"]["without_letters"].count == sum(p.title == "42" for p in catalog)
    assert figures["texts"]["title_again"].count == sum(
        bool(p.text.strip()) and title_form(p.text) == title_form(p.title) for p in catalog
    )
    filled = [p.text for p in catalog if p.text.strip()]
    assert figures["missing_fields"]["text"].count == count - len(filled)
    if filled:
        assert figures["texts"]["lengths"]["characters"]["max"] == max(map(len, filled))
    assert figures["titles"]["lengths"]["words"]["min"] == min(
        len(p.title.split()) for p in catalog
    )
    keys = {key for p in catalog for key in p.extra}
    for key in keys:
        # 0 and False are something.
        ids = [p.id for p in catalog if p.extra.get(key) in (None, "", " ", [], {})]
        found = figures["missing_fields"][key]
        assert (found.count, found.examples) == (len(ids), [repr(i) for i in ids[:2]])
    marked = [p for p in catalog if "<" in p.title + p.text]
    assert figures["oddities"]["markup"].count == len(marked)
    assert figures["odd_titles"]["markup"] == sum("<" in p.title for p in catalog)


def test_scripts_by_hand():
    titles = ["Blue mug", "Red pen", "чай", "42"]
    catalog = [Product(t[:1], t, "", ("A",)) for t in titles]
    figures = catalog_figures(scan_catalog(catalog, (), (), ()))
    assert figures["scripts"] == {"Latin": 2, "Cyrillic": 1, "none": 1}
    assert figures["other_scripts"] == {
        "count": 2,
        "examples": ["Cyrillic, ч: 'чай'", "none, 4: '42'"],
    }


def test_an_oddity_of_the_text_is_shown_where_it_is():
    catalog = [Product("p1", "Mug", "x" * 300 + " <br> " + "y" * 300, ("A",))]
    found = catalog_figures(scan_catalog(catalog, (), (), ()))["oddities"]["markup"]
    assert found.count == 1
    assert "<br>" in found.examples[0]
    assert found.examples[0].startswith("p1: ")


def test_the_catalogue_is_read_once_and_not_kept():
    """At most two products are alive at a time."""
    alive = weakref.WeakSet()

    class Watched:
        def __init__(self, number):
            self.id, self.title, self.text = f"p{number}", f"mug {number}", "good"
            self.categories, self.extra = ("A",), {}
            alive.add(self)

    most = 0

    def stream():
        nonlocal most
        for number in range(2000):
            product = Watched(number)
            most = max(most, len(alive))
            yield product

    assert scan_catalog(stream(), (), (), ()).products == 2000
    assert most <= 2


@pytest.mark.parametrize("place", [0, 1, 1500])
def test_examples_of_a_missing_field_come_from_the_first_products(place):
    catalog = [
        Product(f"p{n}", "Mug", "", ("A",), {} if n == place else {"brand": "x"})
        for n in range(1600)
    ]
    found = catalog_figures(scan_catalog(catalog, (), (), ()))["missing_fields"]["brand"]
    assert found.count == 1
    assert found.examples == ([f"'p{place}'"] if place < 1000 else [])
