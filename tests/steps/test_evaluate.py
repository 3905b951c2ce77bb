"""What `evaluate` makes of a work directory whose files are written here by hand."""

import json

import numpy as np
import pytest

from catid2_jax.config import default_config, freeze, view
from catid2_jax.data.corpus import write_columns
from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import write_run
from catid2_jax.files import write_json, write_npy
from catid2_jax.resolution import resolve_systems
from catid2_jax.steps import evaluate
from catid2_jax.types import Product
from catid2_jax.workdir import Record, Workdir, place_of, record_path, shared_place, write_record

# Eleven products of Home, four of them lamps and seven rugs, then eleven toys. A product's ten
# nearest in the embedding space are the other ten of its eleven.
PATHS = [("Home", "Lamps")] * 4 + [("Home", "Rugs")] * 7 + [("Toys",)] * 11
IDS = [f"p{n}" for n in range(22)]
OURS = np.array([[n // 11, n % 11 // 4, n % 11 % 4] for n in range(22)])
TIGERS = np.array([[0, n % 4, n // 4] for n in range(22)])


SYSTEMS = ("cat_id2", "bm25", "tiger")
BEFORE = {
    "perplexity/level_1": 77.0,
    "before_reassignment/perplexity/level_1": 66.25,
}


@pytest.fixture
def root(tmp_path):
    """A finished run of three systems."""
    workdir = Workdir(tmp_path)
    products = [Product(i, f"title of {i}", "", path) for i, path in zip(IDS, PATHS, strict=True)]
    write_columns(workdir.catalog, enumerate(products))
    workdir.queries("test").write_text('{"id": "q", "text": "title of p1"}\n')
    workdir.qrels("test").write_text("q 0 p1 3\nq 0 p2 2\n")
    noise = np.random.default_rng(0).normal(size=(22, 4))
    vectors = np.eye(4)[[n // 11 for n in range(22)]] + 0.01 * noise
    write_npy(shared_place(tmp_path).embeddings, vectors.astype(np.float32))
    write_table(tmp_path / "cat_id2", OURS, {"collision_rate": 0.25, **BEFORE})
    write_table(tmp_path / "tiger", TIGERS, {"collision_rate": 0.75, "documents_reassigned": 0.125})
    for name, hits in (("cat_id2", "p1 p4"), ("bm25", "p1 p0"), ("tiger", "p4 p3")):
        first, second = hits.split()
        write_run(tmp_path / name / "run.trec", [("q", [(first, 0.0), (second, -1.0)])], "test")
    return tmp_path


def write_table(folder, codes, figures):
    """What the step `docids` leaves."""
    write_docids(folder / "docids.jsonl", DocidTable(IDS, codes))
    write_json(folder / "steps" / "docids.metrics.json", figures)
    shape = {"levels": 3, "codebook_size": 8}
    write_record(record_path(folder, "docids"), Record({}, folder.name, True, 1.0, shape))


def measure(root, systems=SYSTEMS, **changes):
    values = default_config()
    values.systems = systems
    values.evaluate.cutoffs = (1, 2)
    values.update_from_flattened_dict(changes)
    config = freeze(values)
    found, workdir = resolve_systems(config), Workdir(root)
    places = {name: place_of(system, config, workdir) for name, system in found.items()}
    seen = view(config, evaluate.READS, "evaluate")
    evaluate.run(seen, shared_place(root), found, places)
    return json.loads((root / "metrics.json").read_text())


FIGURES = {
    "cat_id2/": {
        "recall@1": 0.5,
        "recall@2": 0.5,
        "collision_rate": 0.25,
        "before_reassignment/perplexity/level_1": 66.25,
        "perplexity/level_1": 2.0,  # the table's, not the scheme's
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


def test_figures_of_every_system_by_hand(root):
    metrics = measure(root)
    for prefix, figures in FIGURES.items():
        for name, value in figures.items():
            assert metrics[prefix + name] == pytest.approx(value, abs=1e-12), prefix + name
    assert {name for name in metrics if name.startswith("bm25/")} == {
        "bm25/recall@1",
        "bm25/recall@2",
    }
    assert "cat_id2/category_purity/level_3" not in metrics  # no path is that deep
    assert "cat_id2/documents_reassigned" not in metrics
    assert {name.partition("/")[0] for name in metrics} == set(SYSTEMS)


def rows_of(output, title):
    """Cells of the table with this title, by row."""
    lines = output[output.index(title) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("┡"))
    end = next(i for i, line in enumerate(lines) if line.startswith("└"))
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in lines[start + 1 : end]
    ]


def test_tables_show_the_systems_side_by_side(root, capsys):
    measure(root)
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


def test_ids_of_another_origin(root, capsys):
    """Their scheme leaves no figures."""
    write_table(root / "given", OURS, {})
    (root / "given/steps/docids.metrics.json").unlink()
    changes = {"docids.path": "theirs.jsonl", "evaluate.retrieval": False}
    metrics = measure(root, ("given",), **changes)
    assert metrics["given/perplexity/level_1"] == pytest.approx(2.0)
    assert "given/collision_rate" not in metrics
    levels = rows_of(capsys.readouterr().out, "Document IDs, per level")
    assert ["dead codes", "given IDs", "6", "5", "4"] in levels


def test_a_system_with_the_model_of_another_has_no_ids_of_its_own(root, capsys):
    write_run(root / "clusters/run.trec", [("q", [("p2", 5.0), ("p1", 4.0)])], "test")
    metrics = measure(root, ("cat_id2", "clusters"))
    names = {name for name in metrics if name.startswith("clusters/")}
    assert names == {"clusters/recall@1", "clusters/recall@2"}
    assert (metrics["clusters/recall@1"], metrics["clusters/recall@2"]) == (0.5, 1.0)
    recall = rows_of(capsys.readouterr().out, "Recall@k in %")
    assert recall == [["CAT-ID2", "50.0", "50.0"], ["CAT-ID2, clusters", "50.0", "100.0"]]


def test_the_figures_of_the_ids_alone_need_no_run(root, capsys):
    whole = measure(root)
    for name in SYSTEMS:
        (root / name / "run.trec").unlink()
    capsys.readouterr()
    alone = measure(root, **{"evaluate.retrieval": False})
    assert alone == {name: value for name, value in whole.items() if "recall@" not in name}
    output = capsys.readouterr().out
    assert "Recall" not in output
    assert rows_of(output, "Document IDs, per level")


def test_a_product_without_an_id_is_named(root):
    kept = [n for n in range(22) if n != 9]
    write_docids(root / "cat_id2/docids.jsonl", DocidTable([IDS[n] for n in kept], OURS[kept]))
    with pytest.raises(InputError) as error:
        measure(root)
    assert error.value.where == str(root / "cat_id2/docids.jsonl")
    assert error.value.found == "21 IDs, the first that differs of product 'p10'"
    assert error.value.expected.endswith("22 products in their order, there 'p9'")


def test_cutoffs_beyond_what_a_run_has_are_said_and_left_out(root, capsys):
    metrics = measure(root, **{"retrieve.k": 1})
    assert metrics["cat_id2/recall@1"] == 0.5
    assert not [name for name in metrics if name.endswith("recall@2")]
    output = capsys.readouterr().out
    assert "BM25: no Recall@2, since retrieve.k is 1" in output
    assert rows_of(output, "Recall@k in %")[0] == ["CAT-ID2", "50.0", ""]


def test_a_run_that_found_nothing_scores_0(root):
    write_run(root / "bm25/run.trec", [("q", [])], "test")
    metrics = measure(root)
    assert (metrics["bm25/recall@1"], metrics["bm25/recall@2"]) == (0.0, 0.0)


def test_ties_as_in_trec_eval(root, capsys):
    write_run(root / "bm25/run.trec", [("q", [("p1", 1.0), ("p4", 1.0)])], "test")
    assert measure(root)["bm25/recall@1"] == 0.5
    assert measure(root, **{"evaluate.ties": "trec_eval"})["bm25/recall@1"] == 0.0
    assert "test queries, ties as in trec_eval (synthetic" in capsys.readouterr().out
