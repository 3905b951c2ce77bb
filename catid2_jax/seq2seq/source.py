"""What stage 2 reads of a query or a product: its text or its vector, chosen once.

Whoever trains, searches or exports asks the source and does not look at which it is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.preprocessing import normalize

from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.vocabulary import CodeVocabulary, Vocabulary
from catid2_jax.encoders.encoder import check_vectors
from catid2_jax.encoders.hashed_words import hashed_words
from catid2_jax.errors import InputError
from catid2_jax.progress import console

_TEXTS_AT_ONCE = 4096  # what the tokenizer says of a text takes kilobytes


class Source(Protocol):
    """The form in which the network reads queries and products."""

    @property
    def vocabulary(self) -> CodeVocabulary:
        """The ID tokens, and the text's where there is text."""
        ...

    @property
    def form(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one source, without the batch."""
        ...

    @property
    def described(self) -> str:
        """What the sources are, in words."""
        ...

    @property
    def reads_texts(self) -> bool:
        """Whether it can read texts whose vectors are not given."""
        ...

    def of_queries(
        self, texts: Sequence[str], vectors: np.ndarray | None = None, name: str = "queries"
    ) -> np.ndarray:
        """Sources of queries, [Q, *form.shape].

        Args:
            texts: the queries.
            vectors: float [Q, D] where they are known; not used by a source of text.
            name: what the texts are, for messages.
        """
        ...

    def of_products(self, corpus: Corpus) -> np.ndarray:
        """Sources that stand for the products themselves, [N, *form.shape]."""
        ...


@dataclasses.dataclass(frozen=True)
class TextSource:
    """SentencePiece tokens of a query, or of a product's title.

    Attributes:
        vocabulary: text and ID tokens.
        length: S; longer texts are cut, which is reported.
    """

    vocabulary: Vocabulary
    length: int

    @property
    def form(self) -> jax.ShapeDtypeStruct:
        """int32 [S]."""
        return jax.ShapeDtypeStruct((self.length,), jnp.int32)

    @property
    def described(self) -> str:
        """How many text ids there are."""
        return f"texts, {self.vocabulary.first_id_token:,} text ids"

    @property
    def reads_texts(self) -> bool:
        """True."""
        return True

    def of_queries(
        self, texts: Sequence[str], vectors: np.ndarray | None = None, name: str = "queries"
    ) -> np.ndarray:
        """Tokens of texts, int32 [Q, S], padded with 0."""
        tokens, cut = self.vocabulary.encode_and_count(list(texts), self.length)
        _report_cut(cut, len(texts), name, self.length)
        return tokens

    def of_products(self, corpus: Corpus) -> np.ndarray:
        """Tokens of the titles, int32 [N, S]."""
        return self.of_queries(corpus.catalog.titles, name="titles")


@dataclasses.dataclass(frozen=True)
class WordPieceSource:
    """WordPiece tokens of a query, or of a product's title, with BERT's [CLS] and [SEP].

    Attributes:
        vocabulary: the ID tokens; those of text have ids of their own.
        tokenizer: a `tokenizers.Tokenizer`, which from now on cuts and pads to `length`.
        length: S; longer texts are cut, which is reported.
    """

    vocabulary: CodeVocabulary
    tokenizer: Any
    length: int

    def __post_init__(self) -> None:
        self.tokenizer.enable_truncation(self.length)
        self.tokenizer.enable_padding(length=self.length)

    @property
    def form(self) -> jax.ShapeDtypeStruct:
        """int32 [S]."""
        return jax.ShapeDtypeStruct((self.length,), jnp.int32)

    @property
    def described(self) -> str:
        """How many WordPiece tokens there are."""
        return f"texts, {self.tokenizer.get_vocab_size():,} WordPiece tokens"

    @property
    def reads_texts(self) -> bool:
        """True."""
        return True

    def of_queries(
        self, texts: Sequence[str], vectors: np.ndarray | None = None, name: str = "queries"
    ) -> np.ndarray:
        """Tokens of texts, int32 [Q, S], padded with 0."""
        tokens, cut = np.zeros((len(texts), self.length), np.int32), 0
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            found = self.tokenizer.encode_batch_fast(list(texts[start : start + _TEXTS_AT_ONCE]))
            tokens[start : start + len(found)] = [text.ids for text in found]
            cut += sum(bool(text.overflowing) for text in found)
        _report_cut(cut, len(texts), name, self.length)
        return tokens

    def of_products(self, corpus: Corpus) -> np.ndarray:
        """Tokens of the titles, int32 [N, S]."""
        return self.of_queries(corpus.catalog.titles, name="titles")


@dataclasses.dataclass(frozen=True)
class VectorSource:
    """A vector of a query, or a product's own embedding, or hashed words, or both together.

    Attributes:
        vocabulary: the ID tokens.
        width: D; 0 for words alone.
        encode: makes vectors of texts whose vectors are not given; None where only given ones do.
        word_features: F, hashed words of the query or of the product's title; 0 for none.
    """

    vocabulary: CodeVocabulary
    width: int
    encode: Callable[[Sequence[str]], np.ndarray] | None = None
    word_features: int = 0

    @property
    def form(self) -> jax.ShapeDtypeStruct:
        """float32 [D + F]."""
        return jax.ShapeDtypeStruct((self.width + self.word_features,), jnp.float32)

    @property
    def described(self) -> str:
        """That they are vectors, and how many features of words are in them."""
        words = f" {'with' if self.width else 'of'} {self.word_features:,} features of words"
        return "vectors" + (words if self.word_features else "")

    @property
    def reads_texts(self) -> bool:
        """Whether there is an encoder of texts, or their words are all that is read."""
        return self.encode is not None or not self.width

    def of_queries(
        self, texts: Sequence[str], vectors: np.ndarray | None = None, name: str = "queries"
    ) -> np.ndarray:
        """Vectors of texts, float32 [Q, D + F]: the given ones, or those that the encoder makes.

        Raises:
            InputError: none are given and there is no encoder, or they are of another shape.
        """
        if not self.width:
            return hashed_words(texts, self.word_features)
        if vectors is None:
            if self.encode is None:
                raise InputError("vectors", "none", f"a vector for each of the {name}")
            vectors = self.encode(texts)
        vectors = check_vectors(vectors, texts)
        if vectors.shape[1] != self.width:
            raise InputError(
                "vectors",
                f"vectors of width {vectors.shape[1]}",
                f"{self.width}, the width of the documents' embeddings",
            )
        return self._with_words(vectors, texts)

    def of_products(self, corpus: Corpus) -> np.ndarray:
        """The products' embeddings and their titles' words, float32 [N, D + F]."""
        if not self.width:
            return hashed_words(corpus.catalog.titles, self.word_features)
        return self._with_words(np.asarray(corpus.embeddings, np.float32), corpus.catalog.titles)

    def _with_words(self, vectors: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """The vectors, of unit length where words stand beside them, so that both count alike."""
        if not self.word_features:
            return vectors
        words = hashed_words(texts, self.word_features)
        return np.concatenate([normalize(vectors), words], axis=1)


def _report_cut(cut: int, count: int, name: str, length: int) -> None:
    if cut:
        console.print(f"{cut:,} of {count:,} {name} cut to {length} tokens")
