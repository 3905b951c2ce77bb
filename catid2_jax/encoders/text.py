"""The text that stands for a document when it is embedded."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import overload

from catid2_jax.data.catalog import PRODUCT_FIELDS, field_value, join_fields
from catid2_jax.errors import InputError
from catid2_jax.types import Product


def document_texts(
    products: Sequence[Product], fields: Sequence[str], field_characters: int = 0
) -> tuple[Sequence[str], int]:
    """The products' fields, joined as in `join_fields`.

    Args:
        products: N products.
        fields: "title", "text", "categories" and further fields of the catalogue, in this order.
        field_characters: cuts each field by itself at this length, so that a long field does not
            push out those after it; 0 keeps them whole.

    Returns:
        N texts, each made when it is asked for, and the number of values that are cut.

    Raises:
        InputError: a further field that no product has, or one that is no text.
    """
    texts = _Texts(products, fields, field_characters)
    cut = 0
    missing = set(fields) - set(PRODUCT_FIELDS)
    further: set[str] = set()
    for product in products if missing or field_characters else ():
        values = texts.values(product)
        if missing:
            further |= product.extra.keys()
            missing -= {field for field, value in values.items() if value}
        if field_characters:
            cut += sum(len(value) > field_characters for value in values.values())
    if missing:
        known = ", ".join((*PRODUCT_FIELDS, *sorted(further)))
        raise InputError("fields", f"{min(missing)!r}, which no product has", f"some of {known}")
    return texts, cut


@dataclasses.dataclass(frozen=True)
class _Texts(Sequence[str]):
    """What `document_texts` returns; its arguments say more."""

    products: Sequence[Product]
    fields: Sequence[str]
    field_characters: int

    def __len__(self) -> int:
        return len(self.products)

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self.text(product) for product in self.products[row]]
        return self.text(self.products[row])

    def values(self, product: Product) -> Mapping[str, str]:
        """The fields' values before any cut."""
        return {field: field_value(product, field) for field in self.fields}

    def text(self, product: Product) -> str:
        """The text of a product."""
        values = self.values(product)
        if self.field_characters:
            values = {field: value[: self.field_characters] for field, value in values.items()}
        return join_fields(values)
