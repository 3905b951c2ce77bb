"""What changes of the catalogue and of the model cost a retrieval service that is asked meanwhile.

    catid2 export --config=quickstart --workdir=runs/quickstart
    python benchmarks/serve_changes.py --bundle runs/quickstart/cat_id2/export

Clients ask one query at a time as fast as they are answered, first with no change and then, for
each kind of change, while it is made over and over: the list of what is out of stock, a product's
title, and another bundle. Prints Markdown: the seconds of a change, requests per second, their
times, and those that failed or have an invalid result, as `serve_load.py` counts them.
"""

import argparse
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from serve_load import Serving, free_port, load, queries_of, said, spawn

import catid2_jax
from catid2_jax.docids.table import format_docid
from catid2_jax.serving.client import Client
from catid2_jax.serving.config import ServeConfig
from catid2_jax.serving.server import ADMIN_KEY


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=pathlib.Path, required=True, help="in its work directory")
    parser.add_argument("--beams", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--k", type=int, default=10)
    given = parser.parse_args()
    os.environ[ADMIN_KEY] = "benchmark"  # the server's process has it from here
    retriever = catid2_jax.load(given.bundle)
    table = retriever.table
    assert table
    docids = dict(zip(table.ids, map(format_docid, table.codes.tolist()), strict=True))
    with tempfile.TemporaryDirectory() as temporary:
        versions = pathlib.Path(temporary)
        for name in ("a", "b"):
            shutil.copytree(given.bundle, versions / name)
        config = ServeConfig(
            port=free_port(),
            beams=given.beams,
            beam_rows=32 * given.beams,
            cache=0,
            queue=4096,
            timeout=600.0,
            versions=str(versions),
        )
        product = retriever.catalog[0]
        changes = changes_of(table.ids, product)
        arguments = (
            config.port,
            queries_of(given.bundle.parent.parent),
            given.clients,
            given.seconds,
            given.k,
            docids,
        )
        print("| changed | changes | seconds of one | requests/s | p50 | p95 | p99 | invalid |")
        print("|---" * 8 + "|")
        with Serving(versions / "a", config, False):
            admin = Client(f"http://127.0.0.1:{config.port}", "benchmark", timeout=600)
            for name, change in {"nothing": None, **changes}.items():
                row, seconds = measure(admin, change, arguments)
                each = f"{np.median(seconds):.2f}" if seconds else ""
                cells = said(row, row["rate"]).split(" | ")
                rate, times = cells[0], " | ".join(cells[2:])
                print(f"| {name} | {len(seconds)} | {each} | {rate} | {times} |", flush=True)


def changes_of(ids: Any, product: Any) -> dict[str, Callable[[Client, int], object]]:
    """What is changed: name -> a function of the client and the number of the change."""
    record = {"id": product.id, "text": product.text, "categories": list(product.categories)}

    def stock(admin: Client, turn: int) -> object:
        gone = {"out_of_stock": [ids[turn % len(ids)]]}
        return admin.call("PUT", "/v1/admin/stock", gone)

    def title(admin: Client, turn: int) -> object:
        changed = {"upsert": [{**record, "title": f"{product.title} {turn}"}], "remove": []}
        return admin.call("POST", "/v1/admin/products", changed)

    def bundle(admin: Client, turn: int) -> object:
        return admin.call("POST", "/v1/admin/version", {"bundle": "ba"[turn % 2]})

    return {"what is out of stock": stock, "a product's title": title, "the bundle": bundle}


def measure(
    admin: Client, change: Callable[[Client, int], object] | None, arguments: tuple[Any, ...]
) -> tuple[dict[str, Any], list[float]]:
    """The load as `serve_load.load` has it, and the seconds of each change that was made in it."""
    seconds: list[float] = []
    with spawn.Pool(1) as pool:
        asked = pool.apply_async(load, arguments)
        while not asked.ready():
            if change is None:
                asked.wait()
                continue
            start = time.perf_counter()
            change(admin, len(seconds))
            seconds.append(time.perf_counter() - start)
        return asked.get(), seconds


if __name__ == "__main__":
    main()
