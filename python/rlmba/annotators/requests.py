"""Checks that all servers of this package apply to requests: the named host, the size, and the content."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from rlmba.annotators.loopback import is_loopback
from rlmba.errors import DataError

__all__ = ["TooLongError", "json_body", "malformed", "names_host", "received"]

_MESSAGE = 2000
"""The number of characters in a message about a malformed request."""

_Model = TypeVar("_Model", bound=BaseModel)


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


def json_body(model: type[_Model], *, typed: bool = False) -> Any:
    """A dependency of FastAPI that reads the request's body as a model.

    With ``typed``, the header must give the content type ``application/json``, or DataError is raised.
    """

    async def read(request: Request) -> _Model:
        type_ = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if typed and type_ != "application/json":
            raise DataError(f"expected the content type application/json, got {type_!r}")
        # pydantic's parser refuses lone surrogates and deep nesting, which Python's accepts.
        return model.model_validate_json(await request.body())

    return Depends(read)


def malformed(error: Exception) -> str:
    """What is wrong with a request, without what was sent, which may not be text that can be sent back."""
    assert isinstance(error, ValidationError | RequestValidationError)
    wrong = [f"{'.'.join(map(str, e['loc'])) or 'request'}: {e['msg']}" for e in error.errors()]
    return f"expected another request: {'; '.join(wrong)[:_MESSAGE]}"
