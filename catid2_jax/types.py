"""Dimension letters, array types and records that all modules share.

The dimensions, with the paper's letter where it has one:

    B  documents or queries in a batch      N  documents in the catalogue
    L  levels of a document ID (layers)     K  codes per level (codebook size)
    H  category levels used, H < L          D  width of an embedding d
    Z  width of the latent z                S  tokens of a query (source length)
    M  beams                                V  size of the vocabulary
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
"""Relevance judgements: query id -> document id -> grade (E = 3, S = 2, C = 1, I = 0)."""

CategoryIdentity: TypeAlias = Literal["path", "name"]
"""What tells two categories of one level apart: their whole paths or only their names."""

GRADES: Mapping[str, int] = {"E": 3, "S": 2, "C": 1, "I": 0}
"""ESCI label -> grade. The labels are exact, substitute, complement and irrelevant."""


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """A document of the catalogue.

    Attributes:
        id: unique id, not empty and without white space, as TREC files require.
        title: title, not empty.
        text: description and other prose; may be empty.
        categories: category path, root first, without empty names.
        extra: all other fields of the product's record in the catalogue, unchanged.
    """

    id: str
    title: str
    text: str
    categories: tuple[str, ...]
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """A query of a shopper.

    Attributes:
        id: unique id, not empty and without white space, as TREC files require.
        text: the query as typed, not empty.
        extra: all other fields of the query's record, unchanged.
    """

    id: str
    text: str
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
