"""Category cells in the forms in which shops and programs write them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catid2_jax.data.catalog import stream_products
from catid2_jax.data.sources.category_cells import CellForm
from catid2_jax.data.sources.columns import ColumnMap, mapped_source
from catid2_jax.data.sources.dataset import write_dataset
from catid2_jax.data.text import without_markup
from catid2_jax.errors import InputError
from catid2_jax.progress import console

names = st.text(st.sampled_from("aé &'\"-.()[]\\>/,;|<"), min_size=1, max_size=6).map(str.strip)
names = names.filter(bool)
plain_names = st.text(st.sampled_from("abcé &'-."), min_size=1, max_size=6).map(str.strip)
plain_names = plain_names.filter(lambda name: name.strip(" &'-."))
paths = st.lists(plain_names, min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Home > Cups", [("Home", "Cups")]),
        (" > Home >> Cups > ", [("Home", "", "Cups")]),
        ("Home &gt; Salt &amp; pepper &amp;gt; Mills", [("Home", "Salt & pepper", "Mills")]),
        ("<a href='/x'>Home</a> > <b>Cups</b>", [("Home", "Cups")]),
        (r"Home > Audio\>Video > A\\>B", [("Home", "Audio>Video", "A>B")]),
        (r"Home > Perfume\, soap", [("Home", "Perfume, soap")]),
        ('["Home > Cups"]', [("Home", "Cups")]),
        ('["Home > Cups", "Gifts"]', [("Home", "Cups"), ("Gifts",)]),
        ('["Audio\\/Video", "19&quot; racks"]', [("Audio/Video", '19" racks')]),
        ("[&quot;Home&quot;, &quot;Cups&quot;]", [("Home", "Cups")]),
        ('[["A", "B"], ["C"]]', [("A", "B"), ("C",)]),
        ("['Men\\'s', \"Women's\", nan, 'x']", [("Men's", "Women's", "", "x")]),
        ("('Home', 'Cups')", [("Home", "Cups")]),
        ("{'Home', 'Cups'}", [("Home", "Cups")]),
        ('{Home,"Living room",Rugs}', [("Home", "Living room", "Rugs")]),
        ("[Home, Living room]", [("Home", "Living room")]),
        ('{"id": 3, "Name": "Cups"}', [("Cups",)]),
        ('[{"id": 1, "name": "Home"}, {"id": 2, "name": "Cups"}]', [("Home", "Cups")]),
        ('{"lvl1": "Home > Cups", "lvl0": "Home"}', [("Home",), ("Home", "Cups")]),
        ({"level_2": "b", "level_10": "c", "level_1": "a"}, [("a", "b", "c")]),
        ([["A", None], None, ["B > C"]], [("A", ""), ("B", "C")]),
        ([1, 2.5, "x"], [("1", "2.5", "x")]),
        ("(Home)", [("(Home)",)]),
        ("[Sale] > Cups [new]", [("[Sale]", "Cups [new]")]),
        (12, [("12",)]),
        *((empty, []) for empty in ("", " > ", "[]", "{}", None, [], [None, ""], float("nan"))),
    ],
)
def test_the_paths_of_a_cell(cell, expected):
    assert CellForm(">").paths(cell) == expected


@pytest.mark.parametrize(
    "cell", ['["Home", "Cu', 'Home", "Cups"]', '[Home, "Cups]', {"x": 1}, [b"Home"], '[{"x": 1}]']
)
def test_a_cell_of_no_known_form(cell):
    with pytest.raises(ValueError, match=r"list|name|data"):
        CellForm(">").paths(cell)


@given(st.lists(names, min_size=1, max_size=4), st.sampled_from([">", "/", "|", ";"]))
def test_escaped_separators_belong_to_the_name(path, separator):
    path = [name.replace("\\", "").strip() for name in path]
    cell = f" {separator} ".join(name.replace(separator, f"\\{separator}") for name in path)
    if all(path) and cell[0] not in "[(" and cell[-1] != "]" and without_markup(cell) == cell:
        assert CellForm(separator).paths(cell) == [tuple(path)]


@given(paths, st.sampled_from([json.dumps, repr, lambda path: str(np.array(path))]))
def test_a_list_is_the_path_in_whatever_form_it_was_written(path, write):
    assert CellForm(">").paths(write(path)) == [tuple(path)]
    assert CellForm(">").paths(path) == [tuple(path)]
    joined = " > ".join(path)
    assert CellForm(">").paths(write([joined])) == [tuple(path)]
    assert CellForm(">").paths(joined) == [tuple(path)]


@given(st.lists(paths, min_size=1, max_size=3), st.sampled_from([",", ";", "|", "\n"]))
def test_several_paths_are_read_as_they_were_written(several, end):
    cell = end.join(" > ".join(path) for path in several)
    assert CellForm(">", end).paths(cell) == [tuple(path) for path in several]


def imported(tmp_path, cells, **options):
    """Paths and other paths of the products, the counts, and what was printed."""
    cells = cells if isinstance(cells, pa.Array) else pa.array(cells)
    table = pa.table({"id": [f"p{n}" for n in range(len(cells))], "title": ["t"] * len(cells)})
    batches = table.append_column("categories", cells).to_batches(max_chunksize=2)
    with console.capture() as capture:
        counts, _ = write_dataset(mapped_source(batches, ColumnMap(**options)), tmp_path)
    products = list(stream_products(tmp_path / "catalog.parquet"))
    others = [product.extra.get("other_categories") for product in products]
    return [product.categories for product in products], others, counts, capture.get()


ESCAPED = ["A > B, C > D", "A > B", "A > E, F", r"G > H\, I & J > K"]


def test_a_separator_that_is_escaped_in_names_separates_paths(tmp_path):
    found, others, counts, shown = imported(tmp_path, ESCAPED)
    assert found == [("A", "B"), ("A", "B"), ("A", "E"), ("G", "H, I & J", "K")]
    assert others == [["C > D"], None, ["F"], None]
    assert (counts.products, counts.with_several_paths) == (4, 2)
    assert shown == (
        "note: several paths, separated by ',', in 2 category cells, such as 'A > B, C > D' of "
        "product 'p0'; path_separator=none makes one path of each cell\n"
    )
    found, others, counts, shown = imported(tmp_path, ESCAPED, path_separator="none")
    assert found[0] == ("A", "B, C", "D")
    assert (others[0], counts.with_several_paths, shown) == (None, 0, "")


@pytest.mark.parametrize("end", [",", ";", "|", "\n"])
def test_a_separator_before_other_roots_separates_paths(tmp_path, end):
    cells = [f"R/A{end}R/B/C{end}R/B", "R/B", f"S{end}R/D", "R/E"]
    found, others, _, shown = imported(tmp_path, cells, separator="/")
    assert found == [("R", "B", "C"), ("R", "B"), ("R", "D"), ("R", "E")]
    assert others == [["R > A"], None, ["S"], None]
    assert shown.startswith(f"note: several paths, separated by {end!r}, in 2 category cells")
    found, others, _, _ = imported(tmp_path, cells, separator="/", kept_path="first")
    assert found == [("R", "A"), ("R", "B"), ("S",), ("R", "E")]
    assert others == [["R > B > C"], None, ["R > D"], None]


def test_names_with_commas_stay_whole(tmp_path):
    cells = ["Food, Beverages & Tobacco > Milk, Cream", "Home > Rugs", "Food, Beverages & Tobacco"]
    found, others, _, shown = imported(tmp_path, cells)
    assert found == [tuple(cell.split(" > ")) for cell in cells]
    assert (others, shown) == ([None] * 3, "")


@pytest.mark.parametrize("cell", ["A > B, C > D", "Home > Rugs, Gifts"])
def test_cells_that_perhaps_have_several_paths_are_said(tmp_path, cell):
    cells = [cell, "Home > Rugs > Round", "X > Y"]
    found, _, _, shown = imported(tmp_path, cells)
    assert found[0] == tuple(cell.split(" > "))
    assert shown == (
        f"note: perhaps several paths, separated by ',', in 1 category cells, such as {cell!r} of "
        "product 'p0'; path_separator=',' splits them, none ends this note\n"
    )
    found, others, _, shown = imported(tmp_path, cells, path_separator=",")
    assert found[0] == tuple(cell.split(", ")[0].split(" > "))
    assert (others[0], shown) == ([cell.split(", ")[1]], "")


@pytest.mark.parametrize("other", [">>", "|", "/", "»", "::", ";", ",", "\\"])
def test_another_separator_in_most_cells_ends_the_import(tmp_path, other):
    given = ">" if other != ">>" else "|"
    cells = [f"Home{other}Cups", f"Home {other} Rugs{other}Round", "Gifts"]
    with pytest.raises(InputError) as caught:
        imported(tmp_path, cells, separator=given)
    assert str(caught.value) == (
        f"separator: found {given!r} in none of 3 category cells, but {other!r} in most, such as "
        f"{cells[0]!r}, expected {other!r}, or none if each cell is one name"
    )
    assert imported(tmp_path, cells, separator="none")[0] == [(cell,) for cell in cells]
    with pytest.raises(InputError, match="in none of 3 category cells"):
        imported(tmp_path, [[cell] for cell in cells], separator=given)


def test_a_separator_in_few_or_no_cells_is_said(tmp_path):
    assert imported(tmp_path, ["A > B", "A|C", "A|D"])[3] == (
        "note: the separator '>' is in 1 of 3 category cells, but '|' is in most\n"
    )
    assert imported(tmp_path, ["Cups", "Rugs", None])[3] == (
        "note: the separator '>' is in none of 2 category cells\n"
    )
    assert imported(tmp_path, ["A > B", "A > C/D", "A > E/F"])[3] == ""
    assert imported(tmp_path, ["A >> B", "A >> C"])[3] == ""
    assert imported(tmp_path, [["A", "B"], ["C/D"]])[3] == ""


def test_what_stands_for_nothing_is_no_name_and_is_said(tmp_path):
    cells = ["A > nan", " NULL ", "<NA>", "A > B > NaN > None", '["A", "n/a", "B"]', "Nano > NASA"]
    found, _, counts, shown = imported(tmp_path, cells)
    assert found == [("A",), ("A", "B"), ("A", "B"), ("Nano", "NASA")]
    assert (counts.without_category, counts.with_gaps_in_path) == (2, 1)
    assert shown == (
        "note: 'nan', 'NULL', '<NA>', 'NaN', 'n/a' in 5 category cells is taken as no name\n"
    )


def test_what_stands_for_nothing_in_columns_of_levels(tmp_path):
    levels = {"top": ["A", "NULL", "A"], "leaf": [" nan ", "nan", "B"]}
    batches = pa.table({"id": ["1", "2", "3"], "title": ["t"] * 3, **levels}).to_batches()
    with console.capture() as capture:
        source = mapped_source(batches, ColumnMap(categories=("top", "leaf")))
        counts, _ = write_dataset(source, tmp_path)
    products = list(stream_products(tmp_path / "catalog.parquet"))
    assert [product.categories for product in products] == [("A",), ("A", "B")]
    assert counts.without_category == 1
    assert "note: 'NULL', 'nan' in 3 category cells is taken as no name\n" in capture.get()


TYPES = {
    "large lists": pa.array([["A", "B"], None], pa.large_list(pa.large_string())),
    "lists of lists": pa.array([[["A", "B"], ["C"]], []]),
    "lists of objects": pa.array([[{"id": 1, "name": "A"}, {"id": 2, "name": "B"}], None]),
    "objects of levels": pa.array([{"l1": "A", "l2": "B"}, None]),
    "lists of paths": pa.array([["A > B", "C"], [None]]),
    "text": pa.array(["['A', 'B']", None]).dictionary_encode(),
    "large text": pa.array(["A > B", ""], pa.large_string()),
}


@pytest.mark.parametrize("cells", TYPES.values(), ids=TYPES)
def test_cells_of_every_type(tmp_path, cells):
    found, others, counts, _ = imported(tmp_path, cells)
    assert (found, counts.without_category) == ([("A", "B")], 1)
    several = "lists" in str(cells) or len(CellForm(">").paths(cells[0].as_py())) > 1
    assert others == [["C"] if several else None]


@pytest.mark.parametrize(("cell", "kind"), [('["A", "B', "string"), ({"x": 1}, "struct<x: int64>")])
def test_a_cell_of_no_known_form_is_named(tmp_path, cell, kind):
    with pytest.raises(InputError) as caught:
        imported(tmp_path, [None, cell])
    assert str(caught.value) == (
        f"products: column 'categories' of type {kind}: found {cell!r} of product 'p1', expected a "
        "path as text, a list of names, a list of paths, or objects with a name"
    )
    assert not (tmp_path / "catalog.parquet").exists()


anything = st.none() | st.text(st.sampled_from("ab >,;|/\\[]{}'\"\n&lt;<"), max_size=12)


@settings(deadline=None, max_examples=50)
@given(st.lists(anything | st.lists(anything, max_size=3).map(str), min_size=1, max_size=5))
def test_whatever_is_in_the_cells_is_read_or_refused_in_one_line(cells):
    table = pa.table({"id": [f"p{n}" for n in range(len(cells))], "title": ["t"] * len(cells)})
    batches = table.append_column("categories", pa.array(cells, pa.string())).to_batches()
    batches = mapped_source(batches, ColumnMap()).products
    try:
        with console.capture():
            read = [row["categories"] for batch in batches for row in batch.to_pylist()]
    except InputError as error:
        read, said = [None] * len(cells), str(error)
    else:
        said = ""
    assert "\n" not in said
    assert len(read) == len(cells)
    assert all(name == name.strip() for path in read for name in path or ())
