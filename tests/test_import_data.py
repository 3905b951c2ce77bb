import json
import pathlib

import pyarrow as pa
import pyarrow.parquet
import pytest

from catid2_jax import import_data
from catid2_jax.config import Config
from catid2_jax.data.catalog import stream_products
from catid2_jax.data.config import DataConfig
from catid2_jax.progress import console
from catid2_jax.steps import prepare
from catid2_jax.types import Product
from catid2_jax.workdir import shared_place

CSV = (
    "sku,name,path,brand,size\n"
    "p1,Mug &amp; lid,Home > Kitchen > Cups > Mugs,Acme,Large size\n"
    "p2,Cup,Home > Kitchen > Cups,,\n"
    "p3,Pen,Office > Pens,Acme,S\n"
)
JUDGED = (
    "query_id,query,product_id,label,split\n"
    "1,mug,p1,E,train\n1,mug,p3,S,train\n2,cup,p2,S,train\n"
    "3,big mug,p1,E,test\n3,big mug,p3,E,test\n"
)
FLAGS = ["csv", "--id=sku", "--title=name", "--categories=path", "--text=brand,size"]


def main(*arguments):
    import_data.main(["import_data", *arguments])


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop.csv").write_text(CSV)
    (tmp_path / "judged.csv").write_text(JUDGED)
    flags = [f"--path={tmp_path / 'shop.csv'}", f"--judgements={tmp_path / 'judged.csv'}"]
    return [*FLAGS, *flags, f"--output={tmp_path / 'data'}"]


def test_what_is_imported_can_be_prepared(tmp_path, shop):
    with console.capture() as capture:
        main(*shop, "--max_characters=5")
    data = tmp_path / "data"
    assert capture.get().splitlines() == [
        f"{data}: 3 products, 1 values cut",
        "  5 judgements",
        "  queries.train.jsonl: 2 queries",
        "  queries.test.jsonl: 1 queries",
    ]
    assert next(iter(stream_products(data / "catalog.parquet"))) == Product(
        "p1", "Mug & lid", "brand: Acme; size: Large", ("Home", "Kitchen", "Cups", "Mugs")
    )
    paths = {"catalog": str(data / "catalog.parquet")}
    for split in ("train", "test"):
        paths[f"{split}_queries"] = str(data / f"queries.{split}.jsonl")
        paths[f"{split}_qrels"] = str(data / f"qrels.{split}.txt")
    place = shared_place(tmp_path / "work")
    with console.capture():
        prepare.run(Config(data=DataConfig(**paths)), place)
    metrics = json.loads(place.figures("prepare").read_text())
    assert [metrics[name] for name in ("documents", "train_pairs", "test_pairs")] == [2, 2, 1]


def test_an_import_takes_the_place_of_an_earlier_one_as_a_set(tmp_path, shop, monkeypatch):
    """An error at its last file leaves all of the earlier one's; what else lies there stays."""
    data = tmp_path / "data"
    with console.capture():
        main(*shop)
    (data / "vectors.npy").write_text("mine")
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    (tmp_path / "judged.csv").write_text(
        "query_id,query,product_id,label,split\n1,mug,p2,E,train\n"
    )

    def fail(*_):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("catid2_jax.data.sources.dataset.write_qrels", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            main(*shop)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    with console.capture():
        main(*shop)
    assert {path.name for path in data.iterdir()} == {
        *("catalog.parquet", "queries.train.jsonl", "qrels.train.txt", "vectors.npy")
    }


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, shop, capsys):
    with pytest.raises(SystemExit) as caught:
        main(*shop, "--title=titel")
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'shop.csv'}: found the columns sku, name, path, brand, size, "
        "expected also 'titel'\n"
    )
    assert not (tmp_path / "data/catalog.parquet").exists()


@pytest.mark.parametrize("name", ["path", "judgements"])
def test_a_source_is_not_written_over(tmp_path, shop, name, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    source = tmp_path / "data/catalog.parquet"
    source.write_bytes(b"the user's")
    with pytest.raises(SystemExit) as caught:
        main(*shop, f"--{name}=data/../data/catalog.parquet")
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"error: --{name}: found 'data/../data/catalog.parquet', expected a file that the import "
        "does not replace\n"
    )
    assert source.read_bytes() == b"the user's"


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--max_characters=-1", "--max_characters: found -1, expected at least 0"),
        ("--separator=", "--separator: found '', expected at least one character"),
    ],
)
def test_a_value_out_of_range_is_said_of_its_flag(shop, capsys, flag, expected):
    with pytest.raises(SystemExit) as caught:
        main(*shop, flag)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {expected}\n"


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ([], "SOURCE"),
        (["csv", "--output=x"], "--path"),
        (["csv", "--path=x"], "--output"),
        (["csv", "--path=x", "--output=x", "--colour=red"], "--colour"),
        (["excel"], "excel"),
    ],
)
def test_wrong_flags_are_named(flags, found, capsys):
    with pytest.raises(SystemExit) as caught:
        main(*flags)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: command line: found ")
    assert error.count("\n") == 1
    assert found in error


@pytest.mark.parametrize("source", import_data.SOURCES)
def test_the_help_explains_every_field(source, capsys):
    with pytest.raises(SystemExit) as caught:
        main(source, "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    config_class, _ = import_data.SOURCES[source]
    for name in config_class.__dataclass_fields__:
        assert f"--{name}" in text
        assert f"    {name}: " in text


def test_esci_prints_table_1_for_each_locale(tmp_path):
    locales = ("us", "jp")
    product = {f"product_{n}": "x" for n in ("description", "bullet_point", "brand", "color")}
    products = [
        product | {"product_id": "B1", "product_title": f"Mug {n}", "product_locale": n}
        for n in locales
    ]
    examples = [
        {
            "example_id": number,
            "query": "mug",
            "query_id": number,
            "product_id": "B1",
            "product_locale": locale,
            "esci_label": "E",
            "small_version": 1,
            "large_version": 1,
            "split": split,
        }
        for locale in locales
        for number, split in enumerate(("train", "test"))
    ]
    pages = [
        {"type": "product", "asin": "B1", "locale": n, "category": list("ABC")} for n in locales
    ]
    files = {name: pathlib.Path(tmp_path / name) for name in ("p.parquet", "e.parquet", "s.json")}
    pa.parquet.write_table(pa.Table.from_pylist(products), files["p.parquet"])
    pa.parquet.write_table(pa.Table.from_pylist(examples), files["e.parquet"])
    files["s.json"].write_text("".join(f"{json.dumps(page)}\n" for page in pages))
    with console.capture() as capture:
        main(
            "esci",
            f"--products={files['p.parquet']}",
            f"--examples={files['e.parquet']}",
            f"--metadata={files['s.json']}",
            f"--output={tmp_path}",
            "--locales=jp,us",
        )
    shown = [line.split("│")[1:4] for line in capture.get().splitlines() if "documents" in line]
    cells = [[cell.strip() for cell in row] for row in shown]
    assert cells == [["documents", "1", "152,845"], ["documents", "1", "386,392"]]
    for locale in locales:
        (found,) = stream_products(tmp_path / locale / "catalog.parquet")
        assert found.title == f"Mug {locale}"
