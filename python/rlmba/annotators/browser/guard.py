"""Who may ask: the token, the names this server answers to, and what browsers are told to forbid."""

from __future__ import annotations

import hashlib
import html
import re
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlmba.annotators.loopback import is_loopback

__all__ = ["Guard"]

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Opened by itself, a file (an SVG, say) may do nothing at all.
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_BODY = 2**20
"""Bytes of a request at most."""


class Guard:
    """Lets requests through to an application that bring the token and come from its own page.

    The token comes in the link that was printed and is exchanged for a cookie that scripts cannot
    read and other sites cannot send. Requests that change something must name this server as their
    origin. A server that listens on this machine alone answers to no other name, so that a foreign
    name that was made to point here (DNS rebinding) gets nothing.

    Parameters
    ----------
    app : ASGI application
    token : str
    host : str
        Where the server listens.
    """

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self._app = app
        self._token = token
        self._host = host
        # Cookies know no ports: servers of two projects need two names.
        self._cookie = "rlmba_" + hashlib.sha256(token.encode()).hexdigest()[:12]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on; either way say what browsers shall forbid."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        refused = self._refused(request)
        if refused is None:
            try:
                receive = await _received(receive)
            except _TooLongError:
                refused = _too_long()
            except ClientDisconnect:
                return
        fresh = refused is None and "token" in request.query_params
        is_file = scope["path"] == "/media"

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers["Content-Security-Policy"] = _FILE_POLICY if is_file else _PAGE_POLICY
                headers.setdefault("Cache-Control", "no-store")
                if refused is not None:
                    # Who is refused has no use for the connection, and may be holding it on purpose.
                    headers["Connection"] = "close"
                if fresh:
                    headers.append(
                        "Set-Cookie",
                        f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict",
                    )
            await send(message)

        await (refused or self._app)(scope, receive, sent)

    def _refused(self, request: Request) -> Response | None:
        name = request.headers.get("host", "")
        if is_loopback(self._host) and not self._is_own(name):
            return _refusal(f"This page answers to localhost and 127.0.0.1, not to {name!r}.")
        offered = request.query_params.getlist("token") or [request.cookies.get(self._cookie, "")]
        if not all(secrets.compare_digest(o.encode(), self._token.encode()) for o in offered):
            return _refusal(
                "This link has no token, or a wrong one. The right link was printed where `rlmba label` (or "
                "`rlmba loop`) was started: open that one."
            )
        if request.method in ("GET", "HEAD"):
            return None
        if request.headers.get("origin") not in (f"http://{name}", f"https://{name}"):
            return _refusal("Answers are taken from this server's own page alone.")
        length = request.headers.get("content-length", "")
        # 20 digits: Python converts no number of thousands.
        if re.fullmatch(r"[0-9]{1,20}", length) is None or int(length) > _BODY:
            return _too_long()
        return None

    def _is_own(self, name: str) -> bool:
        try:
            host = urlsplit(f"//{name}").hostname or ""
        except ValueError:
            return False
        return is_loopback(host) or host == self._host.lower()


class _TooLongError(Exception):
    """A request's body has more bytes than are read."""


async def _received(receive: Receive) -> Receive:
    """Read a request's body; returns what gives it to the application.

    It is counted as it arrives: next to ``Transfer-Encoding: chunked`` a declared length means nothing.
    """
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _BODY:
            raise _TooLongError
    left: list[Message] = [{"type": "http.request", "body": bytes(body)}]

    async def replayed() -> Message:
        return left.pop() if left else await receive()

    return replayed


def _too_long() -> Response:
    return JSONResponse(
        {"message": f"expected at most {_BODY} bytes, and their number as Content-Length"}, 413
    )


def _refusal(message: str) -> Response:
    page = f"<!doctype html><meta charset=utf-8><title>rlmba</title><p>{html.escape(message)}</p>\n"
    return HTMLResponse(page, 403)
