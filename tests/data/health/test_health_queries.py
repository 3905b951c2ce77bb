import collections
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.data.health.catalog import scan_catalog
from catid2_jax.data.health.queries import (
    Split,
    between_splits,
    label_figures,
    query_figures,
    relevant_pairs,
    unseen_in_training,
)
from catid2_jax.data.preprocessing import PreprocessingConfig
from catid2_jax.types import Product, Query

CATALOG = [Product(f"d{n}", f"Thing {n}", "", ("A", "B", "C")) for n in range(6)]
SCAN = scan_catalog(CATALOG, {f"d{n}" for n in range(9)}, (), {"thing 1", "mug"})
CONFIG = PreprocessingConfig(training_labels=("E", "S"), relevant_labels=("E",))

texts = st.sampled_from(["mug", "MUG ", "red-pen", "red pen", "Thing 1", "?", "<b>", "чай"])
ids = [f"q{n}" for n in range(5)]
splits = st.builds(
    Split,
    st.dictionaries(st.sampled_from(ids), texts).map(
        lambda known: [Query(i, text) for i, text in known.items()]
    ),
    st.dictionaries(
        st.sampled_from(ids),
        st.dictionaries(
            st.sampled_from([f"d{n}" for n in range(9)]), st.integers(0, 3), min_size=1
        ),
    ),
)


def form(text):
    return text.lower().replace("-", " ").replace("?", "").strip()


@settings(max_examples=150)
@given(splits)
def test_query_figures_are_those_of_a_brute_force(split):
    figures = query_figures(split, SCAN)
    written = [query.text for query in split.queries]
    assert figures["queries"] == len(written)
    counts = collections.Counter(form(t) for t in written if form(t))
    assert figures["repeated"]["count"] == sum(n for n in counts.values() if n > 1)
    assert figures["empty"].count == written.count("?")
    # "mug" was given to the scan, but is the title of no product.
    assert figures["titles"].count == written.count("Thing 1")
    assert figures["oddities"]["markup"].count == written.count("<b>")
    assert figures["scripts"].get("Cyrillic", 0) == written.count("чай")
    if written:
        assert figures["lengths"]["characters"]["max"] == max(len(t.strip()) for t in written)


@settings(max_examples=150)
@given(splits)
def test_label_figures_are_those_of_a_brute_force(split):
    triples = [(q, d, g) for q, judged in split.qrels.items() for d, g in judged.items()]
    known = {query.id for query in split.queries}
    catalogue = {p.id for p in CATALOG}
    for name, relevant in (("train", {3, 2}), ("test", {3})):
        pairs = relevant_pairs(name, split.qrels, CONFIG)
        figures = label_figures(split, pairs, SCAN)
        good = [(q, d) for q, d, g in triples if g in relevant]
        assert figures["judged_queries"] == len({q for q, _, _ in triples})
        assert (figures["judgements"], figures["pairs"]) == (len(triples), len(good))
        for label, grade in {"E": 3, "S": 2, "C": 1, "I": 0}.items():
            assert figures["grades"][label] == sum(g == grade for _, _, g in triples)
        per_query = collections.Counter(q for q, _ in good)
        if good:
            assert figures["relevant_per_query"]["max"] == max(per_query.values())
            assert figures["relevant_per_query"]["mean"] == round(len(good) / len(per_query), 2)
        else:
            assert figures["relevant_per_query"] == {}
        assert figures["without_relevant"].count == len(known - set(per_query))
        assert figures["judged_documents"] == len({d for _, d, _ in triples} & catalogue)
        assert figures["relevant_documents"] == len({d for _, d in good} & catalogue)
        assert figures["unknown_documents"].count == sum(d not in catalogue for _, d, _ in triples)
        assert figures["unknown_queries"].count == sum(q not in known for q, _, _ in triples)


def test_the_head_by_hand():
    # 150 documents: two have 10 pairs, the others one; 1 % of 150, rounded up, is two.
    qrels = {f"q{n}": {f"x{n}": 3} for n in range(148)}
    for n in range(10):
        qrels[f"q{n}"] |= {"top": 3, "next": 3}
    figures = label_figures(Split([], qrels), qrels, SCAN)
    assert math.ceil(0.01 * 150) == 2
    assert figures["head"]["count"] == 20
    assert figures["head"]["share"] == 20 / 168
    assert figures["head"]["examples"] == ["'top' 10 times", "'next' 10 times"]


@settings(max_examples=150)
@given(splits, splits, splits)
def test_common_to_splits_is_what_a_brute_force_finds(train, dev, test):
    named = {"train": train, "dev": dev, "test": test}
    pairs = {name: relevant_pairs(name, s.qrels, CONFIG) for name, s in named.items()}
    found = between_splits(named, pairs)
    assert list(found) == ["dev in train", "test in train", "test in dev"]
    for name, common in found.items():
        later, earlier = (named[part] for part in name.split(" in "))
        good = {later_name: pairs[later_name] for later_name in name.split(" in ")}
        before = {q.id: form(q.text) for q in earlier.queries}
        assert common["ids"].count == sum(q.id in before for q in later.queries)
        same = [q for q in later.queries if form(q.text) and form(q.text) in before.values()]
        assert common["queries"].count == len(same)
        learnt = {
            (before[q], d)
            for q, judged in good[name.split(" in ")[1]].items()
            if q in before
            for d in judged
        }
        assert common["pairs"].count == sum(
            (form(q.text), d) in learnt
            for q in same
            for d in good[name.split(" in ")[0]].get(q.id, {})
        )


@settings(max_examples=100)
@given(splits, splits)
def test_pairs_unseen_in_training(train, test):
    named = {"train": train, "test": test}
    pairs = {name: relevant_pairs(name, s.qrels, CONFIG) for name, s in named.items()}
    known = {p.id for p in CATALOG}
    trained = {d for judged in train.qrels.values() for d, g in judged.items() if g >= 2}
    expected = sum(
        g == 3 and d in known and d not in trained
        for judged in test.qrels.values()
        for d, g in judged.items()
    )
    found = unseen_in_training(named, pairs, known)
    assert {name: cases.count for name, cases in found.items()} == {"test": expected}
