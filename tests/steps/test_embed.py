"""The step `embed` with a T5: which text, which files, and what is refused."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

from catid2_jax.checkpoints.folder import write_checkpoint
from catid2_jax.config import default_config, freeze, view
from catid2_jax.data.catalog import product_text
from catid2_jax.data.corpus import write_columns
from catid2_jax.data.queries import write_queries
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.encoders.encoder import Encoder, encode_texts
from catid2_jax.encoders.t5 import load_t5_encoder
from catid2_jax.errors import InputError
from catid2_jax.steps import embed
from catid2_jax.types import Product, Query
from catid2_jax.workdir import shared_place
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


def placed(root):
    """A place with the prepared catalogue."""
    place = shared_place(root)
    write_columns(place.workdir.catalog, enumerate(PRODUCTS))
    return place


@pytest.fixture
def place(tmp_path):
    return placed(tmp_path / "work")


def configured(**fields):
    config = default_config()
    config.embedding.update({"encoder": "t5", "max_tokens": 24, **fields})
    return view(freeze(config), ("embedding",), "embed")


def encoded(texts, t5):
    """Vectors and tokens of texts, in a single batch."""
    return encode_texts(texts, load_t5_encoder(str(t5), "", 24), 10_000)


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
def test_the_text_is_what_the_configuration_says(place, t5, fields, texts):
    embed.run(configured(path=str(t5), **fields), place)
    expected, _ = encoded(texts, t5)
    found = np.load(place.embeddings)
    assert found.shape == (3, 12)
    np.testing.assert_allclose(found[:2], expected, atol=1e-5)


@pytest.mark.parametrize("rows", [3, 7, 65_536])
def test_parts_of_the_catalogue_change_no_byte(tmp_path, monkeypatch, rows):
    """The expected bytes are NumPy's, of all texts in a list."""
    products = [Product(f"p{n}", "word " * (n % 9 + 1), f"{n}", ("a", "b")) for n in range(20)]
    texts = [product_text(product, True) for product in products]
    expected = np.array([[len(text), n] for n, text in enumerate(texts)], np.float32)
    np.save(tmp_path / "expected.npy", expected)
    monkeypatch.setattr("catid2_jax.data.corpus._ROWS_AT_ONCE", rows)
    place = shared_place(tmp_path / "work")
    write_columns(place.workdir.catalog, enumerate(products))
    asked = []

    class Lengths(Encoder):
        def encode(self, part):
            asked.append(part)
            return np.array([[len(text), texts.index(text)] for text in part], np.float32)

    monkeypatch.setattr(embed, "make_encoder", lambda *_: Lengths())
    embed.run(configured(encoder="lsa", shard_documents=6), place)
    assert asked == [texts[:6], texts[6:12], texts[12:18], texts[18:]]
    assert place.embeddings.read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_what_python_holds_does_not_grow_with_the_catalogue(tmp_path, monkeypatch):
    monkeypatch.setattr("catid2_jax.data.corpus._ROWS_AT_ONCE", 200)

    class Ones(Encoder):
        key = "ones"

        def encode(self, texts):
            return np.ones((len(texts), 2), np.float32)

    monkeypatch.setattr(embed, "make_encoder", lambda *_: Ones())
    peaks = []
    for count in (100, 200, 1000):
        place = shared_place(tmp_path / f"{count}")
        products = (Product(f"p{n}", "a title " * 9, "text " * 80, ("a",)) for n in range(count))
        write_columns(place.workdir.catalog, enumerate(products))
        tracemalloc.start()
        embed.run(configured(encoder="lsa", shard_documents=100), place)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    texts = 500 * 800  # bytes of those of 800 products
    assert peaks[2] - peaks[1] < texts / 4


def test_queries_become_vectors_too(place, t5):
    queries = {"train": ["red shoe"], "test": ["kettle", "a lamp for the garden"]}
    for split, texts in queries.items():
        path = place.workdir.queries(split)
        write_queries(path, [Query(f"q{i}", text) for i, text in enumerate(texts)])
    embed.run(configured(path=str(t5)), place)
    for split, texts in queries.items():
        expected, tokens = encoded(texts, t5)
        np.testing.assert_allclose(np.load(place.query_vectors(split)), expected, atol=1e-5)
        figures = json.loads(place.figures("embed").read_text())
        assert figures[f"{split}_queries"] == len(texts)
        assert figures[f"{split}_queries_tokens"] == tokens.sum()
    assert not place.query_vectors("dev").exists()


def test_what_is_cut_is_counted_and_said(place, t5, spiece, capsys):
    embed.run(configured(path=str(t5), field_characters=90), place)
    vocabulary = Vocabulary(spiece, 0, 0)
    texts = [
        "red shoe. cotton. garden > hose",
        "steel kettle. tea > mug",
        ("tea " * 30)[:90] + ". mug. garden > lamp",
    ]
    tokens = [len(vocabulary.text_ids(text)) + 1 for text in texts]
    assert max(tokens[:2]) <= 24 < tokens[2]
    assert json.loads(place.figures("embed").read_text()) == {
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
    place, t5, tmp_path, monkeypatch
):
    other = random_checkpoint(UNTIED)
    other.params["token_embedder/embedding"] += 1
    write_checkpoint(tmp_path / "other", "t5x", other)
    (tmp_path / "spiece.model").write_bytes((t5 / "spiece.model").read_bytes())
    with monkeypatch.context() as patched:
        patched.setattr("catid2_jax.encoders.encoder._join", None)
        with pytest.raises(TypeError):
            embed.run(configured(path=str(t5)), place)
    assert len(list(place.vectors.glob("embeddings.shards/*.npz"))) == 1
    config = configured(path=str(tmp_path / "other"), vocabulary=str(tmp_path / "spiece.model"))
    embed.run(config, place)
    fresh = placed(tmp_path / "fresh")
    embed.run(config, fresh)
    assert fresh.embeddings.read_bytes() == place.embeddings.read_bytes()
    assert not list(place.vectors.glob("embeddings.shards/*.npz"))


def test_a_system_may_have_embeddings_of_its_own(place, t5, tmp_path):
    """They go to its folder; the shared ones stay."""
    write_queries(place.workdir.queries("test"), [Query("q", "kettle")])
    embed.run(configured(path=str(t5)), place)
    shared = place.embeddings.read_bytes()
    own = dataclasses.replace(place, folder=tmp_path / "own", vectors=tmp_path / "own")
    embed.run(configured(path=str(t5), with_categories=False), own)
    assert place.embeddings.read_bytes() == shared
    expected, _ = encoded(["red shoe. cotton", "steel kettle"], t5)
    np.testing.assert_allclose(np.load(tmp_path / "own/embeddings.npy")[:2], expected, atol=1e-5)
    assert (tmp_path / "own/query_vectors.test.npy").exists()


def test_what_is_missing_or_does_not_fit(place, t5, spiece, tmp_path):
    def refused(where, found, expected, **fields):
        with pytest.raises(InputError) as error:
            embed.run(configured(**fields), place)
        assert error.value.where == str(where)
        assert error.value.found.startswith(found)
        assert error.value.expected.startswith(expected)
        assert not place.embeddings.exists()

    none = tmp_path / "none"
    refused(none, "no such folder", "a checkpoint", path=str(none))
    alone, small, model = tmp_path / "alone", tmp_path / "small", str(tmp_path / "x.model")
    write_checkpoint(alone, "t5x", random_checkpoint(UNTIED))
    refused(alone, "no spiece.model", "one there, or the path of a vocabulary", path=str(alone))
    refused(model, "no readable file", "a Sent", path=str(alone), vocabulary=model)
    write_checkpoint(small, "t5x", random_checkpoint(UNTIED, rows=8))
    pieces = f"{Vocabulary(spiece, 0, 0).pieces} pieces"
    expected = f"at most the 8 rows of {small}"
    refused(spiece, pieces, expected, path=str(small), vocabulary=str(spiece))
    fields = ("title", "colour")
    refused("config.embedding.fields", "'colour', which no", "some", path=str(t5), fields=fields)


def test_given_vectors_need_the_record_of_the_data(place):
    with pytest.raises(InputError) as error:
        embed.run(configured(encoder="precomputed", path="x.npy"), place)
    assert (error.value.where, error.value.found) == (str(place.workdir.data), "no prepared data")


@pytest.mark.parametrize(
    ("fields", "name", "found", "expected"),
    [
        ({"path": ""}, "path", "''", "a path, since encoder is 't5'"),
        ({"encoder": "lsa", "path": "x"}, "path", "'x'", "none, since encoder is 'lsa'"),
        (
            {"encoder": "precomputed", "vocabulary": "v"},
            "vocabulary",
            "'v'",
            "none, since encoder is 'precomputed'",
        ),
        ({"fields": ()}, "fields", "() with with_categories = True", "one field or more"),
        (
            {"fields": ("title", "title")},
            "fields",
            "('title', 'title') with",
            "one field or more, each once",
        ),
        (
            {"fields": ("categories",), "with_categories": False},
            "fields",
            "('categories',) with with_categories = False",
            "one field or more",
        ),
        ({"max_tokens": 1}, "max_tokens", "1", "at least 2"),
        ({"shard_documents": 0}, "shard_documents", "0", "at least 1"),
    ],
)
def test_configurations_that_say_nothing(fields, name, found, expected):
    with pytest.raises(InputError) as error:
        configured(**{"path": "x"} | fields)
    assert error.value.where == f"config.embedding.{name}"
    assert error.value.found.startswith(found)
    assert error.value.expected.startswith(expected)
