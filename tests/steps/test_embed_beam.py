"""Beam's shards are those of the verb."""

import numpy as np
import pytest

from catid2_jax.config import default_config, freeze
from catid2_jax.data.corpus import write_columns
from catid2_jax.encoders.encoder import Encoder
from catid2_jax.errors import InputError
from catid2_jax.steps import embed
from catid2_jax.types import Product
from catid2_jax.workdir import shared_place

pytestmark = pytest.mark.filterwarnings("ignore")  # Beam's own
beam = pytest.importorskip("apache_beam")

from catid2_jax.steps.embed_beam import embed_shards  # noqa: E402


class Lengths(Encoder):
    def __init__(self, key="lengths"):
        self.key = key

    def encode(self, texts):
        return np.array([[len(text), sum(map(ord, text))] for text in texts], np.float32)


class Refusing(Lengths):
    def encode(self, texts):
        raise AssertionError("a shard is made once more")


def configured(name, **options):
    config = default_config()
    config.embedding.update(encoder=f"{__name__}:{name}", shard_documents=4, options=options)
    return freeze(config)


def placed(root):
    place = shared_place(root)
    products = [Product(f"p{n}", "word " * (n % 7 + 1), f"{n}", ("a", "b")) for n in range(10)]
    write_columns(place.workdir.catalog, enumerate(products))
    return place


def test_the_verb_finds_beam_s_shards_and_gives_what_it_gives_alone(tmp_path, capsys):
    alone, place = placed(tmp_path / "alone"), placed(tmp_path / "beam")
    embed.run(configured("Lengths"), alone)
    with beam.Pipeline("DirectRunner") as pipeline:
        found = pipeline | embed_shards(configured("Lengths"), tmp_path / "beam")
        (
            found
            | beam.combiners.ToList()
            | beam.Map(lambda n: (tmp_path / "n").write_text(str(sorted(n))))
        )
    assert (tmp_path / "n").read_text() == "[2, 4, 4]"
    assert not place.embeddings.exists()
    capsys.readouterr()
    embed.run(configured("Refusing"), place)
    assert "3 of 3 shards were there already" in capsys.readouterr().out
    assert place.embeddings.read_bytes() == alone.embeddings.read_bytes()


def test_an_encoder_without_a_key_is_refused(tmp_path):
    placed(tmp_path)
    with pytest.raises(InputError) as error:
        embed_shards(configured("Lengths", key=""), tmp_path)
    assert (error.value.where, error.value.expected) == (
        "config.embedding.encoder",
        "one with a key",
    )
