import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.errors import InputError
from catid2_jax.evaluation.recall import recall_at_k, recall_per_query, trec_eval_order

QUERIES = ["q1", "q2", "q3"]
DOCUMENTS = [f"d{n}" for n in range(12)]
qrels_dicts = st.dictionaries(
    st.sampled_from(QUERIES),
    st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(0, 3), min_size=1),
).filter(lambda qrels: any(grade >= 2 for grades in qrels.values() for grade in grades.values()))
runs = st.dictionaries(
    st.sampled_from(QUERIES), st.lists(st.sampled_from(DOCUMENTS), unique=True, max_size=12)
)


def test_worked_by_hand():
    qrels = {
        "q1": {"a": 3, "b": 2, "c": 1, "d": 3},
        "q2": {"a": 2},
        "q3": {"a": 1},  # nothing relevant: not in the mean
        "q4": {"a": 3},  # missing in the run: 0
    }
    run = {"q1": ["c", "a", "x", "b"], "q2": ["a"], "q3": ["a"], "other": ["a"]}
    assert recall_per_query(run, qrels, cutoffs=(1, 2, 4, 100)) == {
        "q1": {"recall@1": 0, "recall@2": 1 / 3, "recall@4": 2 / 3, "recall@100": 2 / 3},
        "q2": {"recall@1": 1, "recall@2": 1, "recall@4": 1, "recall@100": 1},
        "q4": {"recall@1": 0, "recall@2": 0, "recall@4": 0, "recall@100": 0},
    }
    means = recall_at_k(run, qrels, cutoffs=(1, 2, 4))
    assert means == pytest.approx({"recall@1": 1 / 3, "recall@2": 4 / 9, "recall@4": 5 / 9})


def test_the_papers_cutoffs_are_the_default():
    qrels = {"q1": {f"d{n}": 3 for n in range(200)}}
    run = {"q1": list(qrels["q1"])}
    assert recall_at_k(run, qrels) == {
        "recall@5": 5 / 200,
        "recall@10": 10 / 200,
        "recall@20": 20 / 200,
        "recall@50": 50 / 200,
        "recall@100": 100 / 200,
    }


def test_relevant_labels_choose_the_documents():
    qrels = {"q1": {"a": 3, "b": 2}, "q2": {"b": 2}}
    run = {"q1": ["b", "a"], "q2": ["b"]}
    assert recall_at_k(run, qrels, [1]) == {"recall@1": 0.75}
    assert recall_at_k(run, qrels, [1], relevant_labels=("E",)) == {"recall@1": 0.0}
    assert recall_at_k(run, qrels, [1], relevant_labels=("S",)) == {"recall@1": 1.0}


@settings(deadline=None, max_examples=100)
@given(run=runs, qrels=qrels_dicts)
def test_agrees_with_ir_measures(run, qrels):
    cutoffs = (1, 3, 10)
    measures = [ir_measures.R(rel=2) @ k for k in cutoffs]
    scored = [
        ir_measures.ScoredDoc(query, document, -float(rank))
        for query, ranking in run.items()
        for rank, document in enumerate(ranking)
    ]
    judged = [
        ir_measures.Qrel(query, document, grade)
        for query, grades in qrels.items()
        for document, grade in grades.items()
    ]
    # ir_measures also lists queries that have nothing relevant; the mean is not over them.
    with_relevant = {query for query, grades in qrels.items() if max(grades.values()) >= 2}
    theirs = {
        (result.query_id, f"recall@{result.measure['cutoff']}"): result.value
        for result in ir_measures.iter_calc(measures, judged, scored)
        if result.query_id in with_relevant
    }
    per_query = recall_per_query(run, qrels, cutoffs)
    ours = {(query, name): value for query, row in per_query.items() for name, value in row.items()}
    assert ours == pytest.approx(theirs)
    means = recall_at_k(run, qrels, cutoffs)
    assert means == pytest.approx(
        {
            f"recall@{k}": np.mean([theirs[query, f"recall@{k}"] for query in with_relevant])
            for k in cutoffs
        }
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"run": {"q1": ["a", "b", "a"]}}, "query 'q1': found document 'a' twice, expected it onc"),
        ({"qrels": {"q1": {"a": 1}}}, "qrels: found no query with a relevant document, expected"),
        ({"qrels": {}}, "qrels: found no query with a relevant document, expected at least one"),
        ({"cutoffs": (5, 0)}, r"cutoffs: found \(5, 0\), expected integers of at least 1"),
        ({"cutoffs": ()}, r"cutoffs: found \(\), expected integers of at least 1"),
        ({"relevant_labels": ("X",)}, "relevant_labels: found 'X', expected some of E, S, C, I"),
    ],
)
def test_bad_input_is_refused(arguments, expected):
    good = {"run": {"q1": ["a"]}, "qrels": {"q1": {"a": 3}}}
    with pytest.raises(InputError, match=expected):
        recall_at_k(**(good | arguments))


@settings(deadline=None, max_examples=100)
@given(
    run=st.dictionaries(
        st.sampled_from(QUERIES),
        st.dictionaries(
            st.sampled_from([*DOCUMENTS, "é", "z", "\U0001f381", "\uffee"]),
            st.sampled_from([0.5, 0.25, 0.1, 0.1 + 1e-12]),
        ),
    ),
    qrels=qrels_dicts,
)
def test_ties_in_the_order_of_trec_eval(run, qrels):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"recall.1,2,5"}, relevance_level=2)
    # As `read_run` gives them: trec_eval's scores are float32, too.
    hits = {q: [(d, float(np.float32(s))) for d, s in found.items()] for q, found in run.items()}
    ranking = {q: [d for d, _ in trec_eval_order(found)] for q, found in hits.items()}
    ours = recall_per_query(ranking, qrels, (1, 2, 5))
    for query, figures in evaluator.evaluate({q: dict(h) for q, h in hits.items() if h}).items():
        if query in ours:
            theirs = {f"recall@{k}": figures[f"recall_{k}"] for k in (1, 2, 5)}
            assert ours[query] == pytest.approx(theirs)
