"""The server's process: it binds its port, prepares the first version, answers, and drains."""

import asyncio
import contextlib
import json
import logging
import math
import os
import pathlib
import signal
import socket
import time
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from catid2_jax.errors import InputError
from catid2_jax.progress import console
from catid2_jax.serving.app import make_app
from catid2_jax.serving.compilations import Compilations
from catid2_jax.serving.config import ServeConfig
from catid2_jax.serving.engine import Engine
from catid2_jax.serving.limits import impatient
from catid2_jax.serving.living import Living
from catid2_jax.serving.metrics import Metrics
from catid2_jax.serving.service import Service

KEY, ADMIN_KEY = "CATID2_API_KEY", "CATID2_ADMIN_KEY"
"""Environment variables of the keys; command lines can be read by other users of a machine."""


class JsonLines(logging.Formatter):
    """Writes each record of the log as a JSON object in a line."""

    def format(self, record: logging.LogRecord) -> str:
        """A line."""
        fields = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class DrainingServer(uvicorn.Server):
    """A server that is not ready for some seconds before it closes its port, and then drains."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain: float) -> None:
        super().__init__(config)
        self._app, self._drain = app, drain
        self._told = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Has SIGTERM and SIGINT end the server with code 0; a second one does not wait."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        if self._told:
            self.should_exit = self.force_exit = True
            return
        self._told = self._app.state.draining = True
        asyncio.get_running_loop().call_later(self._drain, setattr, self, "should_exit", True)


def serve(path: pathlib.Path, config: ServeConfig) -> None:
    """Serves a bundle or a finished work directory until a signal ends it.

    Raises:
        InputError: the port cannot be had, or the retriever not be loaded.
    """
    with bound(config.host, config.port) as listener:
        console.print(f"loading {path} and compiling its search ...")
        service, compilations = make_service(path, config)
        key, admin_key = os.environ.get(KEY, ""), os.environ.get(ADMIN_KEY, "")
        app = make_app(service, compilations, key, admin_key)
        server = DrainingServer(_uvicorn_config(app, config), app, config.drain)
        port = listener.getsockname()[1]
        address = f"[{config.host}]" if ":" in config.host else config.host
        version = service.living.current.name
        console.print(f"serving version {version} on http://{address}:{port}/")
        _write_log()
        console.quiet = True  # what is printed of single queries is not for a server
        try:
            asyncio.run(server.serve([listener]))
        finally:
            console.quiet = False
            service.engine.close()
            service.close()
    console.print("ended; every request that was taken is answered")


def make_service(path: pathlib.Path, config: ServeConfig) -> tuple[Service, Compilations]:
    """The service over a bundle or work directory, ready to answer.

    Raises:
        InputError: the retriever cannot be loaded, or its self-check fails.
    """
    compilations, metrics = Compilations(), Metrics()
    living = Living(path, config, compilations)
    engine = Engine(config.queue, metrics.batch)
    metrics.set_version(living.current.name)
    metrics.gauge("catid2_queue_queries", "Queries that wait", lambda: len(engine))
    metrics.gauge("catid2_products", "Products", lambda: len(living.current.catalog))
    metrics.gauge(
        "catid2_compilations_after_warmup",
        "Compilations while serving, which must remain 0",
        lambda: compilations.serving,
    )
    metrics.gauge(
        "catid2_compilations_of_warmup",
        "Compilations while versions were prepared",
        lambda: compilations.preparing,
    )
    compilations.serving = 0
    return Service(config, living, engine, metrics), compilations


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has an address, but does not listen yet.

    Raises:
        InputError: there is no such address, or another program has the port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InputError("host", repr(host), "an address of this machine") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            where = "port" if error.errno != 99 else "host"
            found = f"{port if where == 'port' else repr(host)} ({error.strerror})"
            raise InputError(where, found, "an address that is free, such as port 0") from error
        yield listener


def _uvicorn_config(app: FastAPI, config: ServeConfig) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=impatient(config.header_timeout),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=config.connections,
        timeout_graceful_shutdown=math.ceil(config.timeout) + 1,
        lifespan="off",
    )


def _write_log() -> None:
    """Sends the log to standard error, as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in (("catid2_jax.serve", logging.INFO), ("uvicorn.error", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
