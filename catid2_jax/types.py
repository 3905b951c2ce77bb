"""The dimension legend, array aliases and the records every layer shares.

Dimensions, in the paper's letters where it has them:

    B  documents or queries in a batch      N  documents in the catalogue
    L  levels of a document ID (layers)     K  codes per level (codebook size)
    H  category levels used, H < L          D  width of an embedding d
    Z  width of the latent z                S  tokens of a query (source length)
    M  beams                                V  rows of the vocabulary
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from jaxtyping import Array, Float, Int

Scalar: TypeAlias = Float[Array, ""]
Embeddings: TypeAlias = Float[Array, "B D"]
Latents: TypeAlias = Float[Array, "B Z"]
Residuals: TypeAlias = Float[Array, "B L Z"]
Codes: TypeAlias = Int[Array, "B L"]
CodeProbabilities: TypeAlias = Float[Array, "B L K"]
CategoryIds: TypeAlias = Int[Array, "B H"]

Qrels: TypeAlias = dict[str, dict[str, int]]
"""Query id -> document id -> grade (E = 3, S = 2, C = 1, I = 0)."""

CategoryIdentity: TypeAlias = Literal["path", "name"]

GRADES: Mapping[str, int] = {"E": 3, "S": 2, "C": 1, "I": 0}
"""ESCI's labels: exact, substitute, complement, irrelevant."""


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """A document of the catalogue.

    Attributes:
        id: unique, not empty, no white space (it stands in TREC files).
        title: not empty.
        text: everything else worth reading; may be empty.
        categories: the category path, root first, no empty name.
        extra: further fields of the catalogue, kept as they came.
    """

    id: str
    title: str
    text: str
    categories: tuple[str, ...]
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """A query as typed; `extra` holds further fields of its file."""

    id: str
    text: str
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
