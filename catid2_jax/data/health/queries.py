"""Figures of queries and judgements as they were given, per split and between splits."""

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
"""Share of the documents with pairs that is called the head: those with the most."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Queries and judgements of a split; either may name what the other or the catalogue lacks."""

    queries: Sequence[Query]
    qrels: Qrels

    def forms(self) -> dict[str, str]:
        """Query id -> normal form of the text."""
        return {query.id: normalized(query.text) for query in self.queries}


def relevant_pairs(split: str, qrels: Qrels, config: PreprocessingConfig) -> Qrels:
    """The judgements that count as relevant in a split: those trained on, or those to be found."""
    labels = config.training_labels if split == "train" else config.relevant_labels
    return keep_grades(qrels, relevant_grades(labels))


def query_figures(split: Split, scan: CatalogScan) -> dict[str, Any]:
    """Figures of the texts: lengths, scripts, the same text twice, titles, nothing, oddities."""
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
    """Figures of the judgements.

    Args:
        split: queries and all judgements.
        pairs: the relevant ones, from `relevant_pairs`.
        scan: of the catalogue.

    Returns:
        Counts of `judged_queries`, `judgements`, `pairs`; `grades` by label; the distribution
        `relevant_per_query` over queries that have any; queries `without_relevant` document, judged
        or not; documents that are `judged_documents` or `relevant_documents`; pairs on the `head`
        (see HEAD), with their share; judgements on
        `unknown_documents` or of `unknown_queries`.
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
    """What two splits have in common, each later split beside each earlier one.

    Args:
        splits: name -> split, training first.
        pairs: name -> its relevant pairs.

    Returns:
        "test in train" and so on -> `ids` of queries in both, `queries` with the same text but for
        case, punctuation and white space, `pairs` of such a query and the same document.
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
    """Per held-out split, its relevant pairs on known documents of no training pair."""
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
