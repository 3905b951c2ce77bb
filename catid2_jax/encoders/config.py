"""How documents become vectors: the configuration's section `embedding`."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from catid2_jax.constraints import LocalPath, NonNegativeInt, PositiveInt, at_least, check_fields
from catid2_jax.data.catalog import PRODUCT_FIELDS
from catid2_jax.errors import InputError

PRECOMPUTED = "precomputed"
"""The encoder's name where the vectors are given."""

SPLITS = ("train", "dev", "test")


@dataclasses.dataclass(frozen=True)
class EmbeddingConfig:
    """How documents become vectors.

    Attributes:
        encoder: "lsa" (TF-IDF and truncated SVD; needs no weights), "t5" (mean of the encoder's
            last hidden states), "sentence_transformers" (a model of that library), "precomputed"
            (your own vectors), or the dotted path of an encoder of your own.
        path: for "t5", a checkpoint in T5X's or Hugging Face's form or a work directory; for
            "sentence_transformers", a model's folder or name; for "precomputed", an .npy file of
            [documents, width] in the catalogue's order.
        vocabulary: SentencePiece model for "t5"; empty takes the one beside its checkpoint.
        train_query_vectors: .npy of [queries, width], a row per line of `data.train_queries`, made
            by the encoder that made `path`. Only for "precomputed", and needed where stage 2 reads
            vectors (`t5.memory_tokens`) and not words alone: network encoders make query vectors
            themselves.
        dev_query_vectors: .npy of [queries, width], a row per line of `data.dev_queries`.
        test_query_vectors: .npy of [queries, width], a row per line of `data.test_queries`; the
            system "clusters" needs it too.
        dim: width of "lsa".
        fields: the fields that make up a document's text, in order: "title", "text", "categories",
            and any further field of the catalogue.
        with_categories: whether the category path is part of the text (Table 4); False leaves it
            out whatever `fields` says.
        field_characters: cuts each field by itself at this length, so that a long field does not
            push those after it beyond `max_tokens`; 0 keeps fields whole.
        max_tokens: cuts longer texts; a sentence-transformers model's own limit holds if it is
            lower. How many texts are cut is reported.
        batch_tokens: tokens of a batch, padding included; short texts make larger batches.
        shard_documents: documents per shard on disk; a killed run goes on after the last shard.
        options: arguments of an encoder of your own, by name.
    """

    encoder: str = "lsa"
    path: LocalPath = ""
    vocabulary: LocalPath = ""
    train_query_vectors: LocalPath = ""
    dev_query_vectors: LocalPath = ""
    test_query_vectors: LocalPath = ""
    dim: PositiveInt = 256
    fields: tuple[str, ...] = PRODUCT_FIELDS
    with_categories: bool = True
    field_characters: NonNegativeInt = 0
    max_tokens: Annotated[int, at_least(2)] = 256
    batch_tokens: PositiveInt = 16_384
    shard_documents: PositiveInt = 2048
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        needs_path = self.encoder in ("t5", "sentence_transformers", PRECOMPUTED)
        if needs_path and not self.path:
            raise InputError("path", "''", f"a path, since encoder is {self.encoder!r}")
        if self.path and not needs_path:
            raise InputError("path", repr(self.path), f"none, since encoder is {self.encoder!r}")
        if self.vocabulary and self.encoder != "t5":
            raise InputError(
                "vocabulary", repr(self.vocabulary), f"none, since encoder is {self.encoder!r}"
            )
        for split in SPLITS:
            name = f"{split}_query_vectors"
            if getattr(self, name) and self.encoder != PRECOMPUTED:
                raise InputError(
                    name,
                    f"{getattr(self, name)!r} with encoder {self.encoder!r}",
                    f"{PRECOMPUTED!r}, since one encoder makes all vectors",
                )
        if not self.text_fields or len(set(self.fields)) < len(self.fields):
            raise InputError(
                "fields",
                f"{self.fields} with with_categories = {self.with_categories}",
                "one field or more, each once",
            )

    @property
    def has_query_vectors(self) -> bool:
        """Whether the training queries have vectors: made by the encoder, or given."""
        return self.encoder != "lsa" and (
            self.encoder != PRECOMPUTED or bool(self.train_query_vectors)
        )

    @property
    def text_fields(self) -> tuple[str, ...]:
        """`fields` as `with_categories` leaves them."""
        return tuple(name for name in self.fields if self.with_categories or name != "categories")
