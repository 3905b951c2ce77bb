"""The builder by Beam has the products of `import_data parquet`."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.sources.dataset import CATALOG, write_dataset
from catid2_jax.data.sources.parquet import ParquetConfig, read_parquet

pytestmark = [
    pytest.mark.tfds,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's and Beam's own
]
tfds = pytest.importorskip("tensorflow_datasets", exc_type=ImportError)
beam = pytest.importorskip("apache_beam")

from catid2_jax.data.tfds import parquet_shards  # noqa: E402

COLUMNS = {"id": "sku", "text": ("brand",), "path_separator": "none"}


@pytest.fixture
def shards(tmp_path):
    """Three files, of which two have products of the first again, and one a row without a title."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard, numbers in enumerate(((0, 1, 2), (2, 3, 0), (4, 5))):
        rows = [
            {
                "sku": f"p{n}",
                "title": "" if n == 5 else f" title {n} of <b>{shard}</b>",
                "brand": "Acme" if n % 2 else None,
                "categories": f"Home > Level {n % 2} > Cups",
            }
            for n in numbers
        ]
        pa.parquet.write_table(pa.Table.from_pylist(rows), folder / f"{shard}.parquet")
    return folder


def test_its_products_are_those_of_the_import(tmp_path, shards):
    (source,) = read_parquet(ParquetConfig(path=str(shards), **COLUMNS))
    counts, _ = write_dataset(source, tmp_path / "imported")
    assert (counts.products, counts.repeated, counts.without_title) == (5, 2, 1)
    expected = {
        product.id: (product.title, product.text, list(product.categories))
        for product in stream_products(tmp_path / "imported" / CATALOG)
    }
    builder = parquet_shards.ParquetShards(
        config=parquet_shards.ShardsConfig(name="shop", columns=COLUMNS | {"text": ["brand"]}),
        data_dir=str(tmp_path / "built"),
    )
    download = tfds.download.DownloadConfig(manual_dir=str(shards), beam_runner="DirectRunner")
    builder.download_and_prepare(download_config=download)
    rows = list(tfds.as_numpy(builder.as_dataset(split="catalog")))
    found = {
        row["id"].decode(): (
            row["text"].decode(),
            row["details"].decode(),
            [name.decode() for name in row["categories"]],
        )
        for row in rows
    }
    assert len(rows) == 5
    assert found == expected
    assert {tuple(row["products"]["id"]) for row in rows} == {(row["id"],) for row in rows}
