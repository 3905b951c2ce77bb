"""A service in this process, on a port of its own."""

import asyncio
import contextlib
import dataclasses
import threading
import time

import uvicorn

from catid2_jax.serving.app import make_app
from catid2_jax.serving.client import Client
from catid2_jax.serving.compilations import Compilations
from catid2_jax.serving.config import ServeConfig
from catid2_jax.serving.server import _uvicorn_config, bound, make_service
from catid2_jax.serving.service import Service

BEAMS = 12
SMALL = {"beams": BEAMS, "beam_rows": 4 * BEAMS, "timeout": 60.0, "header_timeout": 5.0}
"""Batches of 1, 2 and 4."""


@dataclasses.dataclass(frozen=True)
class Running:
    """A service that answers.

    Attributes:
        url: where.
        client: asks it.
        service: the service behind the routes.
        compilations: those that it counts.
    """

    url: str
    client: Client
    service: Service
    compilations: Compilations

    @property
    def admin(self):
        """A client that may change what is served."""
        return Client(self.url, "admin")

    @property
    def address(self):
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def metric(self, name):
        """The value of a metric without labels."""
        text = self.service.metrics.text().decode()
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        return float(line.split()[1])


@contextlib.contextmanager
def running(workdir, key="", admin_key="admin", **settings):
    """Serves a work directory until the block ends."""
    config = ServeConfig(**(SMALL | settings))
    service, compilations = make_service(workdir, config)
    app = make_app(service, compilations, key, admin_key)
    with bound("127.0.0.1", 0) as listener:
        server = uvicorn.Server(_uvicorn_config(app, config))
        thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with compilations.prepared():  # what this thread compiles is the test's own
                yield Running(url, Client(url, key), service, compilations)
        finally:
            server.should_exit = True
            thread.join()
            service.engine.close()
            service.close()
