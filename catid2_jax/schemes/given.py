"""Document IDs made elsewhere."""

import dataclasses

import numpy as np

from catid2_jax.data.corpus import Corpus
from catid2_jax.docids.table import DocidTable, read_docids
from catid2_jax.errors import InputError
from catid2_jax.schemes.config import DocidsConfig
from catid2_jax.schemes.scheme import Run


@dataclasses.dataclass(frozen=True)
class GivenDocids:
    """Takes the IDs from a docids.jsonl, in any order, that may know more products.

    Attributes:
        docids: `path` is the file, `path_codebook_size` its K.
    """

    docids: DocidsConfig

    def fit(self, corpus: Corpus, run: Run) -> DocidTable:
        """Reads the IDs of the catalogue's products.

        Raises:
            InputError: no path, a file that cannot be read, or a product without an ID.
        """
        path = self.docids.path
        if not path:
            raise InputError("path", "''", "the path of a docids.jsonl")
        table = read_docids(path, self.docids.path_codebook_size)
        rows = {product_id: row for row, product_id in enumerate(table.ids)}
        ids = corpus.catalog.ids
        missing = [product_id for product_id in ids if product_id not in rows]
        if missing:
            raise InputError(
                path,
                f"no document ID for {len(missing)} products, the first is {missing[0]!r}",
                "one for each",
            )
        order = np.array([rows[product_id] for product_id in ids])
        nearest = None if table.nearest is None else table.nearest[order]
        return DocidTable(ids, table.codes[order], nearest, table.codebook_size)
