import logging
import pathlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from catid2_jax.errors import InputError
from tests.data.esci_files import LEVELS, example, page, product, publish

pytestmark = [
    pytest.mark.tfds,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own
]
tfds = pytest.importorskip("tensorflow_datasets", exc_type=ImportError)

from catid2_jax.data.tfds import catalog_folder, esci  # noqa: E402

GRADES = ("I", "C", "S", "E")


def built(builder, manual):
    """Builds a data set and reads it back as split -> id -> example, in Python's types."""
    config = tfds.download.DownloadConfig(manual_dir=str(manual))
    builder.download_and_prepare(download_config=config)
    assert builder.info.features["products"]["grade"].names == list(GRADES)
    read = {}
    for split in builder.info.splits:
        read[split] = {}
        for row in tfds.as_numpy(builder.as_dataset(split=split)):
            products = dict(
                zip(decoded(row["products"]["id"]), row["products"]["grade"], strict=True)
            )
            identifier, text, details = decoded([row["id"], row["text"], row["details"]])
            assert identifier not in read[split]
            read[split][identifier] = (text, details, decoded(row["categories"]), products)
    return read


def decoded(texts):
    return [text.decode() for text in texts]


def published(folder):
    """Writes three locales: us and es differ in titles only, jp has one product."""
    rows = ("deep", "exact", "shallow", "unseen", "other")
    products = [[*product(i, f"{i} {n} 🎁", "<b>x</b>"), n] for n in ("us", "es") for i in rows]
    examples = [
        row
        for locale in ("us", "es")
        for row in (
            example(1, "deep", "E", locale=locale),
            example(1, "exact", "S", locale=locale),
            example(1, "shallow", "E", locale=locale),  # dropped: two levels
            example(2, "other", "C", locale=locale),  # not trained on
            example(3, "deep", "I", locale=locale),
            example(3, "exact", "E", locale=locale),
            example(10, "deep", "E", "test", locale=locale, query=f"スマホ {locale}"),
            example(10, "exact", "I", "test", locale=locale, query=f"スマホ {locale}"),
            example(10, "unseen", "E", "test", locale=locale, query=f"スマホ {locale}"),
            example(11, "other", "E", "test", locale=locale),  # not seen in training
            example(12, "deep", "E", small=0, locale=locale),  # of the large version
        )
    ]
    depths = dict(zip(rows, (7, 3, 2, 3, 3), strict=True))
    pages = [page(i, depth, n) for n in ("us", "es") for i, depth in depths.items()]
    products.append([*product("one", "スマホ"), "jp"])
    examples.append(example(20, "one", locale="jp"))
    pages.append(page("one", 3, "jp"))
    files = publish(folder, products, examples, pages, esci.METADATA)
    pathlib.Path(files["products"]).rename(folder / esci.PRODUCTS)
    pathlib.Path(files["examples"]).rename(folder / esci.EXAMPLES)
    return folder


def test_esci_is_what_the_papers_preprocessing_leaves(tmp_path):
    manual = published(tmp_path)
    for locale in ("us", "es"):
        builder = esci.Esci(config=locale, data_dir=str(tmp_path / "built"))
        assert built(builder, manual) == {
            "catalog": {
                i: (f"{i} {locale} 🎁", "description: x", list(LEVELS[:3]), {i: 3})
                for i in ("deep", "exact", "unseen", "other")
            },
            "train": {
                "1": ("query 1", "", [], {"deep": 3, "exact": 2}),
                "3": ("query 3", "", [], {"exact": 3}),
            },
            "test": {"10": (f"スマホ {locale}", "", [], {"deep": 3, "exact": 0})},
        }
    jp = built(esci.Esci(config="jp", data_dir=str(tmp_path / "built")), manual)
    assert {split: list(found) for split, found in jp.items()} == {
        "catalog": ["one"],
        "train": ["20"],
    }
    assert list(esci.Esci.builder_configs) == ["us", "es", "jp"]


def test_without_its_files_esci_says_where_they_are(tmp_path):
    builder = esci.Esci(config="us", data_dir=str(tmp_path / "built"))
    with pytest.raises(AssertionError, match=r"esci-data, and esci\.json\.zst from https://"):
        built(builder, tmp_path / "nothing")


def test_files_that_are_not_those_published_are_named(tmp_path, caplog):
    manual = published(tmp_path)
    names = (esci.PRODUCTS, esci.EXAMPLES)
    found = {n: tfds.download.checksums.compute_url_info(manual / n) for n in names}
    with caplog.at_level(logging.WARNING):
        esci.compare_with_checksums(manual, found)
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        esci.compare_with_checksums(manual, esci.Esci.url_infos)
    assert sorted(caplog.messages) == [
        f"{manual / name}: differs from the published file (see checksums.tsv)"
        for name in (esci.EXAMPLES, esci.PRODUCTS)
    ]


def test_checksums_name_the_published_files():
    known = {info.filename: (url, info.size) for url, info in esci.Esci.url_infos.items()}
    folder = "https://github.com/amazon-science/esci-data/raw/main/shopping_queries_dataset/"
    assert known == {
        esci.PRODUCTS: (folder + esci.PRODUCTS, 1_108_857_465),
        esci.EXAMPLES: (folder + esci.EXAMPLES, 51_286_808),
    }


CATALOG = (
    '{"id": "p1", "title": "Mug", "text": "brand: Acme", "categories": ["Home", "Cups"]}\n'
    '{"id": "p2", "title": "青いペン", "categories": ["Office"]}\n'
)
EXPECTED = {
    "catalog": {
        "p1": ("Mug", "brand: Acme", ["Home", "Cups"], {"p1": 3}),
        "p2": ("青いペン", "", ["Office"], {"p2": 3}),
    },
    "train": {"q1": ("cup", "", [], {"p1": 3, "p2": 0})},
    "validation": {"q3": ("pen", "", [], {"p2": 1})},
}


@pytest.fixture
def shop(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "catalog.jsonl").write_text(CATALOG)
    queries = '{"id": "q1", "text": "cup"}\n{"id": "q2", "text": "not judged"}\n'
    (folder / "queries.train.jsonl").write_text(queries)
    (folder / "qrels.train.txt").write_text("q1 0 p1 3\nq1 0 p2 0\n")
    (folder / "queries.dev.jsonl").write_text('{"id": "q3", "text": "pen"}\n')
    (folder / "qrels.dev.txt").write_text("q3 0 p2 1\n")
    return folder


@pytest.mark.parametrize("form", ["catalog.jsonl", "catalog.parquet"])
def test_any_catalogue(tmp_path, shop, form):
    if form == "catalog.parquet":
        rows = [
            {"id": "p1", "title": "Mug", "text": "brand: Acme", "categories": ["Home", "Cups"]},
            {"id": "p2", "title": "青いペン", "text": "", "categories": ["Office"]},
        ]
        pa.parquet.write_table(pa.Table.from_pylist(rows), shop / form)
        (shop / "catalog.jsonl").unlink()
    builder = catalog_folder.CatalogFolder(data_dir=str(tmp_path / "built"))
    assert built(builder, shop) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("catalog.parquet", "", "found catalog.parquet and catalog.jsonl, expected one of"),
        ("catalog.jsonl", None, "found no catalogue, expected one of catalog.parquet, "),
        ("qrels.dev.txt", "q3 0 gone 3\n", "qrels.dev.txt:1: found document 'gone'"),
        ("qrels.dev.txt", "q1 0 p1 3\n", "qrels.dev.txt:1: found query 'q1'"),
        ("qrels.dev.txt", None, "qrels.dev.txt: found no such file"),
    ],
)
def test_a_bad_folder_is_an_error(shop, name, text, expected):
    (shop / name).unlink() if text is None else (shop / name).write_text(text)
    with pytest.raises(InputError) as caught:
        catalog_folder.folder_examples(shop)
    assert expected in str(caught.value)


def test_the_command_builds_a_catalogue_under_a_name_of_its_own(tmp_path, shop):
    pytest.importorskip("mlcroissant")  # without it and Beam there is no command
    command = [
        pathlib.Path(sys.executable).with_name("tfds"),
        "build",
        catalog_folder.__file__,
        f"--manual_dir={shop}",
        f"--data_dir={tmp_path / 'built'}",
        '--config={"name": "shop"}',
    ]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]
    read = tfds.builder("catalog_folder/shop", data_dir=str(tmp_path / "built"))
    assert {split: info.num_examples for split, info in read.info.splits.items()} == {
        "catalog": 2,
        "train": 1,
        "validation": 1,
    }
    titles = {row["text"].decode() for row in tfds.as_numpy(read.as_dataset(split="catalog"))}
    assert titles == {"Mug", "青いペン"}


def test_seqio_reads_queries_and_titles_from_it(tmp_path, shop):
    seqio = pytest.importorskip("seqio", exc_type=ImportError)
    directory = str(tmp_path / "built")
    builder = catalog_folder.CatalogFolder(data_dir=directory)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(shop)))
    name = f"catalog_folder/default:{builder.version}"
    for splits, expected in (
        ({"train": "train", "validation": "validation"}, {"train": "cup", "validation": "pen"}),
        ({"train": "catalog[:50%]"}, {"train": "Mug"}),
    ):
        source = seqio.TfdsDataSource(name, tfds_data_dir=directory, splits=splits)
        for split, text in expected.items():
            (row,) = tfds.as_numpy(source.get_dataset(split, shuffle=False))
            assert row["text"].decode() in (text, "青いペン")
            assert source.num_input_examples(split) == 1
