"""Words and character n-grams as a vector of fixed width, by feature hashing; nothing is learnt.

A sentence encoder's vector says what a text is about and hardly which words it has: codes, sizes
and rare names are lost in it. Beside it these features tell a network the words.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize

from catid2_jax.data.words import without_accents, words

NGRAMS = (3, 5)
"""Lengths of the character n-grams, within words and the spaces around them, as fastText has."""


def hashed_words(texts: Sequence[str], width: int) -> np.ndarray:
    """Signed hashed features of texts (Weinberger et al., 2009).

    Half of a vector's squared length is that of the words, half that of the n-grams, before both
    are added into the same features.

    Args:
        texts: N texts.
        width: F, the number of features.

    Returns:
        float32 [N, F], each row by its text alone and of unit norm; zeros for a blank text.
    """
    of_words = HashingVectorizer(n_features=width, analyzer=_words)
    of_ngrams = HashingVectorizer(
        n_features=width, analyzer="char_wb", ngram_range=NGRAMS, preprocessor=_plain
    )
    both = of_words.transform(texts) + of_ngrams.transform(texts)
    return np.asarray(normalize(both).toarray(), np.float32)


def _plain(text: str) -> str:
    return without_accents(text.lower())


def _words(text: str) -> list[str]:
    return words(_plain(text))
