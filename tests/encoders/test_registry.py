"""Encoders by name, and what one of one's own has without writing it."""

import dataclasses

import numpy as np
import pytest

from catid2_jax.encoders.config import PRECOMPUTED, EmbeddingConfig
from catid2_jax.encoders.encoder import Encoder, embed_in_shards
from catid2_jax.encoders.registry import ENCODERS, make_encoder
from catid2_jax.errors import InputError
from catid2_jax.plugins import resolve


class Lengths(Encoder):
    """The least that an encoder has."""

    def encode(self, texts):
        return np.array([[len(text), 1.0] for text in texts])


@pytest.mark.parametrize("name", ENCODERS)
def test_every_row_is_a_function_of_the_section_and_the_seed(name):
    make = resolve(name, ENCODERS, "encoder")
    assert make.__module__.startswith("catid2_jax.encoders.")
    assert list(make.__annotations__.values())[:2] == [EmbeddingConfig, int]


@pytest.mark.parametrize("name", ["t5", "sentence_transformers"])
def test_what_a_network_needs_is_said(tmp_path, name):
    with pytest.raises(InputError):
        make_encoder(EmbeddingConfig(name, path=str(tmp_path / "nowhere")))


def test_given_vectors_have_no_encoder():
    with pytest.raises(InputError) as error:
        make_encoder(EmbeddingConfig(PRECOMPUTED, path="embeddings.npy"))
    assert (error.value.where, error.value.found) == ("encoder", "'precomputed'")
    assert error.value.expected == f"one of {', '.join(ENCODERS)}, or package.module:Name"


def test_the_least_that_an_encoder_has(tmp_path):
    encoder = make_encoder(EmbeddingConfig(f"{__name__}:Lengths"))
    assert encoder.for_queries() is encoder
    assert (encoder.key, encoder.max_tokens, encoder.fits_catalog) == ("", 0, False)
    vectors, tokens = encoder.encode_and_count(["a", "bcd"])
    assert vectors.tolist() == [[1, 1], [3, 1]]
    assert tokens is None
    assert embed_in_shards(["a", "bcd", "ef"], encoder, tmp_path / "vectors.npy", 2) is None
    written = np.load(tmp_path / "vectors.npy")
    assert written.tolist() == [[1, 1], [3, 1], [2, 1]]
    assert written.dtype == np.float32


def test_options_are_of_one_s_own_encoders_only():
    """The section's fields are the others'; a path is no setting of one's own."""
    section = EmbeddingConfig(f"{__name__}:Lengths")
    with pytest.raises(InputError) as error:
        make_encoder(dataclasses.replace(section, options={"dim": 3}))
    assert (error.value.found, error.value.expected) == ("option 'dim' for Lengths", "none")
    with pytest.raises(InputError) as error:
        dataclasses.replace(section, path="model")
    assert error.value.where == "path"
