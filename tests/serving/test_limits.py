"""What is refused, and how: by a status and a field, in time, without a word too many."""

import concurrent.futures
import contextlib
import json
import logging
import socket
import threading
import time

import httpx
import pytest

from catid2_jax.serve import main
from catid2_jax.serving.limits import LOG
from tests.serving.running import BEAMS, running
from tests.serving.test_answers import refused


@pytest.fixture(scope="module")
def strict(tiny_workdir):
    """A service with narrow limits."""
    limits = {"batch": 3, "query_length": 20, "filter_entries": 2, "body_bytes": 2000}
    with running(tiny_workdir, header_timeout=0.5, **limits) as service:
        yield service


def post(service, content, path="/v1/retrieve"):
    headers = {"content-type": "application/json"}
    return httpx.post(f"{service.url}{path}", content=content, headers=headers, timeout=30)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "queries"),
        ({"queries": 3}, "queries.str"),
        ({"queries": []}, "queries"),
        ({"queries": ["a"] * 4}, "queries"),
        ({"queries": ["a", " "]}, "queries.1"),
        ({"queries": ""}, "queries.0"),
        ({"queries": "a" * 21}, "queries.0"),
        ({"queries": "a", "k": 0}, "k"),
        ({"queries": "a", "k": BEAMS + 1}, "k"),
        ({"queries": "a", "k": "3"}, "k"),
        ({"queries": "a", "k": 2.5}, "k"),
        ({"queries": "a", "k": True}, "k"),
        ({"queries": "a", "k": 10**30}, "k"),
        ({"queries": "a", "method": "magic"}, "method"),
        ({"queries": "a", "exact": 1}, "exact"),
        ({"queries": "a", "beams": 3}, "beams"),
        ({"queries": "a", "filter": []}, "filter"),
        ({"queries": "a", "filter": {"allow": []}}, "filter.allow"),
        ({"queries": "a", "filter": {"allow_ids": "p"}}, "filter.allow_ids"),
        ({"queries": "a", "filter": {"allow_ids": ["unknown"]}}, "filter.allow_ids"),
        ({"queries": "a", "filter": {"deny_ids": ["a b"]}}, "filter.deny_ids"),
        ({"queries": "a", "filter": {"deny_ids": ["x", "y", "z"]}}, "filter.deny_ids"),
        (
            {"queries": "a", "filter": {"allow_categories": ["No > Such"]}},
            "filter.allow_categories",
        ),
        ({"queries": "a", "filter": {"deny_categories": [" > "]}}, "filter.deny_categories"),
        ({"queries": "a", "filter": {"attributes": {"x": {"at_most": 1}}}}, "filter.attributes"),
        (
            {"queries": "a", "filter": {"attributes": {"brand": {"most": 1}}}},
            "filter.attributes.brand.most",
        ),
    ],
)
def test_a_wrong_field_is_named(strict, body, field):
    answer = post(strict, json.dumps(body))
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert set(answer.json()) == {"error", "field"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b'"a"',
        b"{",
        b"\xff\xfe",
        b'{"queries": "\xc3\x28"}',
        b'{"queries": "\\ud800"}',
        b'{"queries": "a", "k": NaN}',
        b'{"queries": "a", "k": Infinity}',
        b'{"queries": NaN}',
        b'{"queries": "a", "filter": {"attributes": {"brand": {"at_most": NaN}}}}',
        b"[" * 1900,
        b'{"a":' * 380,
    ],
)
def test_a_body_that_is_none(strict, content):
    answer = post(strict, content)
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "field"}


@pytest.mark.parametrize(
    "extra",
    [b'{"a": ' * 40 + b"1" + b"}" * 40, b'{"\\udfff": 1}', b'{"a": ["\\ud800"]}', b'{"a": NaN}'],
)
def test_fields_of_products_that_are_no_plain_json(tiny_workdir, extra):
    text = b'{"upsert": [{"id": "p", "title": "t", "categories": ["c"], "extra": %s, "docid": %s}]}'
    with running(tiny_workdir) as service:
        headers = {"content-type": "application/json", "authorization": "Bearer admin"}
        url = f"{service.url}/v1/admin/products"
        answer = httpx.post(
            url, content=text % (extra, b'"<a_0><b_0><c_0>"'), headers=headers, timeout=30
        )
        assert answer.status_code == 422


def test_other_paths_and_methods(strict):
    for method, path, status in (
        ("GET", "/v1/retrieve", 405),
        ("POST", "/v1/products/x", 405),
        ("GET", "/docs", 404),
        ("GET", "/v1/products/", 404),
        ("GET", "/%ff/..%2f", 404),
    ):
        answer = httpx.request(method, f"{strict.url}{path}")
        assert (answer.status_code, answer.json()["field"]) == (status, "")


def exchange(service, data, wait=10.0):
    """What comes back until the server closes the connection, and after how long."""
    start = time.monotonic()
    with socket.create_connection(service.address, timeout=wait) as connection:
        for part in data:
            connection.sendall(part)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
    return answer, time.monotonic() - start


HEAD = b"POST /v1/retrieve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def test_large_bodies(strict):
    """By what they say, and by what comes where they say nothing."""
    assert post(strict, b" " * 2001).status_code == 413
    assert post(strict, iter([b" " * 1000] * 3)).status_code == 413
    assert post(strict, b" " * 2000).status_code == 422
    answer, seconds = exchange(strict, [HEAD + b"content-length: 99999999999999\r\n\r\n"])
    assert b" 413 " in answer.splitlines()[0]
    assert seconds < 5
    answer, _ = exchange(strict, [HEAD + b"content-length: x\r\n\r\n"])
    assert b" 400 " in answer.splitlines()[0]


def test_slow_clients_are_cut_off_and_hold_nobody_up(strict):
    """Nothing, half a head, a head without its body, and a second head that does not end."""
    whole = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    starts = [[], [b"GET /hea"], [HEAD + b"content-length: 9\r\n\r\n{"], [whole, b"GET /health HT"]]
    with concurrent.futures.ThreadPoolExecutor(len(starts)) as threads:
        found = list(threads.map(lambda data: exchange(strict, data), starts))
        assert strict.client.call("GET", "/health")["status"] == "alive"
    answers = [answer.splitlines()[:1] for answer, _ in found]
    assert answers[:2] == [[], []]
    assert b" 408 " in answers[2][0]
    assert b" 200 " in answers[3][0]
    for _, seconds in found:
        assert 0.4 < seconds < 8


@pytest.fixture
def blocked(tiny_workdir, monkeypatch):
    """A service whose search does not end before `gate` is set, with room for two queries."""
    with running(tiny_workdir, queue=2, batch=2, timeout=1.0) as service:
        search, gate = service.service.living.current.search, threading.Event()
        run = search.run

        def wait(*arguments):
            assert gate.wait(30)
            return run(*arguments)

        monkeypatch.setattr(search, "run", wait, raising=False)
        service.service.gate = gate
        yield service
        gate.set()


def test_a_request_without_a_result_in_time(blocked):
    error = refused(blocked.client.retrieve, ["tea"])
    assert (error.status, error.retry_after) == (503, 1)
    blocked.service.gate.set()
    assert blocked.client.retrieve(["tea"], k=1)[0].hits


def test_more_than_the_queue_holds(blocked):
    """One is searched for, two wait, the next is told when to come back."""
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        first = threads.submit(blocked.client.retrieve, ["tea"], k=1)
        engine, limit = blocked.service.engine, time.monotonic() + 10
        while blocked.service.metrics.batch_queries._sum.get() < 1:
            assert time.monotonic() < limit
            time.sleep(0.01)
        more = threads.submit(blocked.client.retrieve, ["sofa", "lamp"], k=1)
        while len(engine) < 2:
            assert time.monotonic() < limit
            time.sleep(0.01)
        error = refused(blocked.client.retrieve, ["chair"])
        assert error.status == 429
        assert error.retry_after >= 1
        blocked.service.gate.set()
        for future in (first, more):
            with contextlib.suppress(Exception):  # on a busy machine, too late
                future.result()
    assert blocked.client.retrieve(["chair"], k=1)[0].hits


def test_an_error_of_the_server_says_nothing_of_it(tiny_workdir, monkeypatch):
    with running(tiny_workdir) as service:
        monkeypatch.setattr(service.service, "rank", None)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        answer = post(service, b'{"queries": "a"}')
        assert answer.status_code == 500
        assert answer.json() == {"error": "an error of the server", "field": ""}


@pytest.mark.parametrize("log_queries", [False, True])
def test_the_log(tiny_workdir, log_queries):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        with running(tiny_workdir, log_queries=log_queries) as service:
            service.client.retrieve(["very private", "words"])
            refused(service.client.call, "GET", "/v1/products/secret")
            deadline = time.monotonic() + 10
            while len(records) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)  # the line follows the answer
    finally:
        LOG.removeHandler(handler)
    first, second = (record.fields for record in records)
    assert (first["path"], first["status"], first["queries"]) == ("/v1/retrieve", 200, 2)
    assert first["version"] == service.service.living.current.name
    assert ("private" in repr(records[0].__dict__)) == log_queries
    assert (second["path"], second["status"]) == ("/v1/products/{product_id:path}", 404)
    assert "secret" not in repr(records[1].__dict__)


# the command line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--workdir=none"], "none: found no such folder"),
        (["--workdir={tiny}", "--system=tiger"], "no system 'tiger'"),
        (["--workdir={tiny}", "--system=bm25"], "--system: found 'bm25', which generates no IDs"),
        (
            ["--workdir={tiny}", "--beams=20", "--beam_rows=19"],
            "--beam_rows: found 19, in which no",
        ),
        (["--workdir={tiny}", "--max_beams=3"], "--max_beams: found 3, expected at least beams"),
        (["--workdir={tiny}", "--port=65536"], "--port: found 65536, expected at least 0 and at"),
        (["--workdir={tiny}", "--host=no.such.host.invalid"], "--host: found 'no.such.host"),
        (
            ["--workdir={tiny}", "--batch=9", "--queue=8"],
            "--batch: found 9, expected at most queue",
        ),
        (["--workdir={tiny}", "--timeout=nan"], "--timeout: found nan, expected a finite"),
    ],
)
def test_what_cannot_be_served(tiny_workdir, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    flags = [flag.format(tiny=tiny_workdir) for flag in flags]
    if not any(flag.startswith("--port") for flag in flags):
        flags.append("--port=0")
    with pytest.raises(SystemExit) as error:
        main(["serve", *flags])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_port_in_use(tiny_workdir, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as error:
            main(["serve", f"--workdir={tiny_workdir}", f"--port={port}"])
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --port: found {port} (Address already in use)")
