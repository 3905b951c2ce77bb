"""Filters by further fields of the products: a price at most, a tenant among some."""

import dataclasses
import json
import threading

import numpy as np

from catid2_jax.data.corpus import Catalog
from catid2_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a field of a product must be; a product without the field is not found.

    Attributes:
        field: the field's name in the catalogue's records.
        at_least: a number that it may not be below; None for any.
        at_most: a number that it may not be above; None for any.
        one_of: the texts that it may be, of which a list must have one; None for any.
    """

    field: str
    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[str, ...] | None = None


class Attributes:
    """The further fields of a catalogue's products, read when one is first asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._values: dict[str, list[tuple[int, object]]] | None = None

    def allowed(self, condition: Condition) -> np.ndarray:
        """Bool [N], True for the products that meet a condition.

        Raises:
            InputError: no product has the field.
        """
        values = self._read()
        if condition.field not in values:
            raise InputError(
                "filter.attributes", f"the field {condition.field!r:.60}", "one of the products"
            )
        allowed = np.zeros(len(self._catalog), bool)
        for row, value in values[condition.field]:
            allowed[row] = _meets(value, condition)
        return allowed

    def _read(self) -> dict[str, list[tuple[int, object]]]:
        with self._lock:
            if self._values is None:
                self._values = {}
                for row, extra in enumerate(self._catalog.table["extra"].to_pylist()):
                    for name, value in (json.loads(extra) if extra else {}).items():
                        self._values.setdefault(name, []).append((row, value))
            return self._values


def _meets(value: object, condition: Condition) -> bool:
    low, high, some = condition.at_least, condition.at_most, condition.one_of
    if low is not None or high is not None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if (low is not None and value < low) or (high is not None and value > high):
            return False
    if some is not None:
        texts = value if isinstance(value, list) else [value]
        return any(isinstance(text, str) and text in some for text in texts)
    return True
