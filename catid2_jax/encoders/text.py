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
        field_characters: cuts each field by itself at this length, so that a long field does not
            push out those after it; 0 keeps them whole.

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
        raise InputError("fields", f"{min(missing)!r}, which no product has", f"some of {known}")
    return texts, cut
