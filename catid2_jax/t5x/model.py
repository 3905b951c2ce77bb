"""A model for T5X that predicts products of the catalogue."""

import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import Any

import jax
import jax.numpy as jnp
from gin.config import config_str
from t5x import decoding, models
from t5x.examples.t5 import network

from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.vocabulary import PAD, CodeVocabulary
from catid2_jax.errors import InputError
from catid2_jax.models.t5.config import T5Config
from catid2_jax.models.t5.network import Transformer
from catid2_jax.seq2seq.decoder import NormalizeOver, T5Decoder
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.t5x.tasks import table
from catid2_jax.t5x.vocabulary import IdVocabulary


class RetrievalModel(models.EncoderDecoderModel):
    """T5X's encoder-decoder, its predictions made by the constrained search.

    Training and scoring are T5X's. The network of the search takes the same parameters and gives
    the same logits, but shares the encoder's output among the beams.
    """

    def __init__(
        self,
        module: Any,
        input_vocabulary: IdVocabulary,
        output_vocabulary: IdVocabulary,
        optimizer_def: Any,
        workdir: str,
        normalize_over: NormalizeOver = "full",
        system: str = "",
        **options: Any,
    ) -> None:
        """Builds the trie of the catalogue.

        Args:
            module: a `t5x.examples.t5.network.Transformer`.
            input_vocabulary: the vocabulary of queries.
            output_vocabulary: the vocabulary of IDs.
            optimizer_def: T5X's optimizer.
            workdir: the work directory whose products may be found.
            normalize_over: what a code competes with for probability, see
                `catid2_jax.seq2seq.decoder.NormalizeOver`.
            system: the system whose IDs the products have, see `catid2_jax.t5x.tasks`.
            **options: other arguments of `EncoderDecoderModel`.

        Raises:
            InputError: another network, IDs that are not of the vocabulary, or IDs that differ in
                length.
        """
        refuse_scalable()
        super().__init__(module, input_vocabulary, output_vocabulary, optimizer_def, **options)
        ids, codes = output_vocabulary.ids, table(workdir, system).codes
        self._decoder, self._normalize_over = same_decoder(module, ids), normalize_over
        self._trie = build_trie(codes, ids.codebook_size)
        self._tokens = jnp.asarray(ids.encode_codes(codes))

    def predict_batch_with_aux(
        self,
        params: Any,
        batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None,
        decoder_params: MutableMapping[str, Any] | None = None,
        return_all_decodes: bool | None = None,
        num_decodes: int | None = None,
        prompt_with_targets: bool = False,
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """Finds the IDs of the best products, and their scores.

        Args:
            params: parameters of the network.
            batch: holds `encoder_input_tokens` [B, S]; the rest is not looked at.
            rng: not used: nothing is drawn.
            decoder_params: not used.
            return_all_decodes: whether all products are returned, or the best one.
            num_decodes: M, the number of beams and of products.
            prompt_with_targets: must be False.

        Returns:
            Tokens [B, M, L], worst product first as T5X wants it, and `scores` [B, M]: the sum of
            the codes' log-probabilities. If the catalogue has fewer products, the first are
            padding, with T5X's score for none. Without all decodes, [B, L] and [B].

        Raises:
            InputError: a prompt is asked for.
        """
        if prompt_with_targets:
            raise InputError("prompt_with_targets", True, "False: an ID has no prompt")
        defaults = self._default_decoder_params
        beams = defaults.num_decodes if num_decodes is None else num_decodes
        if return_all_decodes is None:
            return_all_decodes = defaults.return_all_decodes
        found = retrieve(
            self._decoder,
            params,
            batch["encoder_input_tokens"],
            self._trie,
            beams=beams,
            k=beams,
            normalize_over=self._normalize_over,
        )
        documents = found.documents[:, ::-1]
        exists = documents >= 0
        decodes = jnp.where(exists[..., None], self._tokens[documents], PAD)
        scores = jnp.where(exists, found.scores[:, ::-1], decoding.NEG_INF_VALUE)
        if return_all_decodes:
            return decodes, {"scores": scores}
        return decodes[:, -1], {"scores": scores[:, -1]}


def refuse_scalable() -> None:
    """Raises InputError where gin files of `scalable_t5` say the shape.

    They set the shape of a network of that name, so that the one of `t5x.examples.t5`, which is
    trained, would have the shape of its defaults.
    """
    if "scalable_t5" in config_str():
        raise InputError(
            "gin",
            "a model of t5x/examples/scalable_t5",
            "one of gin/models, or of examples/t5",
        )


def same_network(module: Any) -> Transformer:
    """Makes the package's network of the same parameters as T5X's.

    Args:
        module: a `t5x.examples.t5.network.Transformer`.

    Raises:
        InputError: another network.
    """
    if not isinstance(module, network.Transformer):
        raise InputError(
            "module",
            f"{type(module).__module__}.{type(module).__name__}",
            "t5x.examples.t5.network.Transformer",
        )
    theirs = dataclasses.asdict(module.config)
    shared = {f.name: theirs[f.name] for f in dataclasses.fields(T5Config) if f.name in theirs}
    shared["dtype"] = jnp.dtype(shared["dtype"]).name
    shared["mlp_activations"] = tuple(shared["mlp_activations"])
    return Transformer(T5Config(**shared), module.config.vocab_size)


def same_decoder(module: Any, ids: CodeVocabulary) -> T5Decoder:
    """Makes the package's decoder of the same parameters as T5X's network.

    Args:
        module: a `t5x.examples.t5.network.Transformer`.
        ids: the ID tokens.

    Raises:
        InputError: another network, or one whose vocabulary ends before the last ID token.
    """
    found = same_network(module)
    shape = (ids.first_id_token, ids.levels, ids.codebook_size)
    return T5Decoder(found.config, found.vocabulary_size, *shape)
