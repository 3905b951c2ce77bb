"""CAT-ID2 in JAX: learn short category-aware document IDs, retrieve products by generating them."""

__version__ = "0.1.0"
