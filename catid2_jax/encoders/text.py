"""The text that stands for a document when it is embedded."""

from collections.abc import Iterable, Sequence

from catid2_jax.data.catalog import PRODUCT_FIELDS, field_value, join_fields
from catid2_jax.errors import InputError
from catid2_jax.types import Product


def document_texts(
    products: Iterable[Product], fields: Sequence[str], field_characters: int = 0
) -> tuple[list[str], int]:
    """The products' fields, joined as in `join_fields`.

    Args:
        products: N products.
        fields: "title", "text", "categories" and further fields of the catalogue, in this order.
        field_characters: longer values are cut there, each field by itself, so that a long one
            costs no other field its place; 0 keeps them whole.

    Returns:
        N texts, and the number of values that were cut.

    Raises:
        InputError: a further field that no product has, or one that is no text.
    """
    texts: list[str] = []
    cut = 0
    missing = set(fields) - set(PRODUCT_FIELDS)
    further: set[str] = set()
    for product in products:
        values = {field: field_value(product, field) for field in fields}
        if missing:
            further |= product.extra.keys()
            missing -= {field for field, value in values.items() if value}
        if field_characters:
            cut += sum(len(value) > field_characters for value in values.values())
            values = {field: value[:field_characters] for field, value in values.items()}
        texts.append(join_fields(values))
    if missing:
        known = ", ".join((*PRODUCT_FIELDS, *sorted(further)))
        raise InputError(
            f"config.embedding.fields: found {min(missing)!r}, which no product has, expected some "
            f"of {known}"
        )
    return texts, cut
