"""Batches and shards, with an encoder whose vectors are known without one."""

import collections
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

from catid2_jax.encoders.encoder import embed_in_shards, encode_texts, fingerprint
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

    def encode(self, items, rows, width):
        if len(self.shapes) == self.breaks_after:
            raise RuntimeError("killed")
        self.shapes.append((rows, width))
        self.seen.update(items)
        assert 0 < len(items) <= rows
        assert max(min(len(text.split()), self.max_tokens) for text in items) <= width
        return vectors(items)


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


def test_a_text_that_has_no_vector(monkeypatch):
    encoder = Words()
    monkeypatch.setattr(encoder, "encode", lambda items, *_: np.full((len(items), 2), np.nan))
    with pytest.raises(InputError, match="NaN or infinity in the vector of 'a b', expected finite"):
        encode_texts(["x", "a b"], encoder, 16)


def npy(array, path):
    np.save(path, array)
    return path.read_bytes()


def test_a_run_that_broke_goes_on_to_the_same_bytes(tmp_path):
    output = tmp_path / "embeddings.npy"
    with pytest.raises(RuntimeError, match="killed"):
        embed_in_shards(TEXTS, Words(breaks_after=11), output, 64, 8)
    assert not output.exists()
    done = len(list((tmp_path / "embeddings.shards").glob("*.npz")))
    assert 1 < done < 7
    again = Words()
    tokens = embed_in_shards(TEXTS, again, output, 64, 8)
    assert again.seen == collections.Counter(TEXTS[8 * done :])
    np.testing.assert_array_equal(tokens, WORDS)
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.npy"]
    assert output.read_bytes() == npy(vectors(TEXTS), tmp_path / "expected.npy")


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path):
    script = """
import os, pathlib, signal, sys
from catid2_jax.encoders.encoder import embed_in_shards
from tests.encoders.test_encoder import TEXTS, Words, vectors

class Killed(Words):
    def encode(self, items, rows, width):
        if TEXTS[30] in items:
            os.kill(os.getpid(), signal.SIGKILL)
        return vectors(items)

embed_in_shards(TEXTS, Killed(), pathlib.Path(sys.argv[1]), 64, 8)
"""
    output = tmp_path / "embeddings.npy"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    killed = subprocess.run([sys.executable, "-c", script, output], cwd=ROOT, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.shards"]
    again = Words()
    embed_in_shards(TEXTS, again, output, 64, 8)
    assert again.seen == collections.Counter(TEXTS[24:])
    assert output.read_bytes() == npy(vectors(TEXTS), tmp_path / "expected.npy")


def interrupted(output):
    """Leaves the shards of all texts and no result."""
    encoder = Words()

    def stop(items, rows, width):
        if TEXTS[-1] in items:
            raise RuntimeError("killed")
        return vectors(items)

    encoder.encode = stop
    with pytest.raises(RuntimeError, match="killed"):
        embed_in_shards(TEXTS, encoder, output, 64, 8)


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
    embed_in_shards(texts, encoder, output, 64, 8)
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
    embed_in_shards(TEXTS, encoder, output, 64, changes.get("shard", 8))
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
