"""The notebook: its cells run from top to bottom, and it is kept without results."""

import dataclasses
import json
import pathlib
import re

import matplotlib
import nbclient
import nbformat
import numpy as np
import pytest

import catid2_jax
from catid2_jax.config import Config
from catid2_jax.models.t5.config import T5Config
from catid2_jax.retrievers.bm25 import BM25Retriever
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.seq2seq.config import Seq2SeqConfig
from catid2_jax.training.optimizer import TrainingConfig

STAGE_2 = (Config, Seq2SeqConfig, T5Config, TrainingConfig, RetrieveConfig)
"""The classes whose fields `train_retriever` takes; the first has them as sections."""

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
CELLS = [
    (cell["cell_type"], "".join(cell["source"]))
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
]
CODE = [text for kind, text in CELLS if kind == "code"]


def test_the_notebook_is_valid_and_has_no_results():
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
    assert "%pip install" in code[0].source  # what Colab needs comes first


def test_its_links_lead_to_pages():
    links = [
        link for kind, text in CELLS if kind != "code" for link in re.findall(r"\]\((\S+)\)", text)
    ]
    assert len(links) > 5
    for link in links:
        assert (NOTEBOOK.parent / link.partition("#")[0]).resolve().is_file(), link


def test_its_cells_run(monkeypatch, tmp_path):
    """In this process, with random IDs, and BM25 in the place of the network."""
    monkeypatch.setenv("CATID2_NOTEBOOK_SHORT", "1")
    monkeypatch.chdir(tmp_path)
    learn = catid2_jax.learn_docids

    def random_ids(catalog, embeddings, scheme, levels, codebook_size, **settings):
        assert scheme == "cat_id2"
        return learn(catalog, embeddings, "random", levels=levels, codebook_size=codebook_size)

    def bm25(catalog, docids, queries, qrels, **settings):
        assert {query.id for query in queries} >= set(qrels)
        assert {*settings} <= {field.name for part in STAGE_2 for field in dataclasses.fields(part)}
        retriever = BM25Retriever(catid2_jax.Corpus(catalog))
        return catid2_jax.ProductRetriever("trained", catalog, retriever, docids)

    monkeypatch.setattr(catid2_jax, "learn_docids", random_ids)
    monkeypatch.setattr(catid2_jax, "train_retriever", bm25)
    matplotlib.use("agg")
    names = {}
    for text in CODE[1:]:
        exec(compile(text, NOTEBOOK.name, "exec"), names)
    check(names)


def check(names):
    """What the cells have made: all products with IDs, figures, and Recall that grows with k."""
    from matplotlib import pyplot

    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    pyplot.close("all")
    assert len(figures) == 3
    assert all(figure.axes[0].get_title() for figure in figures)
    assert len(np.unique(names["docids"].codes, axis=0)) == len(names["catalog"])
    assert names["table"].sum() == len(names["catalog"]) > 100
    for values in names["recall"].values():
        assert values == sorted(values)
        assert 0 <= values[0] <= values[-1] <= 1
    assert names["recall"]["BM25"][-1] > 0.1


@pytest.mark.slow
def test_a_kernel_runs_it(monkeypatch, tmp_path):
    """As a reader does, with Colab's cell and the paper's losses; the small settings."""
    monkeypatch.setenv("CATID2_NOTEBOOK_SHORT", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, 4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
