"""What an ID scheme is, and the schemes by name.

One more scheme is one module and one row of `SCHEMES`, or a dotted path of your own.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.table import DocidTable
from catid2_jax.errors import InputError
from catid2_jax.plugins import construct, options_of, resolve


@dataclasses.dataclass
class Run:
    """What a scheme needs to know beside the corpus.

    Attributes:
        name: the system's name, for folders and messages.
        directory: where the scheme may keep checkpoints; a killed `fit` is called again with it.
        seed: seed of everything random.
        figures: what the scheme measured of its own work, by name; reported beside the IDs'.
    """

    name: str
    directory: pathlib.Path
    seed: int = 0
    figures: dict[str, float] = dataclasses.field(default_factory=dict)


class Scheme(Protocol):
    """Stage 1: gives every document an ID.

    A scheme is a dataclass whose fields are its settings. A field with the name of a section of the
    configuration (`rqvae`, `docids`, ...) is that section.
    """

    def fit(self, corpus: Corpus, run: Run) -> DocidTable:
        """Learns IDs and assigns them.

        Args:
            corpus: the N products and their embeddings.
            run: seed and folder.

        Returns:
            An ID for every product, no two the same, in the catalogue's order.
        """
        ...


SCHEMES: Mapping[str, str] = {
    "rqvae": "catid2_jax.schemes.rqvae.scheme:RQVAEScheme",
    "given": "catid2_jax.schemes.given:GivenDocids",
    "residual_kmeans": "catid2_jax.schemes.residual_kmeans:ResidualKMeans",
    "random": "catid2_jax.schemes.random_docids:RandomDocids",
    "category_prefix": "catid2_jax.schemes.category_prefix:CategoryPrefix",
    "genret": "catid2_jax.schemes.genret.scheme:GenRet",
    "naive": "catid2_jax.schemes.naive:NaiveDocids",
    "tree_kmeans": "catid2_jax.schemes.tree_kmeans:TreeKMeans",
}


def resolve_scheme(name: str) -> Any:
    """The class of a scheme.

    Raises:
        InputError: there is none of that name.
    """
    return resolve(name, SCHEMES, "scheme", ("fit",))


def scheme_sections(scheme: Any, sections: Iterable[str]) -> tuple[str, ...]:
    """Those of the configuration's sections that a scheme has fields for."""
    return tuple(name for name in options_of(scheme) if name in set(sections))


def scheme_options(scheme: Any, sections: Iterable[str]) -> dict[str, Any]:
    """The fields of a scheme that are none of the configuration's sections, with their defaults."""
    return {name: value for name, value in options_of(scheme).items() if name not in set(sections)}


def make_scheme(scheme: Any, sections: Mapping[str, Any], options: Mapping[str, Any]) -> Scheme:
    """A scheme with its settings.

    Args:
        scheme: the class, by `resolve_scheme`.
        sections: the sections that it has fields for, by name.
        options: values of its other fields.

    Raises:
        InputError: an option that it does not have.
    """
    return construct(scheme, "scheme", **sections, **options)


def check_table(table: Any, corpus: Corpus, scheme: str) -> DocidTable:
    """The table that a scheme gave, checked against the catalogue.

    Raises:
        InputError: no table, or one that lacks products, has others or is in another order.
    """
    where = f"scheme {scheme}"
    if not isinstance(table, DocidTable):
        raise InputError(where, type(table).__name__, "a DocidTable from fit")
    ids = corpus.catalog.ids
    if len(table.ids) != len(ids):
        raise InputError(where, f"{len(table.ids)} document IDs", f"one per product, {len(ids)}")
    for row, (found, expected) in enumerate(zip(table.ids, ids, strict=True)):
        if found != expected:
            raise InputError(
                where,
                f"the ID of product {found!r} in row {row}",
                f"that of {expected!r}: the products in the catalogue's order",
            )
    return table
