"""What stands between the network and the routes: sizes, times, and one log line per request."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from catid2_jax.serving.config import ServeConfig
from catid2_jax.serving.metrics import Metrics

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

LOG = logging.getLogger("catid2_jax.serve")
"""What happens to the service; `server.JsonLines` writes it."""


class TooLarge(Exception):  # noqa: N818
    """A body of more bytes than are allowed."""


class Limits:
    """ASGI middleware: bounds a body's size and the time that it takes to come, logs and counts."""

    def __init__(self, app: App, config: ServeConfig, metrics: Metrics) -> None:
        self._app, self._config, self._metrics = app, config, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        notes = scope.setdefault("state", {})
        notes["log"] = {}

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        try:
            await self._answer(scope, receive, noting)
        finally:
            self._note(scope, status, time.perf_counter() - start)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            body = await self._body(scope, receive)
        except TooLarge:
            await _refuse(send, 413, f"a body of more than {self._config.body_bytes} bytes")
        except TimeoutError:
            await _refuse(send, 408, "the request did not arrive in time")
        else:
            if body is not None:
                await self._app(scope, _replayed(body, receive), send)

    async def _body(self, scope: Message, receive: Receive) -> bytes | None:
        """The whole body; None if the client has gone.

        Raises:
            TooLarge: it has more bytes than are allowed, or says so.
            TimeoutError: it is not there in time.
        """
        most = self._config.body_bytes
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > most:
            raise TooLarge
        parts, size = [], 0
        async with asyncio.timeout(self._config.header_timeout):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise TooLarge
                if not message.get("more_body", False):
                    return b"".join(parts)

    def _note(self, scope: Message, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        fields = {
            "method": scope["method"],
            "path": path,
            "status": status,
            "milliseconds": round(1e3 * seconds, 2),
            **scope["state"]["log"],
        }
        LOG.info("request", extra={"fields": fields})


_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body at once, and then what the server has to say."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(send: Send, status: int, error: str) -> None:
    content = json.dumps({"error": error, "field": ""}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def impatient(seconds: float) -> type[H11Protocol]:
    """The protocol of uvicorn, which ends a connection whose request head does not come in time.

    By itself it waits for ever for the rest of a head that has begun.
    """

    class Impatient(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._timer = self.loop.call_later(seconds, self._give_up)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            waits = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
            if not waits:
                self._stop()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            if not self.transport.is_closing():
                self.transport.close()

    return Impatient
