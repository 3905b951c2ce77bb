"""Computes figures of queries and judgements before preprocessing, per split and between splits."""

import collections
import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from catid2_jax.data.health.catalog import CatalogScan
from catid2_jax.data.health.text import (
    EXAMPLES,
    ODDITIES,
    Cases,
    Lengths,
    Repeats,
    add_oddities,
    distribution,
    dominant_script,
    normalized,
    shown,
)
from catid2_jax.data.preprocessing import PreprocessingConfig, count_judgements, keep_grades
from catid2_jax.data.queries import relevant_grades
from catid2_jax.types import GRADES, Qrels, Query

HEAD = 0.01
"""The head: the share of the documents with pairs that has most of them."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Queries and judgements of a split, which need not match each other or the catalogue."""

    queries: Sequence[Query]
    qrels: Qrels

    def forms(self) -> dict[str, str]:
        """Returns query id -> normal form of the text."""
        return {query.id: normalized(query.text) for query in self.queries}


def relevant_pairs(split: str, qrels: Qrels, config: PreprocessingConfig) -> Qrels:
    """Returns the judgements that count as relevant, in training or in evaluation."""
    labels = config.training_labels if split == "train" else config.relevant_labels
    return keep_grades(qrels, relevant_grades(labels))


def query_figures(split: Split, scan: CatalogScan) -> dict[str, Any]:
    """Computes figures of the query texts: lengths, scripts, repeats, empty texts and oddities."""
    lengths, repeated = Lengths(), Repeats()
    empty, titles = Cases(), Cases()
    oddities = {name: Cases() for name in ODDITIES}
    scripts: collections.Counter[str] = collections.Counter()
    for query in split.queries:
        form = normalized(query.text)
        lengths.add(query.text.strip(), query.id)
        scripts[dominant_script(query.text)] += 1
        if form:
            repeated.add(form, query.text)
        else:
            empty.add(query.text, query.id)
        if form in scan.titled:
            titles.add(query.text, query.id)
        add_oddities(oddities, query.text, query.id)
    return {
        "queries": len(split.queries),
        "lengths": lengths.figures(),
        "repeated": repeated.figures(),
        "empty": empty,
        "titles": titles,
        "scripts": dict(scripts.most_common()),
        "oddities": oddities,
    }


def label_figures(split: Split, pairs: Qrels, scan: CatalogScan) -> dict[str, Any]:
    """Computes figures of the judgements.

    Args:
        split: the queries and all judgements.
        pairs: the relevant judgements, from `relevant_pairs`.
        scan: the scan of the catalogue.

    Returns:
        The numbers of `judged_queries`, `judgements` and `pairs`, of `judged_documents` and
        `relevant_documents` in the catalogue, and

        - `grades`: label -> number of judgements,
        - `relevant_per_query`: distribution of pairs over the queries with a pair,
        - `without_relevant`: queries without a pair, judged or not,
        - `head`: pairs on the most popular documents (see HEAD), and their `share` of all pairs,
        - `unknown_documents`: judgements on documents that the catalogue lacks,
        - `unknown_queries`: judgements of queries that the split lacks.
    """
    grades = collections.Counter(g for judged in split.qrels.values() for g in judged.values())
    documents = collections.Counter(d for judged in pairs.values() for d in judged)
    head = documents.most_common(math.ceil(HEAD * len(documents)))
    without = Cases()
    for query in split.queries:
        if query.id not in pairs:
            without.add(query.text, query.id)
    judged = {document for grades in split.qrels.values() for document in grades}
    return {
        "judged_queries": len(split.qrels),
        "judgements": count_judgements(split.qrels),
        "pairs": count_judgements(pairs),
        "grades": {label: grades[grade] for label, grade in GRADES.items()},
        "relevant_per_query": distribution(map(len, pairs.values())),
        "without_relevant": without,
        "judged_documents": len(judged & scan.judged),
        "relevant_documents": len(documents.keys() & scan.judged),
        "head": {
            "count": sum(n for _, n in head),
            "share": sum(n for _, n in head) / max(documents.total(), 1),
            "examples": [f"{shown(document)} {n} times" for document, n in head[:EXAMPLES]],
        },
        "unknown_documents": _unknown_documents(split.qrels, scan.judged),
        "unknown_queries": _unknown_queries(split),
    }


def _unknown_documents(qrels: Qrels, known: Collection[str]) -> Cases:
    cases = Cases()
    for query, judged in qrels.items():
        for document in judged:
            if document not in known:
                cases.add(document, query)
    return cases


def _unknown_queries(split: Split) -> Cases:
    known = {query.id for query in split.queries}
    cases = Cases()
    for query, judged in split.qrels.items():
        if query not in known:
            for document in judged:
                cases.add(query, f"judged on {shown(document)}")
    return cases


def between_splits(splits: Mapping[str, Split], pairs: Mapping[str, Qrels]) -> dict[str, Any]:
    """Finds queries and pairs that a split shares with an earlier one.

    Args:
        splits: name -> split, training first.
        pairs: name -> relevant pairs of the split.

    Returns:
        "test in train" and so on -> `Cases` of the later split: queries whose id is in both
        (`ids`), queries whose normal form is in both (`queries`), and pairs of such a query with
        the same document (`pairs`).
    """
    names = list(splits)
    return {
        f"{later} in {earlier}": _common(splits, pairs, later, earlier)
        for place, later in enumerate(names)
        for earlier in names[:place]
    }


def _common(
    splits: Mapping[str, Split], pairs: Mapping[str, Qrels], later: str, earlier: str
) -> dict[str, Cases]:
    forms = splits[earlier].forms()
    texts = set(forms.values()) - {""}
    known = {
        hash((forms[query], document))
        for query, documents in pairs[earlier].items()
        if forms.get(query)
        for document in documents
    }
    common = {"ids": Cases(), "queries": Cases(), "pairs": Cases()}
    for query in splits[later].queries:
        if query.id in forms:
            common["ids"].add(query.text, query.id)
        form = normalized(query.text)
        if form in texts:
            common["queries"].add(query.text, query.id)
            for document in pairs[later].get(query.id, ()):
                if hash((form, document)) in known:
                    common["pairs"].add(query.text, f"{query.id} and {document}")
    return common


def unseen_in_training(
    splits: Mapping[str, Split], pairs: Mapping[str, Qrels], known: Collection[str]
) -> dict[str, Cases]:
    """Returns held-out split -> relevant pairs on `known` documents without a training pair."""
    seen = {document for judged in pairs.get("train", {}).values() for document in judged}
    unseen: dict[str, Cases] = {}
    for name in splits:
        if name == "train":
            continue
        cases = unseen[name] = Cases()
        for query, judged in pairs[name].items():
            for document in judged:
                if document in known and document not in seen:
                    cases.add(document, query)
    return unseen
