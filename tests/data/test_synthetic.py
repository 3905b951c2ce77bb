"""The synthetic catalogue, checked against its JSON, its own products and BM25."""

import collections
import hashlib
import itertools
import json
import pathlib
import subprocess
import sys
import tracemalloc

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import catid2_jax.data.synthetic as module
from catid2_jax.data.synthetic import (
    QUERY_KINDS,
    SPLITS,
    SyntheticConfig,
    generate_products,
    generate_queries,
    product,
)
from catid2_jax.data.synthetic_wording import Draws
from catid2_jax.errors import InputError

TAXONOMY = json.loads(
    pathlib.Path(module.__file__).with_name("synthetic_taxonomy.json").read_text(encoding="utf-8")
)
SMALL = SyntheticConfig(products=1_500, train_queries=3_000, dev_queries=100, test_queries=400)


def leaf_nodes(tree=None, path=()):
    for name, node in (TAXONOMY["categories"] if tree is None else tree).items():
        if "nouns" in node:
            yield (*path, name), node
        else:
            yield from leaf_nodes(node, (*path, name))


def parse_facts(text):
    """Reads back the `field: value` list that opens a product's text."""
    listed = text.split(". ")[0].removesuffix(".")
    facts = dict(entry.split(": ") for entry in listed.split("; "))
    return {field.lower(): value for field, value in facts.items()}


def words(text):
    return " " + " ".join(text.lower().replace(",", " ").replace(".", " ").split()) + " "


@pytest.fixture(scope="module")
def products():
    return list(generate_products(SMALL, seed=7))


@pytest.fixture(scope="module")
def queries():
    return {split: list(generate_queries(SMALL, 7, split)) for split in SPLITS}


def test_taxonomy_is_as_large_and_uneven_as_promised():
    leaves = list(leaf_nodes())
    depths = collections.Counter(len(path) for path, _ in leaves)
    assert len(leaves) >= 160
    assert len({path[0] for path, _ in leaves}) >= 6
    assert set(depths) == {2, 3, 4, 5}
    assert depths[2] < len(leaves) / 4
    names = collections.Counter(path[-1] for path, _ in leaves)
    assert min(names[name] for name in ("Accessories", "Cases", "Gifts")) > 1
    assert set(TAXONOMY["departments"]) == set(TAXONOMY["categories"])


def test_taxonomy_gives_a_phrase_one_meaning():
    owners = collections.defaultdict(set)
    for path, node in leaf_nodes():
        for phrase in itertools.chain(node["nouns"], node["synonyms"], node["uses"]):
            owners[phrase].add(path)
        fields = [TAXONOMY["attributes"][name]["field"] for name in node["attributes"]]
        assert len(set(fields)) == len(fields), path
    assert [phrase for phrase, paths in owners.items() if len(paths) > 1] == []
    for name, attribute in TAXONOMY["attributes"].items():
        synonyms = itertools.chain.from_iterable(attribute["values"].values())
        meanings = [*map(str.lower, attribute["values"]), *synonyms]
        assert len(set(meanings)) == len(meanings), name
        assert all(attribute["values"].values()), name


def test_lay_synonyms_of_a_leaf_are_in_none_of_its_products(products):
    synonyms = {path: node["synonyms"] + node["uses"] for path, node in leaf_nodes()}
    for item in products:
        text = words(f"{item.title} {item.text}")
        assert [s for s in synonyms[item.categories] if words(s) in text] == [], item


def test_products_follow_their_leaf(products):
    nodes = dict(leaf_nodes())
    for item in products:
        node, facts = nodes[item.categories], parse_facts(item.text)
        assert any(words(noun) in words(item.title) for noun in node["nouns"]), item
        assert facts["brand"] == item.extra["brand"]
        assert facts["brand"] in TAXONOMY["departments"][item.categories[0]]["brands"]
        for name in node["attributes"]:
            attribute = TAXONOMY["attributes"][name]
            assert facts[attribute["field"]] in attribute["values"], item


def test_ids_are_in_order_and_titles_mostly_distinct(products):
    assert [item.id for item in products] == [f"p{index:07d}" for index in range(1_500)]
    assert len({item.title for item in products}) > 0.98 * len(products)


def test_leaf_sizes_are_those_of_zipf_and_mandelbrot(products):
    sizes = collections.Counter(item.categories for item in products)
    found = sorted(sizes.values(), reverse=True)
    weights = 1 / (np.arange(len(list(leaf_nodes()))) + 5)
    expected = len(products) * weights / weights.sum()
    np.testing.assert_allclose(found, expected[: len(found)], atol=1.5)


def test_draws_are_splitmix64():
    draws = Draws()  # the reference outputs of Vigna's splitmix64.c for the state 0
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [draws.bits() for _ in expected] == expected


@settings(deadline=None, max_examples=15)
@given(count=st.integers(1, 200), seed=st.integers(-(2**70), 2**70))
def test_random_access_equals_streaming(count, seed):
    config = SyntheticConfig(products=count)
    streamed = list(generate_products(config, seed))
    module._catalogue.cache_clear()
    assert [product(config, seed, index) for index in reversed(range(count))] == streamed[::-1]
    assert len({item.id for item in streamed}) == count


def test_another_seed_gives_another_catalogue(products, queries):
    assert list(generate_products(SMALL, 7)) == products
    others = list(generate_products(SMALL, 8))
    assert sum(a.title == b.title for a, b in zip(products, others, strict=True)) < 15
    texts = {query.text for query, _ in queries["dev"]}
    assert len(texts & {query.text for query, _ in generate_queries(SMALL, 8, "dev")}) < 20


def test_another_process_gives_the_same_bytes(queries):
    program = (
        "import hashlib; from catid2_jax.data.synthetic import *;"
        "c = SyntheticConfig(products=1_500, dev_queries=100);"
        "q = list(generate_queries(c, 7, 'dev'));"
        "print(hashlib.sha256(repr((q, product(c, 7, 3))).encode()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(module.__file__).parents[2],
        env={"PYTHONHASHSEED": "12345"},
    )
    here = repr((queries["dev"], product(SMALL, 7, 3)))
    assert run.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


def test_memory_does_not_grow_with_the_catalogue():
    peaks = []
    for count in (1_000, 1_000, 10_000):  # the first fills the caches
        tracemalloc.start()
        collections.deque(generate_products(SyntheticConfig(products=count), 1), maxlen=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        module._catalogue.cache_clear()
    assert peaks[2] < 1.2 * peaks[1]


def test_ten_million_products_are_within_reach():
    config = SyntheticConfig(products=10_000_000)
    assert product(config, 0, 9_999_999).id == "p9999999"
    ids = [item.id for item in itertools.islice(generate_products(config, 0), 5)]
    assert ids == [f"p{index:07d}" for index in range(5)]


def test_judgements_match_a_brute_force_over_the_catalogue(products, queries):
    facts = {item.id: parse_facts(item.text) for item in products}
    paths = {item.id: item.categories for item in products}
    exhaustive = 0
    for query, grades in queries["train"][:400] + queries["test"]:
        category, constraints = tuple(query.extra["category"]), query.extra["constraints"]
        by_missing = collections.defaultdict(set)
        for name, path in paths.items():
            if path[: len(category)] == category:
                missing = sum(facts[name][field] != value for field, value in constraints.items())
                by_missing[missing].add(name)
        judged = {grade: {d for d, g in grades.items() if g == grade} for grade in range(4)}
        assert query.extra["target"] in judged[3]
        for grade, missing, most in ((3, 0, 10), (2, 1, 8)):
            assert judged[grade] <= by_missing[missing], query
            assert len(judged[grade]) == min(most, len(by_missing[missing])), query
            exhaustive += len(by_missing[missing]) <= most
        assert all(paths[name][0] == category[0] for name in judged[1])
        assert all(paths[name][: len(category)] != category for name in judged[1])
        assert all(paths[name][0] != category[0] for name in judged[0])
        assert len(grades) <= 40
    assert exhaustive > 400


def test_splits_share_no_text_and_repeat_none(queries):
    texts = {split: [query.text for query, _ in pairs] for split, pairs in queries.items()}
    for first, second in itertools.combinations(SPLITS, 2):
        assert not set(texts[first]) & set(texts[second])
    for split, found in texts.items():
        assert len(set(found)) == len(found) == getattr(SMALL, f"{split}_queries")
        ids = [query.id for query, _ in queries[split]]
        assert ids == [f"{split}{number:07d}" for number in range(len(found))]


def test_split_of_a_text_is_its_hash(queries):
    for split, hundredths in (("train", (0, 80)), ("dev", (80, 87)), ("test", (87, 100))):
        for query, _ in queries[split][:100]:
            digest = hashlib.blake2b(query.text.encode(), digest_size=8).hexdigest()
            assert hundredths[0] <= int(digest, 16) % 100 < hundredths[1]


def test_kinds_have_their_shares(queries):
    kinds = collections.Counter(query.extra["kind"] for query, _ in queries["train"])
    assert set(kinds) == set(QUERY_KINDS)
    for kind, percent in (
        ("plain", 25),
        ("synonym", 30),
        ("misspelled", 15),
        ("ambiguous", 12),
        ("long_tail", 18),
    ):
        share = percent / 100
        spread = np.sqrt(share * (1 - share) / SMALL.train_queries)
        assert abs(kinds[kind] / SMALL.train_queries - share) < 5 * spread


def test_texts_are_of_their_kind(products, queries):
    nodes = dict(leaf_nodes())
    known = set("".join(words(f"{p.title} {p.text}") for p in products).split())
    known |= set("".join(q.text + " " for q, _ in queries["train"][:50]).split())
    misspelled = []
    for query, _ in queries["train"]:
        kind, node = query.extra["kind"], nodes.get(tuple(query.extra["category"]))
        assert query.text == query.text.lower()
        if kind == "plain":
            assert any(words(noun) in words(query.text) for noun in node["nouns"]), query
        if kind == "synonym":
            assert any(words(noun) in words(query.text) for noun in node["synonyms"]), query
        if kind == "misspelled":
            misspelled.append(not set(query.text.split()) <= known)
        assert bool(query.extra["constraints"]) == (kind != "ambiguous")
    assert np.mean(misspelled) > 0.95


def recall_at_10(documents, ids, pairs):
    """Mean recall by kind of the E and S documents under BM25."""
    tokens = bm25s.tokenize(documents, stopwords="en", show_progress=False)
    index = bm25s.BM25()
    index.index(tokens, show_progress=False)
    texts = [query.text for query, _ in pairs]
    asked = bm25s.tokenize(texts, stopwords="en", show_progress=False)
    found, _ = index.retrieve(asked, k=10, show_progress=False)
    recalls = collections.defaultdict(list)
    for (query, grades), row in zip(pairs, found, strict=True):
        relevant = {name for name, grade in grades.items() if grade >= 2}
        recall = len(relevant & {ids[place] for place in row}) / len(relevant)
        recalls[query.extra["kind"]].append(recall)
        recalls["all"].append(recall)
    return {kind: np.mean(values) for kind, values in recalls.items()}


def test_keyword_search_fails_on_synonyms_and_seen_queries_mend_it(products, queries):
    ids = [item.id for item in products]
    documents = [f"{item.title} {item.text}" for item in products]
    plain = recall_at_10(documents, ids, queries["test"])
    assert plain["plain"] > 2 * plain["synonym"]
    assert plain["misspelled"] < plain["plain"]
    assert 0.2 < plain["all"] < 0.6

    seen = collections.defaultdict(list)
    for query, grades in queries["train"]:
        for name in (name for name, grade in grades.items() if grade == 3):
            seen[name].append(query.text)
    expanded = [" ".join([text, *seen[name]]) for name, text in zip(ids, documents, strict=True)]
    learned = recall_at_10(expanded, ids, queries["test"])
    assert learned["synonym"] > plain["synonym"] + 0.1
    assert learned["ambiguous"] > plain["ambiguous"] + 0.2


@pytest.mark.parametrize("count", [1, 2, 50])
def test_small_catalogues_end_early(count):
    config = SyntheticConfig(products=count, train_queries=150, dev_queries=30, test_queries=30)
    ids = {item.id for item in generate_products(config, 3)}
    for split in SPLITS:
        pairs = list(generate_queries(config, 3, split))
        assert 0 < len(pairs) <= getattr(config, f"{split}_queries")
        assert len({query.text for query, _ in pairs}) == len(pairs)
        assert all(grades.keys() <= ids for _, grades in pairs)


def test_an_exhausted_catalogue_stops(monkeypatch):
    monkeypatch.setattr(module, "_ATTEMPTS", 5)
    config = SyntheticConfig(products=1, train_queries=100_000)
    assert 10 < len(list(generate_queries(config, 0, "train"))) < 50_000


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [("products", 0, 1), ("train_queries", -1, 0), ("dev_queries", -2, 0), ("test_queries", -3, 0)],
)
def test_bad_sizes_are_named(field, value, least):
    message = f"^{field}: found {value}, expected at least {least}$"
    with pytest.raises(InputError, match=message):
        SyntheticConfig(**{field: value})


def test_no_queries_is_a_size():
    assert list(generate_queries(SyntheticConfig(dev_queries=0), 0, "dev")) == []


def test_unknown_split_and_index_are_refused():
    with pytest.raises(InputError, match="split: found 'valid', expected one of train, dev, test"):
        list(generate_queries(SMALL, 0, "valid"))
    for index in (-1, 1_500):
        with pytest.raises(IndexError, match=f"found index {index}, expected 0 to 1499"):
            product(SMALL, 0, index)
