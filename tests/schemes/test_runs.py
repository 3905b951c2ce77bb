"""Work directories of the systems whose IDs come without a network."""

import json
import pathlib

import numpy as np
import pytest

import catid2_jax
from catid2_jax import pipeline
from catid2_jax.data.corpus import Catalog
from catid2_jax.docids.table import read_docids

TINY = pathlib.Path(__file__).parent.parent / "plugins" / "tiny.py"
SHAPES = {  # levels and codes of each system
    "rq_kmeans": (3, 8),
    "rq_kmeans_balanced": (3, 8),
    "category_prefix": (4, 16),
    "random_ids": (4, 8),
}
SYSTEMS = tuple(SHAPES)
FIELDS = (
    "options.residual_kmeans.levels=3",
    "options.residual_kmeans.codebook_size=8",
    "options.category_prefix.codebook_size=16",
    "options.random.codebook_size=8",
)


def run(root, systems, *changes):
    flags = [f"--config.{change}" for change in (f"systems={systems}", *FIELDS, *changes)]
    pipeline.main(["pipeline", f"--config={TINY}", f"--workdir={root}", *flags])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("schemes")
    run(root, SYSTEMS, "evaluate.retrieval=False")
    return root


@pytest.mark.parametrize("name", SYSTEMS)
def test_ids_are_those_learnt_from_python(root, name):
    catalog = Catalog.open(root / "data" / "catalog.parquet")
    levels, size = SHAPES[name]
    vectors = np.load(root / "embeddings.npy")
    expected = catid2_jax.learn_docids(catalog, vectors, name, levels=levels, codebook_size=size)
    found = read_docids(root / name / "docids.jsonl", size)
    assert list(found.ids) == catalog.ids
    np.testing.assert_array_equal(found.codes, expected.codes)
    record = json.loads((root / name / "steps" / "docids.json").read_text())
    assert record["result"] == {"levels": levels, "codebook_size": size}


def test_figures_tell_the_systems_apart(root):
    metrics = json.loads((root / "metrics.json").read_text())
    perplexity = {name: metrics[f"{name}/perplexity/level_1"] for name in SYSTEMS}
    assert perplexity["rq_kmeans_balanced"] > perplexity["rq_kmeans"]
    assert metrics["category_prefix/category_ami/level_1"] == pytest.approx(1)
    assert metrics["category_prefix/category_ami/level_2"] == pytest.approx(1)
    assert abs(metrics["random_ids/category_ami/level_1"]) < 0.2
    assert metrics["rq_kmeans/collision_rate"] > 0
    assert "random_ids/collision_rate" not in metrics


def test_a_setting_that_is_refused_names_its_field(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, ("rq_kmeans",), "options.residual_kmeans.levels=0")
    assert "config.options.residual_kmeans.levels: found 0" in capsys.readouterr().err


@pytest.mark.slow
def test_ids_of_residual_kmeans_are_retrieved(root):
    run(root, SYSTEMS[1:2], "seq2seq_training.epochs=2")
    hits = catid2_jax.load(root).search("tea", k=3)
    table = read_docids(root / "rq_kmeans_balanced" / "docids.jsonl", 8)
    found = {hit.product.id: hit.docid for hit in hits}
    assert len(found) == 3
    for product, docid in found.items():
        codes = table.codes[list(table.ids).index(product)]
        assert docid == "<a_{}><b_{}><c_{}>".format(*codes)
