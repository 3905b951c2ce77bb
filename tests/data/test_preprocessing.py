import collections
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.data.preprocessing import (
    PreprocessingConfig,
    PreprocessingCounts,
    count_judgements,
    judged_documents,
    keep_documents,
    keep_grades,
    preprocess_heldout,
    preprocess_products,
    preprocess_training,
)
from catid2_jax.errors import InputError
from catid2_jax.types import GRADES, Product

DOCUMENTS = ["a", "b", "c", "d", "e"]
qrels = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3", "q4"]),
    st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(0, 3), min_size=1),
)
labels = st.lists(st.sampled_from("ESCI"), min_size=1, unique=True).map(tuple)


def removed(**counts):
    return dataclasses.asdict(PreprocessingCounts(**counts))


def rows(judgements):
    """Judgements as a flat list, so that the oracle below needs no dictionaries of them."""
    return [(q, d, grade) for q, grades in judgements.items() for d, grade in grades.items()]


def test_products_are_dropped_and_cut_as_in_the_paper():
    products = [
        Product(str(depth), "t", "x", tuple("ABCDEFG"[:depth]), {"n": depth})
        for depth in (3, 2, 7, 4, 1)
    ]
    counts = PreprocessingCounts()
    kept = list(preprocess_products(products, PreprocessingConfig(), counts))
    assert kept == [
        Product("3", "t", "x", ("A", "B", "C"), {"n": 3}),
        Product("7", "t", "x", ("A", "B", "C"), {"n": 7}),
        Product("4", "t", "x", ("A", "B", "C"), {"n": 4}),
    ]
    assert dataclasses.asdict(counts) == removed(products_too_shallow=2, products_truncated=2)


def test_depths_between_minimum_and_maximum_stay():
    products = [Product(str(n), "t", "", tuple("ABCD"[:n])) for n in (1, 2, 3, 4)]
    config = PreprocessingConfig(minimum_depth=2, maximum_depth=3)
    kept = list(preprocess_products(products, config, PreprocessingCounts()))
    assert [(product.id, len(product.categories)) for product in kept] == [
        ("2", 2),
        ("3", 3),
        ("4", 3),
    ]


def test_products_are_streamed():
    counts = PreprocessingCounts()
    endless = (Product(str(n), "t", "", tuple("ABC"[: n % 2 * 3])) for n in range(10**12))
    stream = preprocess_products(endless, PreprocessingConfig(), counts)
    assert [next(stream).id, next(stream).id] == ["1", "3"]
    assert counts.products_too_shallow == 2


def test_judgements_worked_by_hand():
    ids = ["a", "b", "c", "d"]  # "x" has been dropped
    train = {
        "t1": {"a": 3, "b": 2, "c": 1, "x": 3},
        "t2": {"c": 0},
        "t3": {"x": 2},
    }
    test = {
        "s1": {"a": 3, "b": 0, "d": 3},  # d is in no training pair
        "s2": {"c": 3},  # neither is c: its training label is complement
        "s3": {"a": 1, "x": 3},
    }
    config = PreprocessingConfig()
    counts = PreprocessingCounts()
    training = preprocess_training(train, ids, config, counts)
    assert training == {"t1": {"a": 3, "b": 2}}
    assert preprocess_heldout(test, training, ids, config, counts) == {"s1": {"a": 3, "b": 0}}
    assert dataclasses.asdict(counts) == removed(
        training_on_dropped_products=2,
        training_not_relevant=2,
        training_queries_left_empty=2,
        heldout_on_dropped_products=1,
        heldout_not_seen_in_training=2,
        heldout_queries_without_relevant=2,
    )

    unseen_too = PreprocessingConfig(test_seen_in_training=False)
    counts = PreprocessingCounts()
    assert preprocess_heldout(test, training, ids, unseen_too, counts) == {
        "s1": {"a": 3, "b": 0, "d": 3},
        "s2": {"c": 3},
    }
    assert dataclasses.asdict(counts) == removed(
        heldout_on_dropped_products=1, heldout_queries_without_relevant=1
    )


@settings(deadline=None, max_examples=150)
@given(
    train=qrels,
    heldout=qrels,
    ids=st.sets(st.sampled_from(DOCUMENTS)),
    training_labels=labels,
    relevant_labels=labels,
    seen_only=st.booleans(),
)
def test_judgements_against_the_rules_row_by_row(
    train, heldout, ids, training_labels, relevant_labels, seen_only
):
    trains = [GRADES[label] for label in training_labels]
    relevant = [GRADES[label] for label in relevant_labels]
    pairs = [row for row in rows(train) if row[1] in ids and row[2] in trains]
    trained = {document for _, document, _ in pairs}
    allowed = [
        row for row in rows(heldout) if row[1] in ids and (row[1] in trained or not seen_only)
    ]
    answerable = {query for query, _, grade in allowed if grade in relevant}
    expected = [row for row in allowed if row[0] in answerable]

    config = PreprocessingConfig(
        training_labels=training_labels,
        relevant_labels=relevant_labels,
        test_seen_in_training=seen_only,
    )
    counts = PreprocessingCounts()
    training = preprocess_training(train, list(ids), config, counts)
    test = preprocess_heldout(heldout, training, list(ids), config, counts)
    assert rows(training) == pairs
    assert rows(test) == expected
    assert all(training.values())
    assert counts.training_queries_left_empty == len(train) - len({row[0] for row in pairs})
    assert counts.heldout_queries_without_relevant == len(heldout) - len(answerable)
    assert counts.heldout_not_seen_in_training == sum(
        document in ids and document not in trained and seen_only
        for _, document, _ in rows(heldout)
    )
    outside = collections.Counter(document not in ids for _, document, _ in rows(train))
    assert counts.training_on_dropped_products == outside[True]
    assert counts.training_not_relevant == outside[False] - len(pairs)


def test_counts_add_up_over_splits():
    counts = PreprocessingCounts()
    config = PreprocessingConfig()
    for _ in range(2):
        list(preprocess_products([Product("1", "t", "", ("A",))], config, counts))
        list(preprocess_products([Product("4", "t", "", tuple("ABCD"))], config, counts))
        training = preprocess_training(
            {"t1": {"a": 3, "b": 1}, "t2": {"x": 3}}, "ab", config, counts
        )
        heldout = {"s1": {"a": 3, "b": 2, "x": 3}, "s2": {"b": 3}}
        preprocess_heldout(heldout, training, "ab", config, counts)
    assert dataclasses.asdict(counts) == removed(
        products_too_shallow=2,
        products_truncated=2,
        training_on_dropped_products=2,
        training_not_relevant=2,
        training_queries_left_empty=2,
        heldout_on_dropped_products=2,
        heldout_not_seen_in_training=4,
        heldout_queries_without_relevant=2,
    )


def test_the_steps_leave_their_input_alone():
    judgements = {"q1": {"a": 3, "b": 0}, "q2": {"b": 1}}
    assert keep_documents(judgements, ["a"]) == {"q1": {"a": 3}}
    assert keep_grades(judgements, {0, 1}) == {"q1": {"b": 0}, "q2": {"b": 1}}
    assert judged_documents(judgements) == {"a", "b"}
    assert count_judgements(judgements) == 3
    assert judgements == {"q1": {"a": 3, "b": 0}, "q2": {"b": 1}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"minimum_depth": 0}, "minimum_depth: found 0, expected at least 1"),
        ({"minimum_depth": 4}, "minimum_depth: found 4, .* at most maximum_depth, which is 3"),
        ({"maximum_depth": 2}, "minimum_depth: found 3, .* at most maximum_depth, which is 2"),
        ({"relevant_labels": ("E", "X")}, "relevant_labels: found 'X', expected some of E, S, C, "),
        ({"relevant_labels": ()}, "relevant_labels: found no label"),
        ({"training_labels": ("X",)}, "training_labels: found 'X'"),
    ],
)
def test_bad_settings_are_refused(fields, expected):
    with pytest.raises(InputError, match=expected):
        PreprocessingConfig(**fields)
