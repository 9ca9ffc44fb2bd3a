"""Checks that all servers of this package apply to requests: the named host, and the size."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from rlmba.annotators.loopback import is_loopback

__all__ = ["TooLongError", "names_host", "received"]


def names_host(header: str, *hosts: str) -> bool:
    """Whether the ``Host`` header of a request names this machine, or one of ``hosts``.

    A server that is reachable only from this machine accepts no other name. This prevents DNS rebinding.
    """
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return is_loopback(host) or host in [known.lower() for known in hosts]


class TooLongError(Exception):
    """The body of a request is too large."""


async def received(receive: Receive, most: int) -> Receive:
    """Read the body of a request. Returns the callable that passes it to the application.

    The bytes are counted as they arrive, because a request with ``Transfer-Encoding: chunked`` does not
    declare its length.

    Raises
    ------
    TooLongError
        If there are more than ``most`` bytes.
    ClientDisconnect
        If the client disconnects before the body is complete.
    """
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise TooLongError
    left: list[Message] = [{"type": "http.request", "body": bytes(body)}]

    async def replayed() -> Message:
        return left.pop() if left else await receive()

    return replayed
