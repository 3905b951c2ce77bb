"""The step `embed` with a T5: which text, which files, and what is refused."""

import json

import numpy as np
import pytest

from catid2_jax.checkpoints.folder import write_checkpoint
from catid2_jax.config import default_config, freeze
from catid2_jax.data.catalog import write_catalog
from catid2_jax.data.queries import write_queries
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.encoders.encoder import encode_texts
from catid2_jax.errors import InputError
from catid2_jax.steps import embed
from catid2_jax.steps.workdir import Workdir
from catid2_jax.types import Product, Query
from tests.checkpoints.examples import UNTIED, random_checkpoint, write_vocabulary

PRODUCTS = [
    Product("a", "red shoe", "cotton", ("garden", "hose"), {"brand": "lamp"}),
    Product("b", "steel kettle", "", ("tea", "mug"), {"brand": "steel"}),
    Product("c", "tea " * 30, "mug", ("garden", "lamp")),
]


@pytest.fixture(scope="module")
def spiece(tmp_path_factory):
    return write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "spiece.model")


@pytest.fixture(scope="module")
def t5(tmp_path_factory, spiece):
    folder = tmp_path_factory.mktemp("t5") / "hf"
    vocabulary = Vocabulary(spiece, 0, 0)
    write_checkpoint(folder, "huggingface", random_checkpoint(UNTIED), vocabulary)
    return folder


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path / "work")
    write_catalog(workdir.data / "catalog.jsonl", PRODUCTS)
    return workdir


def configured(**fields):
    config = default_config()
    config.embedding.update({"encoder": "t5", "max_tokens": 24, **fields})
    return freeze(config)


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({}, ["red shoe. cotton. garden > hose", "steel kettle. tea > mug"]),
        ({"with_categories": False}, ["red shoe. cotton", "steel kettle"]),
        (
            {"fields": ("categories", "brand", "title"), "field_characters": 5},
            ["garde. brand: lamp. red s", "tea >. brand: steel. steel"],
        ),
    ],
)
def test_the_text_is_what_the_configuration_says(workdir, t5, fields, texts):
    config = configured(path=str(t5), **fields)
    embed.run(config, workdir)
    expected, _ = encode_texts(texts, embed.make_encoder(config.embedding), 64)
    found = np.load(workdir.embeddings)
    assert found.shape == (3, 12)
    np.testing.assert_allclose(found[:2], expected, atol=1e-5)
    assert workdir.embeddings.with_suffix(".ids.txt").read_text() == "a\nb\nc\n"


def test_queries_become_vectors_too(workdir, t5, tmp_path):
    queries = {"train": ["red shoe"], "test": ["kettle", "a lamp for the garden"]}
    for split, texts in queries.items():
        path = workdir.data / f"queries.{split}.jsonl"
        write_queries(path, [Query(f"q{i}", text) for i, text in enumerate(texts)])
    config = configured(path=str(t5))
    embed.run(config, workdir)
    for split, texts in queries.items():
        expected, tokens = encode_texts(texts, embed.make_encoder(config.embedding), 64)
        np.testing.assert_allclose(np.load(workdir.query_vectors(split)), expected, atol=1e-5)
        figures = json.loads(workdir.metrics("embed").read_text())
        assert figures[f"{split}_queries"] == len(texts)
        assert figures[f"{split}_queries_tokens"] == tokens.sum()
    assert not workdir.query_vectors("dev").exists()


def test_what_is_cut_is_counted_and_said(workdir, t5, spiece, capsys):
    embed.run(configured(path=str(t5), field_characters=90), workdir)
    vocabulary = Vocabulary(spiece, 0, 0)
    texts = [
        "red shoe. cotton. garden > hose",
        "steel kettle. tea > mug",
        ("tea " * 30)[:90] + ". mug. garden > lamp",
    ]
    tokens = [len(vocabulary.text_ids(text)) + 1 for text in texts]
    assert max(tokens[:2]) <= 24 < tokens[2]
    assert json.loads(workdir.metrics("embed").read_text()) == {
        "texts": 3,
        "texts_cut": 1,
        "tokens": sum(tokens),
        "tokens_cut": tokens[2] - 24,
        "fields_cut": 1,
    }
    printed = capsys.readouterr().out
    assert "1 of 3 texts are longer than 24 tokens and were cut there" in printed
    assert "1 fields are longer than 90 characters" in printed


def test_another_vocabulary_or_checkpoint_after_a_kill_uses_no_old_shard(
    workdir, t5, tmp_path, monkeypatch
):
    other = random_checkpoint(UNTIED)
    other.params["token_embedder/embedding"] += 1
    write_checkpoint(tmp_path / "other", "t5x", other)
    (tmp_path / "spiece.model").write_bytes((t5 / "spiece.model").read_bytes())
    with monkeypatch.context() as patched:
        patched.setattr("catid2_jax.encoders.encoder._join", None)
        with pytest.raises(TypeError):
            embed.run(configured(path=str(t5)), workdir)
    assert len(list(workdir.root.glob("embeddings.shards/*.npz"))) == 1
    config = configured(path=str(tmp_path / "other"), vocabulary=str(tmp_path / "spiece.model"))
    embed.run(config, workdir)
    fresh = Workdir(tmp_path / "fresh")
    write_catalog(fresh.data / "catalog.jsonl", PRODUCTS)
    embed.run(config, fresh)
    assert fresh.embeddings.read_bytes() == workdir.embeddings.read_bytes()


def test_what_is_missing_or_does_not_fit(workdir, t5, spiece, tmp_path):
    def refused(message, **fields):
        with pytest.raises(InputError, match=message):
            embed.run(configured(**fields), workdir)
        assert not workdir.embeddings.exists()

    refused("found no such folder, expected a checkpoint", path=str(tmp_path / "none"))
    write_checkpoint(tmp_path / "alone", "t5x", random_checkpoint(UNTIED))
    alone = str(tmp_path / "alone")
    refused(r"found no spiece\.model, expected it there or config\.embedding\.vocab", path=alone)
    refused("cannot be read", path=alone, vocabulary=str(tmp_path / "x.model"))
    write_checkpoint(tmp_path / "small", "t5x", random_checkpoint(UNTIED, rows=8))
    small = str(tmp_path / "small")
    refused("pieces, expected at most the 8 rows", path=small, vocabulary=str(spiece))
    refused("found 'colour', which no product has", path=str(t5), fields=("title", "colour"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": ""}, "encoder is 't5' and path is '': expected none for 'lsa' and a path"),
        ({"encoder": "lsa", "path": "x"}, "expected none for 'lsa'"),
        ({"encoder": "precomputed", "vocabulary": "v"}, "vocabulary is 'v' and encoder is"),
        ({"fields": ()}, r"fields is \(\)"),
        ({"fields": ("title", "title")}, "expected one field or more, each once"),
        ({"fields": ("categories",), "with_categories": False}, "with_categories is False"),
        ({"max_tokens": 1}, "max_tokens is 1: expected at least 2"),
        ({"shard_documents": 0}, "shard_documents is 0: expected at least 1"),
    ],
)
def test_configurations_that_say_nothing(fields, message):
    with pytest.raises(InputError, match=rf"config\.embedding\..*{message}"):
        configured(**{"path": "x"} | fields)
