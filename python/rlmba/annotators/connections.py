"""Limits on connections to the page: their number, and how long one may keep the server waiting."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["PageServer", "keep_alive", "most_connections"]

REQUEST = 20.0
"""The time limit for a request to arrive, in seconds after the connection or the previous answer."""

_AT_ONCE = 32
"""The number of connections that are accepted before the first one is handled."""

_MOST = 256
_LEAST = 8
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SAY = 60.0
"""Seconds between two equal messages."""


def most_connections() -> int:
    """The largest number of connections, given the file descriptors that are free now.

    A connection needs one descriptor, and another one while it reads a file. A third of them stays free.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    taken = 0
    with suppress(OSError):
        taken = len(os.listdir("/dev/fd"))  # noqa: PTH208 - only their number
    return max(_LEAST, min(_MOST, (soft - taken) // 3))


def keep_alive(listener: socket.socket) -> None:
    """Detect connections whose other end is gone, after a few minutes."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Connection(H11Protocol):
    """A connection that is closed if no request arrives in time.

    If there are as many connections as the server's ``limit_concurrency``, a new one replaces the one that
    has been without a request for the longest time.
    """

    _deadline: asyncio.TimerHandle | None = None
    _waits_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Also close another connection if there are too many."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._watch()
        if len(self.connections) >= (self.limit_concurrency or _MOST):
            waiting = [c for c in self.connections if isinstance(c, Connection) and c.is_waiting()]
            min(waiting, key=lambda c: c._waits_since, default=self).end()

    def data_received(self, data: bytes) -> None:
        """Also check whether the request is complete now."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Also wait for the next request."""
        super().on_response_complete()
        self._waits_since = self.loop.time()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Also cancel the deadline."""
        self._forget()
        super().connection_lost(exc)

    def is_waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def end(self) -> None:
        """Close the connection at once."""
        self.connections.discard(self)
        self.transport.abort()

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(REQUEST, self.end)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class PageServer(uvicorn.Server):
    """A server that closes idle connections and logs little when the process has no descriptors left.

    Parameters
    ----------
    app : ASGI application
    """

    _said = -_SAY

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            # Lower levels report what strangers send, which must not fill a disk.
            log_level="error",
            access_log=False,
            lifespan="off",
            http=Connection,
            limit_concurrency=most_connections(),
            loop="asyncio",
            backlog=_AT_ONCE,
            workers=1,
            proxy_headers=False,
            ws="none",
            server_header=False,
            # Players keep connections open until they are done.
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Also handle errors outside of requests."""
        asyncio.get_running_loop().set_exception_handler(self._trouble)
        await super().startup(sockets)

    def _trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
            return
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection) and connection.is_waiting():
                connection.end()
        if loop.time() - self._said >= _SAY:
            self._said = loop.time()
            logging.getLogger("uvicorn.error").error(
                "the page cannot accept connections at the moment (%s): close other programs, or start it "
                "again with a higher `ulimit -n`",
                error.strerror,
            )
