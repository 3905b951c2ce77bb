"""CAT-ID2 in JAX: learn short category-aware document IDs, retrieve products by generating them.

    import catid2_jax

    retriever = catid2_jax.load("runs/quickstart")
    for hit in retriever.search("waterproof hiking boots", k=10):
        print(hit.score, hit.docid, hit.product.title)

The names below are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from catid2_jax.signals import end_while_importing

if TYPE_CHECKING:
    from catid2_jax.api import learn_docids, load, read_catalog, train_retriever
    from catid2_jax.data.corpus import Catalog, Corpus
    from catid2_jax.docids.table import DocidTable
    from catid2_jax.encoders.encoder import Encoder
    from catid2_jax.errors import InputError
    from catid2_jax.retrievers.product_retriever import Hit, Hits, ProductRetriever
    from catid2_jax.retrievers.retriever import Ranking, Retriever
    from catid2_jax.schemes.scheme import Run, Scheme
    from catid2_jax.seq2seq.decoder import Decoder
    from catid2_jax.systems import SYSTEMS, System
    from catid2_jax.types import Product, Query

__version__ = "0.1.0"

end_while_importing()

_MODULES = {
    "Catalog": "data.corpus",
    "Corpus": "data.corpus",
    "Decoder": "seq2seq.decoder",
    "DocidTable": "docids.table",
    "Encoder": "encoders.encoder",
    "Hit": "retrievers.product_retriever",
    "Hits": "retrievers.product_retriever",
    "InputError": "errors",
    "Product": "types",
    "ProductRetriever": "retrievers.product_retriever",
    "Query": "types",
    "Ranking": "retrievers.retriever",
    "Retriever": "retrievers.retriever",
    "Run": "schemes.scheme",
    "SYSTEMS": "systems",
    "Scheme": "schemes.scheme",
    "System": "systems",
    "learn_docids": "api",
    "load": "api",
    "read_catalog": "api",
    "train_retriever": "api",
}

__all__ = [
    "SYSTEMS",
    "Catalog",
    "Corpus",
    "Decoder",
    "DocidTable",
    "Encoder",
    "Hit",
    "Hits",
    "InputError",
    "Product",
    "ProductRetriever",
    "Query",
    "Ranking",
    "Retriever",
    "Run",
    "Scheme",
    "System",
    "learn_docids",
    "load",
    "read_catalog",
    "train_retriever",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
