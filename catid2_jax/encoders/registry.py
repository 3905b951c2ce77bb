"""The encoders by name. One more is one module and one row here, or a dotted path of your own."""

from collections.abc import Mapping

from catid2_jax.encoders.config import EmbeddingConfig
from catid2_jax.encoders.encoder import Encoder
from catid2_jax.plugins import construct, resolve

ENCODERS: Mapping[str, str] = {
    "lsa": "catid2_jax.encoders.lsa:from_config",
    "t5": "catid2_jax.encoders.t5:from_config",
    "sentence_transformers": "catid2_jax.encoders.sentence_transformers:from_config",
}
"""Short name -> function of the section `embedding` and the seed that makes the encoder."""


def make_encoder(section: EmbeddingConfig, seed: int = 0) -> Encoder:
    """The configured encoder.

    Args:
        section: its name and settings.
        seed: seed of an encoder that draws.

    Raises:
        InputError: no such encoder, or what it needs (a checkpoint, a vocabulary, a package) is
            missing.
    """
    if section.encoder in ENCODERS:
        return resolve(section.encoder, ENCODERS, "encoder")(section, seed)
    encoder = resolve(section.encoder, ENCODERS, "encoder", ("encode_and_count", "for_queries"))
    return construct(encoder, "encoder", **section.options)
