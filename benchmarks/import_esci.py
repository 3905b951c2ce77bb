"""Time and memory of importing ESCI, beside pandas joining the same files.

    python benchmarks/import_esci.py DIR [--products=2000000] [--page_bytes=4000] [--alone]

Makes in DIR, unless they are there, synthetic files with the schemas and about the text lengths of
ESCI's and ESCI-S's, each product judged; runs `import_data esci --version=large` on them, and then
a script that reads them with pandas, merges them as ESCI's README does and writes the result: it
cleans no text, parts no judgements and prints no Table 1. Each runs in a process of its own. Prints
a Markdown table. --alone leaves pandas out, which holds several copies of all texts.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

LOCALES = np.array(["us", "es", "jp"])
SHARES = (0.67, 0.15, 0.18)  # of the 1.8 million products of ESCI
EXAMPLES = 1.44  # per product: 2,621,288 on 1,814,924
DEPTHS = (0.02, 0.05, 0.13, 0.35, 0.25, 0.15, 0.05)  # share of pages with 0, 1, ... categories
BATCH = 100_000
POOL = 20_000  # different phrases of each kind

PANDAS = """
import io, json, sys
import pandas as pd, pyarrow as pa

products, examples, metadata, output = sys.argv[1:]
paths = {}
with pa.input_stream(metadata, compression="detect") as file:
    for line in io.BufferedReader(file):
        page = json.loads(line)
        if page.get("category"):
            paths.setdefault((page["locale"], page["asin"]), page["category"])
index = pd.MultiIndex.from_tuples(paths, names=["product_locale", "product_id"])
categories = pd.Series(list(paths.values()), index, name="categories").reset_index()
products = pd.read_parquet(products).merge(categories, on=["product_locale", "product_id"])
merged = pd.read_parquet(examples).merge(products, on=["product_locale", "product_id"])
for locale in ("us", "es", "jp"):
    products[products["product_locale"] == locale].to_parquet(f"{output}/{locale}.parquet")
    of_locale = merged[(merged["product_locale"] == locale) & (merged["large_version"] == 1)]
    of_locale[["query_id", "product_id", "esci_label"]].to_csv(f"{output}/{locale}.csv")
"""


def phrases(draw: np.random.Generator, letters: str, words: int) -> pa.Array:
    """Strings of some words of 2 to 9 letters."""
    lexicon = np.array(
        ["".join(draw.choice(list(letters), draw.integers(2, 10))) for _ in range(2000)]
    )
    return pa.array([" ".join(row) for row in draw.choice(lexicon, (POOL, words))])


class Texts:
    """Random texts: English ones, and Japanese ones where the locale is jp."""

    def __init__(self, draw: np.random.Generator) -> None:
        kana = "".join(map(chr, range(0x3041, 0x3097))) + "電話携帯台所食器本棚青赤白黒大小"
        self._draw = draw
        self._pools = phrases(draw, "aaabcdeeeefghiiklmnooprsttuvwy", 9), phrases(draw, kana, 9)

    def joined(self, japanese: np.ndarray, parts: int, mark: str) -> pa.Array:
        """Texts of so many phrases with `mark` between; string [rows]."""
        columns = []
        for _ in range(parts):
            place = pa.array(self._draw.integers(0, POOL, len(japanese)))
            texts = [pool.take(place) for pool in self._pools]
            columns.append(pc.if_else(pa.array(japanese), texts[1], texts[0]))
        return pc.binary_join_element_wise(*columns, mark)


def identifiers(rows: np.ndarray) -> pa.Array:
    """B000000000 and so on."""
    digits = pc.utf8_lpad(pc.cast(pa.array(rows), pa.string()), 9, "0")
    return pc.binary_join_element_wise(pa.scalar("B"), digits, "")


def write_products(
    path: pathlib.Path, locales: np.ndarray, draw: np.random.Generator, texts: Texts
) -> None:
    """Every column but the id may be null, as often as about in ESCI; bullets are lines."""
    writer = None
    for start in range(0, len(locales), BATCH):
        locale = locales[start : start + BATCH]
        japanese = locale == 2

        def some(values: pa.Array, share: float) -> pa.Array:
            missing = pa.array(draw.random(len(values)) > share)
            return pc.if_else(missing, pa.scalar(None, pa.string()), values)

        html = texts.joined(japanese, 9, "</p><p>")
        plain = texts.joined(japanese, 9, ". ")
        table = pa.table(
            {
                "product_id": identifiers(np.arange(start, start + len(locale))),
                "product_title": texts.joined(japanese, 2, ", "),
                "product_description": some(
                    pc.if_else(pa.array(draw.random(len(locale)) < 0.4), html, plain), 0.52
                ),
                "product_bullet_point": some(texts.joined(japanese, 14, "\n"), 0.84),
                "product_brand": some(texts.joined(japanese, 1, ""), 0.93),
                "product_color": some(texts.joined(japanese, 1, ""), 0.61),
                "product_locale": pa.array(LOCALES[locale]),
            }
        )
        writer = writer or pa.parquet.ParquetWriter(path, table.schema)
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)  # into one row group, up to a million rows
    writer.close()


def write_examples(
    path: pathlib.Path, locales: np.ndarray, draw: np.random.Generator, texts: Texts
) -> None:
    """Each product is judged for a query of its locale, some for two; 20 judgements a query."""
    extra = int((EXAMPLES - 1) * len(locales))
    judged = np.concatenate([draw.permutation(len(locales)), draw.integers(0, len(locales), extra)])
    locale = locales[judged]
    queries = len(judged) // 20
    query = draw.integers(0, queries // 3, len(judged)) * 3 + locale
    query_texts = texts.joined(np.arange(queries + 3) % 3 == 2, 1, "")
    count = len(judged)
    table = pa.table(
        {
            "example_id": np.arange(count),
            "query": query_texts.take(pa.array(query)),
            "query_id": query,
            "product_id": identifiers(judged),
            "product_locale": pa.array(LOCALES[locale]),
            "esci_label": pa.array(draw.choice(list("ESCI"), count, p=(0.65, 0.22, 0.03, 0.1))),
            "small_version": (query % 5 < 2).astype(np.int64),
            "large_version": np.ones(count, np.int64),
            "split": pa.array(np.where(query % 4 == 0, "test", "train")),
        }
    )
    pa.parquet.write_table(table, path)


def write_pages(
    path: pathlib.Path,
    locales: np.ndarray,
    page_bytes: int,
    draw: np.random.Generator,
    texts: Texts,
) -> None:
    """A page of ESCI-S for 91.5 % of the products; most of it is what nobody reads here."""
    names = texts.joined(np.arange(3000) % 3 == 2, 1, "").to_pylist()
    reviews = [
        f'"reviews": [{{"stars": "4.0 out of 5 stars", "text": "{" ".join(chosen)}"}}]'
        for chosen in draw.choice(names, (500, page_bytes // 60))
    ]
    with pa.output_stream(str(path), compression="detect") as file:
        for start in range(0, len(locales), BATCH):
            locale = locales[start : start + BATCH]
            depth = draw.choice(len(DEPTHS), len(locale), p=DEPTHS)
            name = draw.integers(0, 1000, (len(locale), len(DEPTHS) - 1))
            there = draw.random(len(locale)) < 0.915
            review = draw.integers(0, len(reviews), len(locale))
            for row in np.flatnonzero(there).tolist():
                found = ", ".join(
                    f'"{names[3 * n + locale[row]]}"' for n in name[row, : depth[row]]
                )
                file.write(
                    f'{{"type": "product", "locale": "{LOCALES[locale[row]]}", '
                    f'"asin": "B{start + row:09d}", "category": [{found}], '
                    f"{reviews[review[row]]}}}\n".encode()
                )


def measured(name: str, command: list[str]) -> tuple[float, float]:
    """Seconds and peak GiB of a command; its output goes to stderr."""
    print(f"{name} ...", file=sys.stderr)
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{name}: exit status {status}")
    return time.monotonic() - start, usage.ru_maxrss / 2**20


def make(root: pathlib.Path, files: list[pathlib.Path], products: int, page_bytes: int) -> None:
    """Writes the three files that ESCI and ESCI-S publish."""
    root.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    texts = Texts(draw)
    locales = np.sort(draw.choice(3, products, p=SHARES))
    write_products(files[0], locales, draw, texts)
    write_examples(files[1], locales, draw, texts)
    write_pages(files[2], locales, page_bytes, draw, texts)


def main() -> None:
    """Writes the files, measures both, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--products", type=int, default=2_000_000)
    parser.add_argument("--page_bytes", type=int, default=4000, help="of a page of ESCI-S")
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    root, products = arguments.directory, arguments.products
    files = [root / name for name in ("products.parquet", "examples.parquet", "esci.json.zst")]
    if not all(file.exists() for file in files):
        make(root, files, products, arguments.page_bytes)
    flags = zip(("products", "examples", "metadata"), files, strict=True)
    module = [sys.executable, "-m", "catid2_jax.import_data", "esci", "--version=large"]
    paths = [f"--{flag}={file}" for flag, file in flags]
    ours = measured("import_data", [*module, f"--output={root / 'ours'}", *paths])
    rows = {"`import_data esci`": ours}
    if not arguments.alone:
        (root / "pandas").mkdir(exist_ok=True)
        script = [sys.executable, "-c", PANDAS, *map(str, files), str(root / "pandas")]
        rows["pandas"] = measured("pandas", script)
    sizes = ", ".join(f"{file.name} {file.stat().st_size / 2**30:.2f} GiB" for file in files)
    print(f"{products:,} products; {sizes}\n")
    print("| | seconds | products/s | peak memory, GiB |\n|---|---|---|---|")
    for name, (seconds, memory) in rows.items():
        print(f"| {name} | {seconds:.0f} | {products / seconds:,.0f} | {memory:.1f} |")
    for seconds, memory in list(rows.values())[1:]:
        ratio = ours[0] / seconds
        print(f"| ratio | {ratio:.2f} | {1 / ratio:.2f} | {ours[1] / memory:.2f} |")


if __name__ == "__main__":
    main()
