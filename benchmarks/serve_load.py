"""Load on the retrieval service over loopback, beside its bare search and `transformers`.

    python benchmarks/serve_load.py --workdir runs/quickstart            # CPUs, with the peer
    python benchmarks/serve_load.py --workdir runs/quickstart --no-peer --beam_rows 65536  # a GPU

For each number of beams: queries per second of the search alone in its fastest batches; then, for
each number of clients that ask one query at a time and wait for the answer, requests per second,
their times, and results that are invalid: not k products, one twice, or an ID that is not the
product's. Each of these queries is searched for; last, the most clients ask for a few that are
kept, which is what HTTP and the clients, on the same cores, leave room for where nothing is
searched. The peer is `transformers`' beam search with a trie of Python dictionaries behind the same
server and queue, with the same parameters; the overlap is the share of our k products that it finds
too. Prints Markdown.
"""

import argparse
import http.client
import json
import multiprocessing
import pathlib
import socket
import sys
import tempfile
import threading
import time
from typing import Any

import numpy as np

import catid2_jax
from catid2_jax.data.queries import read_queries
from catid2_jax.docids.table import format_docid
from catid2_jax.progress import console
from catid2_jax.serving.client import Client
from catid2_jax.serving.config import ServeConfig

_KEPT = 16  # queries; all are asked for in turn, so that none of many is found again
spawn = multiprocessing.get_context("spawn")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="of a system with T5")
    parser.add_argument("--beams", type=int, nargs="+", default=[50, 512])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--beam_rows", type=int, default=0, help="budget; 32 queries if left out")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    console.quiet = True  # here and in every process: nothing but the table
    texts = queries_of(given.workdir)
    table = catid2_jax.load(given.workdir).table
    docids = dict(zip(table.ids, map(format_docid, table.codes.tolist()), strict=True))
    columns = (
        "beams | server | clients | requests/s | of the bare search | p50 | p95 | p99 | invalid"
    )
    print(f"| {columns} |")
    print("|---" * 9 + "|")
    for beams in given.beams:
        config = ServeConfig(
            port=free_port(),
            beams=beams,
            beam_rows=given.beam_rows or 32 * beams,
            cache=_KEPT,
            queue=4096,
            timeout=600.0,
        )
        rate = in_process(bare_rate, given.workdir, config, texts, given.seconds)
        print(f"| {beams} | none: the search alone | | {rate:,.1f} | 100 % | | | | |", flush=True)
        found: dict[str, list[Any]] = {}
        for name, peer in (("ours", False), *([("transformers", True)] if given.peer else [])):
            with Serving(given.workdir, config, peer) as client:
                for clients in given.clients:
                    arguments = (config.port, texts, clients, given.seconds, given.k, docids)
                    row = in_process(load, *arguments)
                    print(f"| {beams} | {name} | {clients} | {said(row, rate)} |", flush=True)
                if not peer:
                    arguments = (config.port, texts[:_KEPT], *arguments[2:])
                    row = in_process(load, *arguments)
                    label = f"{name}, kept answers"
                    print(f"| {beams} | {label} | {clients} | {said(row, rate)} |", flush=True)
                sample = [client.retrieve([text], k=given.k)[0].hits for text in texts[:50]]
                found[name] = [{hit.id for hit in hits} for hits in sample]
        if given.peer:
            pairs = zip(*found.values(), strict=True)
            overlap = np.mean([len(ours & theirs) / max(len(ours), 1) for ours, theirs in pairs])
            print(
                f"| {beams} | overlap with transformers | | {overlap:.1%} | | | | | |", flush=True
            )


def queries_of(workdir: pathlib.Path) -> list[str]:
    """All texts of queries of a work directory, each once."""
    paths = sorted((workdir / "data").glob("queries.*.jsonl"))
    return list(dict.fromkeys(query.text for path in paths for query in read_queries(path)))


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def in_process(function: Any, *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    with spawn.Pool(1) as pool:
        return pool.apply(function, arguments)


def bare_rate(
    workdir: pathlib.Path, config: ServeConfig, texts: list[str], seconds: float
) -> float:
    """Queries per second of the compiled search in its fastest batches, tokens made before."""
    from catid2_jax.serving.base import load_base
    from catid2_jax.serving.version import Version

    console.quiet = True
    version = Version("bare", load_base(workdir, config).retriever, config)
    version.prepare()
    search = version.search
    batch = search.queries_at_once(search.shapes(config.beams)[-1], config.beams)
    sources = version.model.source.of_queries(texts)
    masks = [version.everything] * batch
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        rows = np.arange(count, count + batch) % len(sources)
        search.run(sources[rows], masks, config.beams)
        count += batch
    return count / (time.perf_counter() - start)


class Serving:
    """Context manager of a server in a process of its own; gives a client once it is ready."""

    def __init__(self, workdir: pathlib.Path, config: ServeConfig, peer: bool) -> None:
        self._process = spawn.Process(target=serve, args=(workdir, config, peer))
        self._url = f"http://127.0.0.1:{config.port}"

    def __enter__(self) -> Client:
        self._process.start()
        client = Client(self._url, timeout=600)
        while True:
            if not self._process.is_alive():
                sys.exit("the server has ended")
            try:
                client.call("GET", "/ready")
            except OSError:
                time.sleep(0.2)
            else:
                return client

    def __exit__(self, *_: object) -> None:
        compilations = Client(self._url).call("GET", "/ready")["compilations"]
        if compilations:
            print(f"{compilations} compilations while serving", file=sys.stderr)
        self._process.terminate()
        self._process.join()


def serve(workdir: pathlib.Path, config: ServeConfig, peer: bool) -> None:
    """Serves, by the peer's search if asked for."""
    from catid2_jax.serving import server, version

    console.quiet = True
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115
    if peer:
        transformers_search(version, workdir)
    server.serve(workdir, config)


def load(
    port: int, texts: list[str], clients: int, seconds: float, k: int, docids: dict[str, str]
) -> dict[str, Any]:
    """Clients that ask as fast as they are answered, each on a connection of its own."""
    times: list[float] = []
    invalid, failed, lock = [0], [0], threading.Lock()
    begin = threading.Barrier(clients + 1)

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        headers = {"content-type": "application/json"}
        begin.wait()
        end, turn = time.perf_counter() + seconds, number
        while time.perf_counter() < end:
            body = json.dumps({"queries": texts[turn % len(texts)], "k": k})
            turn += clients
            start = time.perf_counter()
            connection.request("POST", "/v1/retrieve", body, headers)
            with connection.getresponse() as response:
                status, answer = response.status, response.read()
            taken = time.perf_counter() - start
            with lock:
                times.append(taken)
                failed[0] += status != 200
                invalid[0] += status == 200 and not is_valid(json.loads(answer), k, docids)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return {
        "rate": len(times) / (time.perf_counter() - start),
        "percentiles": [float(value) for value in np.percentile(times, [50, 95, 99])],
        "invalid": invalid[0] + failed[0],
        "requests": len(times),
    }


def is_valid(answer: dict[str, Any], k: int, docids: dict[str, str]) -> bool:
    """Whether a result has k products, each once, with the IDs that they have."""
    hits = answer["results"][0]["hits"]
    ids = {hit["id"] for hit in hits}
    wanted = min(k, len(docids))
    return len(ids) == len(hits) == wanted and all(
        docids[hit["id"]] == hit["docid"] for hit in hits
    )


def said(row: dict[str, Any], rate: float) -> str:
    """A row of the table."""
    times = " | ".join(f"{1e3 * seconds:,.0f} ms" for seconds in row["percentiles"])
    return (
        f"{row['rate']:,.1f} | {row['rate'] / rate:.0%} | {times} | "
        f"{row['invalid']} of {row['requests']:,}"
    )


def transformers_search(version: Any, workdir: pathlib.Path) -> None:
    """Has versions search by `transformers`, with a trie of dictionaries, instead of by JAX."""
    import torch
    import transformers

    from catid2_jax.checkpoints.folder import read_checkpoint, write_checkpoint
    from catid2_jax.checkpoints.id_rows import find_vocabulary
    from catid2_jax.checkpoints.trained import system_folder
    from catid2_jax.serving.search import CompiledSearch, Found
    from catid2_jax.training.checkpoint import newest_step

    folder = system_folder(workdir, "seq2seq")
    best = folder is not None and newest_step(folder / "seq2seq" / "best") is not None
    checkpoint = read_checkpoint(workdir, "best" if best else "last")
    with tempfile.TemporaryDirectory() as temporary:
        target = pathlib.Path(temporary) / "peer"
        write_checkpoint(target, "huggingface", checkpoint, find_vocabulary(checkpoint))
        network = transformers.T5ForConditionalGeneration.from_pretrained(target).eval()

    class Constraint(transformers.LogitsProcessor):  # type: ignore[misc]
        """The tokens that continue a prefix; those of a level compete where training had it so."""

        def __init__(self, trie: dict[int, Any], decoder: Any, over_level: bool) -> None:
            self.trie, self.over_level = trie, over_level
            self.first, self.size = decoder.first_id_token, decoder.codebook_size

        def __call__(self, ids: Any, scores: Any) -> Any:
            start = self.first + (ids.shape[1] - 1) * self.size
            if self.over_level:
                scores = scores - scores[:, start : start + self.size].logsumexp(1, keepdim=True)
            allowed = torch.full_like(scores, -float("inf"))
            for row, tokens in enumerate(ids.tolist()):
                node = self.trie
                for token in tokens[1:]:
                    node = node.get(token, {})  # none beneath a beam of score -inf
                following = list(node)
                allowed[row, following] = scores[row, following]
            return allowed

    class TransformersSearch(CompiledSearch):
        """The search of the peer; nothing is compiled."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            table, decoder = self.model.table, self.model.decoder
            trie: dict[int, Any] = {}
            self._rows: dict[tuple[int, ...], int] = {}
            levels = np.arange(table.levels) * decoder.codebook_size
            for row, tokens in enumerate((table.codes + decoder.first_id_token + levels).tolist()):
                self._rows[tuple(tokens)] = row
                node = trie
                for token in tokens:
                    node = node.setdefault(token, {})
            constraint = Constraint(trie, decoder, self.model.normalize_over != "full")
            self._processors = transformers.LogitsProcessorList([constraint])

        def prepare(self, mask: Any) -> None:
            """Nothing is compiled."""

        def run(self, sources: Any, masks: Any, beams: int) -> list[Found]:
            """As `CompiledSearch.run`."""
            with torch.no_grad():
                found = network.generate(
                    input_ids=torch.tensor(sources, dtype=torch.long),
                    attention_mask=torch.tensor(sources != 0, dtype=torch.long),
                    logits_processor=self._processors,
                    num_beams=beams,
                    num_return_sequences=beams,
                    do_sample=False,
                    early_stopping=True,
                    length_penalty=0.0,
                    max_new_tokens=self.model.table.levels,
                    eos_token_id=None,
                    return_dict_in_generate=True,
                    output_scores=True,
                )
            levels = self.model.table.levels
            sequences = found.sequences[:, 1 : levels + 1].reshape(len(sources), beams, levels)
            scores = found.sequences_scores.reshape(len(sources), beams).numpy()
            return [self._found(*pair) for pair in zip(sequences.tolist(), scores, strict=True)]

        def _found(self, sequences: list[list[int]], scores: np.ndarray) -> Found:
            rows = np.array([self._rows.get(tuple(tokens), -1) for tokens in sequences])
            rows = np.where(np.isfinite(scores), rows, -1)
            return Found(rows, scores, np.inf)

    version.CompiledSearch = TransformersSearch


if __name__ == "__main__":
    main()
