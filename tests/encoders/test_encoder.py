"""Batches and shards, with an encoder whose vectors are known without one."""

import collections
import dataclasses
import hashlib
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.encoders.config import EmbeddingConfig
from catid2_jax.encoders.encoder import (
    BatchedEncoder,
    Encoder,
    check_vectors,
    embed_in_shards,
    encode_texts,
    fingerprint,
)
from catid2_jax.encoders.lsa import LsaEncoder
from catid2_jax.encoders.registry import ENCODERS, make_encoder
from catid2_jax.errors import InputError

ROOT = pathlib.Path(__file__).parent.parent.parent
WORDS = np.random.default_rng(0).integers(1, 40, 50)
TEXTS = [" ".join(f"{i}-{j}" for j in range(words)) for i, words in enumerate(WORDS)]


def vector(text):
    """Three numbers that only this text has."""
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:12], np.uint32) / 2.0**32


def vectors(texts):
    return np.array([vector(text) for text in texts], np.float32)


class Words:
    """A token is a word. Notes what it was asked; breaks after some batches."""

    def __init__(self, key="words", max_tokens=20, breaks_after=None):
        self.key, self.max_tokens, self.breaks_after = key, max_tokens, breaks_after
        self.seen, self.shapes = collections.Counter(), []

    def tokenize(self, texts):
        return texts, np.array([len(text.split()) for text in texts])

    def encode_batch(self, items, rows, width):
        if len(self.shapes) == self.breaks_after:
            raise RuntimeError("killed")
        self.shapes.append((rows, width))
        self.seen.update(items)
        assert 0 < len(items) <= rows
        assert max(min(len(text.split()), self.max_tokens) for text in items) <= width
        return vectors(items)

    def for_queries(self):
        return Words(f"{self.key} of queries", self.max_tokens)


def embed(texts, network, output, shard_documents, batch_tokens=64):
    return embed_in_shards(texts, BatchedEncoder(network, batch_tokens), output, shard_documents)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=60),
    st.integers(2, 300),
    st.integers(1, 5000),
)
def test_every_text_is_encoded_once_in_few_shapes_that_keep_to_the_size(
    lengths, max_tokens, batch_tokens
):
    texts = [f"{i} " + "x " * (length - 1) if length else "" for i, length in enumerate(lengths)]
    encoder = Words(max_tokens=max_tokens)
    found, tokens = encode_texts(texts, encoder, batch_tokens)
    np.testing.assert_array_equal(found, vectors(texts))
    assert tokens.tolist() == [len(text.split()) for text in texts]
    assert encoder.seen == collections.Counter(texts)
    assert all(rows * width <= batch_tokens or rows == 1 for rows, width in encoder.shapes)
    assert max(width for _, width in encoder.shapes) <= max_tokens
    assert len(set(encoder.shapes)) <= 10  # of 300 lengths


def test_texts_of_like_length_share_a_batch():
    encoder = Words(max_tokens=1000)
    encode_texts(["x"] * 100 + ["y " * 900], encoder, 1600)
    assert encoder.shapes == [(1, 1000), (100, 16)]


def test_the_batches_of_an_encoder_are_those_of_its_network():
    network = Words(max_tokens=1000)
    encoder = BatchedEncoder(network, 1600)
    texts = ["x"] * 100 + ["y " * 900]
    found, tokens = encoder.encode_and_count(texts)
    np.testing.assert_array_equal(found, vectors(texts))
    assert tokens.tolist() == [1] * 100 + [900]
    np.testing.assert_array_equal(encoder.encode(texts), found)
    assert network.shapes == 2 * [(1, 1000), (100, 16)]
    assert (encoder.key, encoder.max_tokens, encoder.fits_catalog) == ("words", 1000, False)
    queries = encoder.for_queries()
    assert (queries.key, queries.batch_tokens) == ("words of queries", 1600)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_text_that_has_no_vector(tmp_path, monkeypatch, bad):
    network = Words()

    def encode(items, *_):
        return np.array([[1.0, bad if text == "a b" else 2.0] for text in items])

    monkeypatch.setattr(network, "encode_batch", encode)
    with pytest.raises(InputError) as error:
        embed(["x", "a b", "c"], network, tmp_path / "x.npy", 8)
    assert error.value.where == "encoder"
    assert error.value.found == "NaN or infinity in the vector of 'a b'"
    assert error.value.expected == "finite numbers: another encoder"
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, 3)), "float64 (2, 3) for 3 texts"),
        (np.zeros(3), "float64 (3,) for 3 texts"),
        (np.zeros((3, 2), int), "int64 (3, 2) for 3 texts"),
        (np.array([["a"], ["b"], ["c"]]), "<U1 (3, 1) for 3 texts"),
    ],
)
def test_what_is_no_vector_per_text(array, found):
    with pytest.raises(InputError) as error:
        check_vectors(array, ["a", "b", "c"])
    assert (error.value.found, error.value.expected) == (found, "floats [3, width]")


def test_vectors_become_float32():
    given = np.array([[1, 2], [3, 4]], np.float16)
    found = check_vectors(given.tolist(), ["a", "b"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, given)


class Own(Encoder):
    """An encoder that a user writes: `encode` and no more. Notes what it was asked."""

    def __init__(self, width=3, key=""):
        self.width, self.key, self.seen = width, key, []

    def encode(self, texts):
        self.seen.append(list(texts))
        return vectors(texts)[:, : self.width]


class Fitted(Own):
    fits_catalog = True


def test_an_encoder_that_counts_no_tokens(tmp_path):
    encoder = Own()
    assert embed_in_shards(TEXTS[:5], encoder, tmp_path / "x.npy", 2) is None
    assert encoder.seen == [TEXTS[:2], TEXTS[2:4], TEXTS[4:5]]
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), vectors(TEXTS[:5]))
    assert encoder.for_queries() is encoder


def test_an_encoder_that_learns_from_the_catalogue_sees_all_of_it(tmp_path):
    encoder = Fitted()
    embed_in_shards(TEXTS, encoder, tmp_path / "x.npy", 2)
    assert encoder.seen == [TEXTS]
    assert LsaEncoder(4, 0).fits_catalog


@pytest.mark.parametrize(("key", "kept"), [("", False), ("own", True)])
def test_shards_of_an_encoder_without_a_key_are_never_taken(tmp_path, key, kept):
    class Breaking(Own):
        def encode(self, texts):
            if TEXTS[4] in texts:
                raise RuntimeError("killed")
            return super().encode(texts)

    with pytest.raises(RuntimeError, match="killed"):
        embed_in_shards(TEXTS[:6], Breaking(key=key), tmp_path / "x.npy", 2)
    encoder = Own(key=key)
    embed_in_shards(TEXTS[:6], encoder, tmp_path / "x.npy", 2)
    assert encoder.seen == [TEXTS[n : n + 2] for n in (0, 2, 4)][2 * kept :]
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), vectors(TEXTS[:6]))


def test_encoders_by_name():
    encoder = make_encoder(EmbeddingConfig(dim=5), seed=7)
    assert isinstance(encoder, LsaEncoder)
    assert (encoder.dim, encoder.seed) == (5, 7)
    own = make_encoder(EmbeddingConfig(f"{__name__}:Own", options={"width": 2}))
    assert own.encode(TEXTS[:4]).shape == (4, 2)
    assert set(ENCODERS) == {"lsa", "t5", "sentence_transformers"}


@pytest.mark.parametrize(
    ("encoder", "options", "found"),
    [
        ("bert", {}, "'bert'"),
        ("Words", {}, "'{here}:Words' without encode_and_count"),
        ("Own", {"wide": 2}, "option 'wide' for Own"),
        ("Nobody", {}, "no 'Nobody' in {here}"),
    ],
)
def test_encoders_that_there_are_not(encoder, options, found):
    name = encoder if encoder == "bert" else f"{__name__}:{encoder}"
    with pytest.raises(InputError) as error:
        make_encoder(EmbeddingConfig(name, options=options))
    assert (error.value.where, error.value.found) == ("encoder", found.format(here=__name__))


def npy(array, path):
    np.save(path, array)
    return path.read_bytes()


def test_a_run_that_broke_goes_on_to_the_same_bytes(tmp_path):
    output = tmp_path / "embeddings.npy"
    with pytest.raises(RuntimeError, match="killed"):
        embed(TEXTS, Words(breaks_after=11), output, 8)
    assert not output.exists()
    done = len(list((tmp_path / "embeddings.shards").glob("*.npz")))
    assert 1 < done < 7
    again = Words()
    counts = embed(TEXTS, again, output, 8)
    assert again.seen == collections.Counter(TEXTS[8 * done :])
    assert dataclasses.asdict(counts) == {
        "tokens": sum(WORDS),
        "tokens_cut": sum(words - 20 for words in WORDS if words > 20),
        "texts_cut": sum(words > 20 for words in WORDS),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.npy"]
    assert output.read_bytes() == npy(vectors(TEXTS), tmp_path / "expected.npy")


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path):
    script = """
import os, pathlib, signal, sys
from tests.encoders.test_encoder import TEXTS, Words, embed, vectors

class Killed(Words):
    def encode_batch(self, items, rows, width):
        if TEXTS[30] in items:
            os.kill(os.getpid(), signal.SIGKILL)
        return vectors(items)

embed(TEXTS, Killed(), pathlib.Path(sys.argv[1]), 8)
"""
    output = tmp_path / "embeddings.npy"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    killed = subprocess.run([sys.executable, "-c", script, output], cwd=ROOT, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.shards"]
    again = Words()
    embed(TEXTS, again, output, 8)
    assert again.seen == collections.Counter(TEXTS[24:])
    assert output.read_bytes() == npy(vectors(TEXTS), tmp_path / "expected.npy")


def interrupted(output):
    """Leaves the shards of all texts and no result."""
    encoder = Words()

    def stop(items, rows, width):
        if TEXTS[-1] in items:
            raise RuntimeError("killed")
        return vectors(items)

    encoder.encode_batch = stop
    with pytest.raises(RuntimeError, match="killed"):
        embed(TEXTS, encoder, output, 8)


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        (lambda texts: texts, TEXTS[48:]),
        (lambda texts: ["other", *texts[1:]], ["other", *TEXTS[1:8], *TEXTS[48:]]),
        (lambda texts: texts[:16], []),
        (lambda texts: ["new", *texts], ["new", *TEXTS]),
        (lambda texts: texts[::-1], TEXTS),
    ],
)
def test_shards_of_another_catalogue_are_made_anew(tmp_path, change, redone):
    output = tmp_path / "embeddings.npy"
    interrupted(output)
    encoder, texts = Words(), change(TEXTS)
    embed(texts, encoder, output, 8)
    assert encoder.seen == collections.Counter(redone)
    np.testing.assert_array_equal(np.load(output), vectors(texts))


@pytest.mark.parametrize("changes", [{"key": "others"}, {"shard": 9}, {"damage": True}])
def test_shards_of_another_encoder_or_size_or_damaged_ones_are_made_anew(tmp_path, changes):
    output = tmp_path / "embeddings.npy"
    interrupted(output)
    if "damage" in changes:
        for path in (tmp_path / "embeddings.shards").iterdir():
            path.write_bytes(path.read_bytes()[:-20])
    encoder = Words(key=changes.get("key", "words"))
    embed(TEXTS, encoder, output, changes.get("shard", 8))
    assert encoder.seen == collections.Counter(TEXTS)
    np.testing.assert_array_equal(np.load(output), vectors(TEXTS))


def test_a_fingerprint_is_of_all_that_goes_in():
    parts = [
        (b"ab", b"c"),
        (b"a", b"bc"),
        (b"abc",),
        (np.zeros(2, np.float32),),
        (np.zeros((2, 1), np.float32),),
        (np.zeros(1, np.float64),),
        (np.array([0, 1], np.float32),),
    ]
    assert len({fingerprint(*part) for part in parts}) == len(parts)
    assert fingerprint(np.eye(3)[::2]) == fingerprint(np.eye(3)[[0, 2]])
