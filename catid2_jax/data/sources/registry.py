"""The sources of `import_data`, by the name that a command line gives."""

from collections.abc import Callable, Iterable

from catid2_jax.data.sources.amazon_reviews import AmazonReviewsConfig, read_amazon_reviews
from catid2_jax.data.sources.dataset import Source
from catid2_jax.data.sources.delimited import CsvConfig, read_csv
from catid2_jax.data.sources.esci import EsciConfig, read_esci
from catid2_jax.data.sources.google_merchant import GoogleMerchantConfig, read_google_merchant
from catid2_jax.data.sources.huggingface import HuggingFaceConfig, read_huggingface
from catid2_jax.data.sources.parquet import ParquetConfig, read_parquet
from catid2_jax.data.sources.shopify import ShopifyConfig, read_shopify
from catid2_jax.data.sources.sql import SqlConfig, read_sql
from catid2_jax.data.sources.wands import WandsConfig, read_wands
from catid2_jax.data.sources.woocommerce import WooCommerceConfig, read_woocommerce

SOURCES: dict[str, tuple[type, Callable[..., Iterable[Source]]]] = {
    "esci": (EsciConfig, read_esci),
    "wands": (WandsConfig, read_wands),
    "amazon_reviews": (AmazonReviewsConfig, read_amazon_reviews),
    "huggingface": (HuggingFaceConfig, read_huggingface),
    "csv": (CsvConfig, read_csv),
    "parquet": (ParquetConfig, read_parquet),
    "sql": (SqlConfig, read_sql),
    "shopify": (ShopifyConfig, read_shopify),
    "woocommerce": (WooCommerceConfig, read_woocommerce),
    "google_merchant": (GoogleMerchantConfig, read_google_merchant),
}
"""Name -> the class of its fields, and the reader."""
