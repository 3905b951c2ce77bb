"""The memory that `prepare` and `embed` take on the host as a catalogue grows.

    python benchmarks/host_memory.py --documents 10000 100000 1000000

Random products of about 300 bytes; each step is a process of its own, and its peak memory is what
the system says at its end. The vectors have 64 dimensions; those of an encoder cost nothing, so
that the rest is seen. `--lsa` measures that encoder too, which takes minutes from a million
products on. Prints Markdown.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from catid2_jax.encoders.encoder import Encoder

ROOT = pathlib.Path(__file__).parent.parent
WIDTH = 64


class Ramp(Encoder):
    """Vectors of no meaning at no cost, to see what everything around an encoder takes."""

    key = "ramp"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [N, 64]."""
        lengths = np.array([len(text) for text in texts], np.float32)
        return lengths[:, None] + np.arange(64, dtype=np.float32)


def measure(sizes: Sequence[int], with_lsa: bool) -> None:
    """Prints the table of the memory of `prepare` and `embed`, and of the bytes that they leave."""
    print("| step | documents | s | peak memory, GB | written, bytes per document |")
    print("|---" * 5 + "|", flush=True)
    for documents in sizes:
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder)
            _write_products(place, documents)
            vectors = f"--config.embedding.path={place / 'vectors.npy'}"
            encoders = {
                "an encoder": ("--config.embedding.encoder=host_memory:Ramp",),
                "precomputed": ("--config.embedding.encoder=precomputed", vectors),
            }
            if with_lsa:
                encoders["lsa"] = ("--config.embedding.dim=64",)
            _report("prepare", documents, *_run(place, place / "prepared", "prepare"))
            for name, options in encoders.items():
                workdir = shutil.copytree(place / "prepared", place / name.replace(" ", "_"))
                _report(f"embed, {name}", documents, *_run(place, workdir, "embed", options))
                shutil.rmtree(workdir)


def _report(name: str, documents: int, seconds: float, peak: int, written: int) -> None:
    print(
        f"| {name} | {documents:,} | {seconds:.0f} | {peak / 1e9:.3f} | "
        f"{written / documents:.0f} |",
        flush=True,
    )


def _write_products(place: pathlib.Path, documents: int) -> None:
    """Products of about 300 bytes, a query that is relevant to some, and vectors."""
    generator = np.random.default_rng(0)
    words = [f"word{number}" for number in range(5000)]
    with open(place / "catalog.jsonl", "w", encoding="utf-8") as file:
        for number in range(documents):
            drawn = generator.integers(5000, size=36).tolist()
            text = [words[word] for word in drawn]
            path = [f"a{drawn[0] % 10}", f"b{drawn[1] % 10}", f"c{drawn[2] % 10}"]
            product = {"id": f"p{number}", "title": " ".join(text[:6]), "text": " ".join(text[6:])}
            file.write(json.dumps(product | {"categories": path}) + "\n")
    for split in ("train", "test"):
        (place / f"{split}.jsonl").write_text('{"id": "q", "text": "word1"}\n', encoding="utf-8")
        (place / f"{split}.qrels").write_text("q 0 p0 3\n", encoding="utf-8")
    # Not mapped: what a process has in memory counts for those that it starts.
    with open(place / "vectors.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (documents, WIDTH)}
        np.lib.format.write_array_header_1_0(file, header)
        row = np.arange(1, WIDTH + 1, dtype="<f4").tobytes()
        for _ in range(documents):
            file.write(row)


def _run(
    place: pathlib.Path, workdir: pathlib.Path, verb: str, options: Sequence[str] = ()
) -> tuple[float, int, int]:
    """Seconds and peak bytes of a verb in a process of its own, and the bytes it has written."""
    command = [sys.executable, "-m", f"catid2_jax.{verb}", f"--workdir={workdir}", *options]
    command += [f"--config={ROOT / 'configs/rqvae.py'}"]
    command += [f"--config.data.catalog={place / 'catalog.jsonl'}"]
    for split in ("train", "test"):
        command += [f"--config.data.{split}_queries={place / split}.jsonl"]
        command += [f"--config.data.{split}_qrels={place / split}.qrels"]
    folders = f"{ROOT}{os.pathsep}{pathlib.Path(__file__).parent}"
    before, start = _size(workdir), time.monotonic()
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": folders}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    if usage.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        raise SystemExit("the peak may be that of this process, which Linux hands on")
    return time.monotonic() - start, 1024 * usage.ru_maxrss, _size(workdir) - before


def _size(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--lsa", action="store_true", help="the encoder `lsa` too")
    arguments = parser.parse_args()
    measure(arguments.documents, arguments.lsa)


if __name__ == "__main__":
    main()
