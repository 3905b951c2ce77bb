"""What `evaluate` makes of a work directory whose files are written here by hand."""

import json

import numpy as np
import pytest

from catid2_jax.config import default_config, freeze
from catid2_jax.data.catalog import write_catalog
from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import write_run
from catid2_jax.files import write_json, write_npy
from catid2_jax.steps import evaluate
from catid2_jax.steps.workdir import Workdir
from catid2_jax.types import Product

# Eleven products of Home, four of them lamps and seven rugs, then eleven toys. A product's ten
# nearest in the embedding space are the other ten of its eleven.
PATHS = [("Home", "Lamps")] * 4 + [("Home", "Rugs")] * 7 + [("Toys",)] * 11
IDS = [f"p{n}" for n in range(22)]
OURS = np.array([[n // 11, n % 11 // 4, n % 11 % 4] for n in range(22)])
TIGERS = np.array([[0, n % 4, n // 4] for n in range(22)])


def table(codes):
    """The table of these codes, in another order than the catalogue's."""
    order = np.roll(np.arange(22), 3)
    return DocidTable([IDS[n] for n in order], codes[order])


@pytest.fixture
def workdir(tmp_path):
    """A finished run with TIGER's beside it."""
    directory, tiger = Workdir(tmp_path), Workdir(tmp_path, "tiger")
    products = [Product(i, f"title of {i}", "", path) for i, path in zip(IDS, PATHS, strict=True)]
    write_catalog(directory.data / "catalog.jsonl", products)
    (directory.data / "queries.test.jsonl").write_text('{"id": "q", "text": "title of p1"}\n')
    (directory.data / "qrels.test.txt").write_text("q 0 p1 3\nq 0 p2 2\n")
    noise = np.random.default_rng(0).normal(size=(22, 4))
    vectors = np.eye(4)[[n // 11 for n in range(22)]] + 0.01 * noise
    write_npy(directory.embeddings, vectors.astype(np.float32))
    write_docids(directory.docids, table(OURS))
    write_docids(tiger.docids, table(TIGERS))
    write_run(tmp_path / "run.trec", [("q", [("p1", 0.0), ("p4", -1.0)])], "test")
    write_run(tmp_path / "tiger" / "run.trec", [("q", [("p4", 0.0), ("p3", -1.0)])], "test")
    write_json(directory.metrics("assign"), {"collision_rate": 0.25, **BEFORE})
    write_json(tiger.metrics("assign"), {"collision_rate": 0.75, "documents_reassigned": 0.125})
    return directory


BEFORE = {
    "perplexity/level_1": 77.0,
    "before_reassignment/perplexity/level_1": 66.25,
}


def config(**changes):
    values = default_config()
    values.rqvae.codebook_size = 8
    values.rqvae.levels = 3
    values.rqvae.category_levels = 2
    values.evaluate.cutoffs = (1, 2)
    values.evaluate.baselines = ("bm25", "tiger")
    values.update_from_flattened_dict(changes)
    return freeze(values)


def measure(workdir, **changes):
    evaluate.run(config(**changes), workdir)
    return json.loads((workdir.root / "metrics.json").read_text())


FIGURES = {
    "": {
        "recall@1": 0.5,
        "recall@2": 0.5,
        "collision_rate": 0.25,
        "before_reassignment/perplexity/level_1": 66.25,
        "perplexity/level_1": 2.0,  # the table's, not assign's
        "codes_used/level_2": 3 / 8,
        "dead_codes/level_3": 4,
        "category_purity/level_1": 1.0,
        "category_nmi/level_1": 1.0,
        "category_ami/level_1": 1.0,
        "category_purity/level_2": 1.0,
        # Groups of 4, 4 and 3 share two codes, and the rest of an eleven one.
        "common_prefix/all_pairs": 2 * (55 + 6 + 6 + 3) / 231,
        "common_prefix/within_leaf": (6 + 6 + 21 + 6 + 3 + 55 + 6 + 6 + 3) / (6 + 21 + 55),
        "common_prefix/across_leaves": 4 * 7 / (231 - 6 - 21 - 55),
        "common_prefix/nearest_neighbors": (55 + 6 + 6 + 3) / 55,
    },
    "tiger/": {
        "recall@1": 0.0,
        "collision_rate": 0.75,
        "documents_reassigned": 0.125,
        "perplexity/level_1": 1.0,
        "codes_used/level_1": 1 / 8,
        "dead_codes/level_1": 7,
        "category_purity/level_1": 0.5,
        "category_nmi/level_1": 0.0,
        "category_ami/level_1": 0.0,
        "common_prefix/all_pairs": (231 + 15 + 15 + 10 + 10) / 231,
        # Of the lamps none share a second code; three pairs of rugs and ten pairs of toys do.
        "common_prefix/within_leaf": (82 + 3 + 10) / 82,
    },
    "bm25/": {"recall@1": 0.5},
}


def test_figures_of_every_system_by_hand(workdir):
    metrics = measure(workdir)
    for prefix, figures in FIGURES.items():
        for name, value in figures.items():
            assert metrics[prefix + name] == pytest.approx(value, abs=1e-12), prefix + name
    assert {name for name in metrics if name.startswith("bm25/")} == {
        "bm25/recall@1",
        "bm25/recall@2",
    }
    assert "category_purity/level_3" not in metrics  # no path is that deep
    assert "documents_reassigned" not in metrics


def rows_of(output, title):
    """Cells of the table with this title, by row."""
    lines = output[output.index(title) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("┡"))
    end = next(i for i, line in enumerate(lines) if line.startswith("└"))
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in lines[start + 1 : end]
    ]


def test_tables_show_the_systems_side_by_side(workdir, capsys):
    measure(workdir)
    output = capsys.readouterr().out
    levels = rows_of(output, "Document IDs, per level (synthetic catalogue)")
    assert ["perplexity", "CAT-ID2", "2", "2.974", "3.947"] in levels  # exp of the entropies
    assert ["", "TIGER", "1", "3.983", "5.858"] in levels
    start = levels.index(["dead codes", "CAT-ID2", "6", "5", "4"])
    assert levels[start + 1] == ["", "TIGER", "7", "4", "2"]
    start = levels.index(["before reassignment: perplexity", "CAT-ID2", "66.25", "", ""])
    assert levels[start + 1][0]  # TIGER has none here, so the next row is of another figure
    scalars = rows_of(output, "Document IDs (synthetic catalogue)")
    assert ["collision rate", "0.25", "0.75"] in scalars
    assert ["documents reassigned", "", "0.125"] in scalars
    assert ["common prefix: nearest neighbors", "1.273", "1.182"] in scalars
    recall = rows_of(output, "Recall@k in %, test queries (synthetic catalogue)")
    assert recall[0] == ["CAT-ID2", "50.0", "50.0"]
    assert recall[1][:2] == ["BM25", "50.0"]
    assert recall[2] == ["TIGER", "0.0", "0.0"]


def test_ids_of_another_origin(workdir, capsys):
    workdir.metrics("assign").unlink()
    metrics = measure(workdir, **{"docids.path": "theirs.jsonl", "evaluate.baselines": ()})
    assert metrics["perplexity/level_1"] == pytest.approx(2.0)
    assert "collision_rate" not in metrics
    levels = rows_of(capsys.readouterr().out, "Document IDs, per level")
    assert ["dead codes", "given IDs", "6", "5", "4"] in levels


def test_the_figures_of_the_ids_alone_need_no_run(workdir, capsys):
    whole = measure(workdir)
    for path in (workdir.root / "run.trec", workdir.root / "tiger/run.trec"):
        path.unlink()
    capsys.readouterr()
    alone = measure(workdir, **{"evaluate.retrieval": False})
    assert alone == {name: value for name, value in whole.items() if "recall@" not in name}
    output = capsys.readouterr().out
    assert "Recall" not in output
    assert rows_of(output, "Document IDs, per level")


def test_a_product_without_an_id_is_named(workdir):
    kept = [n for n in range(22) if n != 9]
    write_docids(workdir.docids, DocidTable([IDS[n] for n in kept], OURS[kept]))
    with pytest.raises(InputError, match=r"docids\.jsonl: found no document ID for product 'p9'"):
        measure(workdir)
