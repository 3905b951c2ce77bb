"""Which rows stand in which table, and how the runs of several are shared."""

import json

import numpy as np
import pytest

from catid2_jax.ablations import ABLATIONS
from catid2_jax.config import Config
from catid2_jax.errors import InputError
from catid2_jax.models.rqvae import RQVAEConfig
from catid2_jax.reproduction.datasets import set_name, with_set
from catid2_jax.reproduction.grids import find_grid, grids
from catid2_jax.reproduction.runs import plan_runs
from catid2_jax.systems import SYSTEMS, System


def test_the_rows_of_table_2_are_those_that_the_paper_has_figures_of(monkeypatch):
    rows = find_grid("table2").systems
    assert {"cat_id2", "tiger", "bm25", "mpnet", "sentence_t5", "nearest_query", "fused"} <= {*rows}
    assert not {"cost", "clusters", "random_ids", *ABLATIONS} & {*rows}
    more = System("more", "bm25", paper={"us": dict.fromkeys((5, 10, 20, 50, 100), 1.0)})
    monkeypatch.setitem(SYSTEMS, "more", more)
    assert {*find_grid("table2").systems} - {*rows} == {"more"}


def test_every_row_of_the_ablations_is_in_a_table():
    found = [row for grid in grids().values() for row in grid.systems if row in ABLATIONS]
    assert sorted(found) == sorted(ABLATIONS)
    for grid in grids().values():
        assert not grid.reference or grid.reference in grid.systems
        assert set(grid.tested) <= set(grid.cutoffs)


@pytest.mark.parametrize(
    ("name", "systems", "where", "found"),
    [
        ("", (), "reproduce", "no table"),
        ("table8", (), "reproduce", "'table8'"),
        ("table2", ("bm25", "tiger", "bm25"), "--systems", "bm25,tiger,bm25"),
    ],
)
def test_tables_that_there_are_not(name, systems, where, found):
    with pytest.raises(InputError) as error:
        find_grid(name, systems)
    assert (error.value.where, error.value.found) == (where, found)


def test_rows_that_are_the_same_system_share_their_runs():
    systems = ("table4_tiger", "table6_tiger_4_layers", "table3_cat_id2", "table5_3_level", "bm25")
    assert plan_runs((*systems, "clusters", "fused"), Config(seed=5), 3) == {
        "table4_tiger": ("tiger", "tiger@6", "tiger@7"),
        "table6_tiger_4_layers": ("tiger", "tiger@6", "tiger@7"),
        "table3_cat_id2": ("table3_cat_id2", "table3_cat_id2@6", "table3_cat_id2@7"),
        "table5_3_level": ("cat_id2", "cat_id2@6", "cat_id2@7"),
        "bm25": ("bm25",),
        "clusters": ("clusters", "clusters@6", "clusters@7"),
        "fused": ("fused", "fused@6", "fused@7"),
    }
    short = Config(rqvae=RQVAEConfig(levels=3, category_levels=2))  # not with figure5_depth_3
    assert plan_runs(("table5_tiger",), short, 1) == {"table5_tiger": ("tiger",)}
    with pytest.raises(InputError, match=r"config\.systems: found 'lightgcn', expected some of "):
        plan_runs(("bm25", "lightgcn"), Config(), 3)


def make_set(folder, *names):
    folder.mkdir()
    for name in names:
        (folder / name).write_text(json.dumps({"id": "p", "title": "t"}))
    return folder


SPLITS = ("queries.train.jsonl.gz", "qrels.train.txt", "queries.test.jsonl", "qrels.test.txt")


def test_the_files_of_a_set(tmp_path):
    dev = ("queries.dev.jsonl", "qrels.dev.txt.gz")
    folder = make_set(tmp_path / "shop", "catalog.jsonl.gz", *SPLITS, *dev)
    data = with_set(Config(), folder).data
    assert data.catalog == str(folder / "catalog.jsonl.gz")
    assert data.train_queries == str(folder / "queries.train.jsonl.gz")
    assert (data.dev_qrels, data.test_qrels) == tuple(str(folder / n) for n in (dev[1], SPLITS[3]))
    assert set_name(with_set(Config(), folder)) == "shop"
    assert set_name(Config()) == "synthetic"
    without = with_set(Config(), make_set(tmp_path / "few", "catalog.parquet", *SPLITS)).data
    assert (without.dev_queries, without.catalog) == ("", str(tmp_path / "few/catalog.parquet"))


def test_given_vectors_of_a_set(tmp_path):
    folder = make_set(tmp_path / "shop", "catalog.jsonl", *SPLITS)
    for name in ("catalog", "queries.train"):
        np.save(folder / f"{name}.minilm.npy", np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"found no queries\.test\.minilm\.npy"):
        with_set(Config(), folder, "minilm")
    np.save(folder / "queries.test.minilm.npy", np.zeros((1, 2)))
    embedding = with_set(Config(), folder, "minilm").embedding
    assert (embedding.encoder, embedding.dev_query_vectors) == ("precomputed", "")
    assert embedding.path == str(folder / "catalog.minilm.npy")
    assert embedding.test_query_vectors == str(folder / "queries.test.minilm.npy")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ((), "catalog.jsonl"),
        (("catalog.jsonl", *SPLITS[:3]), "qrels.test.txt"),
        (("catalog.jsonl", *SPLITS[1:]), "queries.train.jsonl"),
        (("catalog.jsonl", *SPLITS, "qrels.dev.txt"), "queries.dev.jsonl"),
    ],
)
def test_files_that_a_set_lacks(tmp_path, names, missing):
    folder = make_set(tmp_path / "shop", *names)
    with pytest.raises(InputError) as error:
        with_set(Config(), folder)
    assert (error.value.where, error.value.found) == (str(folder), f"no {missing}")
