"""Access control: the token, the host names that the server accepts, and the headers for browsers."""

from __future__ import annotations

import hashlib
import html
import re
import secrets

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlmba.annotators.loopback import is_loopback
from rlmba.annotators.requests import TooLongError, names_host, received

__all__ = ["Guard"]

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# A file that is opened by itself, such as an SVG, may not run anything.
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_BODY = 2**20
"""The largest request in bytes."""


class Guard:
    """Passes requests to an application if they carry the token and come from its own page.

    The token is part of the printed link. It is exchanged for a cookie that scripts cannot read and other
    sites cannot send. Requests that change something must name this server as their origin. A server that
    listens on this machine only accepts no other host name, which prevents DNS rebinding.

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
        # Cookies are not port-specific, so servers of two projects need different names.
        self._cookie = "rlmba_" + hashlib.sha256(token.encode()).hexdigest()[:12]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or pass it on. In both cases, the answer gets the security headers."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        refused = self._refused(request)
        if refused is None:
            try:
                receive = await received(receive, _BODY)
            except TooLongError:
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
                    # A refused client does not need the connection, and may hold it open on purpose.
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
        if is_loopback(self._host) and not names_host(name, self._host):
            return _refusal(f"This page is served for localhost and 127.0.0.1, not for {name!r}.")
        offered = request.query_params.getlist("token") or [request.cookies.get(self._cookie, "")]
        if not all(secrets.compare_digest(o.encode(), self._token.encode()) for o in offered):
            return _refusal(
                "This link has no token or a wrong one. Open the link that `rlmba label` (or `rlmba loop`) "
                "printed when it started."
            )
        if request.method in ("GET", "HEAD"):
            return None
        if request.headers.get("origin") not in (f"http://{name}", f"https://{name}"):
            return _refusal("Answers are accepted only from this server's own page.")
        length = request.headers.get("content-length", "")
        # At most 20 digits, because Python refuses to convert thousands of them.
        if re.fullmatch(r"[0-9]{1,20}", length) is None or int(length) > _BODY:
            return _too_long()
        return None


def _too_long() -> Response:
    return JSONResponse(
        {"message": f"expected at most {_BODY} bytes, and their number as Content-Length"}, 413
    )


def _refusal(message: str) -> Response:
    page = f"<!doctype html><meta charset=utf-8><title>rlmba</title><p>{html.escape(message)}</p>\n"
    return HTMLResponse(page, 403)
