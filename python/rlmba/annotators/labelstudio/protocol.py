"""The HTTP interface that Label Studio calls: the protocol of an ML backend, and webhooks."""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from rlmba.annotators.labelstudio.tasks import MODEL
from rlmba.annotators.loopback import is_loopback
from rlmba.annotators.requests import TooLongError, json_body, malformed, names_host, received
from rlmba.errors import RlmbaError

__all__ = ["ACTIONS", "TRAIN", "Backend", "authorization", "make_app"]

ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_DELETED",
    "PROJECT_UPDATED",
)
"""The actions of Label Studio about which the webhook is called."""

TRAIN = "START_TRAINING"
"""The action of the button that starts a training."""

_MOST = 2**26
"""The largest request in bytes: tasks may contain their images."""

_EVERY = 60.0
"""Seconds between two lines about refused requests."""


class Backend(Protocol):
    """The project behind the server. All methods may be called from any thread."""

    def number(self) -> int | None:
        """The number of the project in Label Studio; None before it is known."""

    def versions(self) -> Sequence[str]:
        """The existing versions of the predictions, oldest first."""

    def predictions(self, tasks: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """The predictions for each of some tasks, which have ``data`` and ``predictions``."""

    def metrics(self) -> Mapping[str, Any]:
        """The progress of the open batch."""

    def hint(self, action: str) -> None:
        """Note that something has happened in the project. This returns immediately."""


class _Task(BaseModel):
    data: dict[str, Any]
    predictions: list[dict[str, Any]] = []


class _Of(BaseModel):
    """A request about a project. It is given as "5.1700000000": its number and time of creation."""

    project: str | int


class _Predict(_Of):
    tasks: list[_Task]


class _Project(BaseModel):
    id: int


class _Event(BaseModel):
    action: str = Field(max_length=100)
    project: _Project | None = None


class _OtherProjectError(RlmbaError):
    """The request is about a project that this server does not serve."""


def authorization(secret: str) -> str:
    """The header ``Authorization`` with which Label Studio calls the server."""
    return "Basic " + base64.b64encode(f"{MODEL}:{secret}".encode()).decode()


def make_app(
    backend: Backend, secret: str, hosts: Sequence[str], say: Callable[[str], None]
) -> ASGIApp:
    """Create the application that answers Label Studio.

    Parameters
    ----------
    backend : Backend
    secret : str
        Every request must contain it as a password (HTTP Basic) or as a bearer token.
    hosts : sequence of str
        The host on which the server listens, then other names that requests may use for it.
    say : callable
        Called with each message for the person at the terminal.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.backend = backend
    app.state.say = _Seldom(say)
    app.add_api_route("/", _health)
    app.add_api_route("/health", _health)
    app.add_api_route("/setup", _setup, methods=["POST"])
    app.add_api_route("/predict", _predict, methods=["POST"])
    app.add_api_route("/webhook", _webhook, methods=["POST"])
    app.add_api_route("/train", _train, methods=["POST"])
    app.add_api_route("/versions", _versions, methods=["GET", "POST"])
    app.add_api_route("/metrics", _metrics)
    app.add_exception_handler(_OtherProjectError, _other_project)
    app.add_exception_handler(RlmbaError, _problem)
    app.add_exception_handler(ValidationError, _malformed)
    return _Guard(app, secret, hosts, app.state.say)


class _Seldom:
    """Limits how often messages of a kind are printed, so that strangers cannot fill a disk."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def __call__(self, kind: str, text: str) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._last.get(kind, -_EVERY) < _EVERY:
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
                return
            self._last[kind] = now
            more = self._left_out.pop(kind, 0)
        self._say(text + (f" (and {more} more since the last such line)" if more else ""))


class _Guard:
    """Passes on requests that contain the secret, name this server as their host, and are not too long."""

    def __init__(self, app: ASGIApp, secret: str, hosts: Sequence[str], say: _Seldom) -> None:
        self._app = app
        self._secret = secret.encode()
        self._hosts = hosts
        self._say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = self._refused(Request(scope))
        if answer is None:
            try:
                receive = await received(receive, _MOST)
            except TooLongError:
                answer = _answer(413, f"expected at most {_MOST} bytes")
            except ClientDisconnect:
                return
        if answer is not None:
            # The rest of a refused request is not read.
            answer.headers["Connection"] = "close"
        await (answer or self._app)(scope, receive, send)

    def _refused(self, request: Request) -> Response | None:
        name = request.headers.get("host", "")
        if is_loopback(self._hosts[0]) and not names_host(name, *self._hosts):
            self._say(
                "host", f"refused a request for the host {name[:100]!r}, which is not this server"
            )
            return _answer(
                403, f"this server is not {name[:100]!r}; give its address with --address"
            )
        if not secrets.compare_digest(_offered(request), self._secret):
            who = request.client.host if request.client else "somebody"
            self._say(
                "secret",
                f"refused a request of {who} to {request.url.path[:100]!r}: it has no secret or a wrong one",
            )
            answer = _answer(401, "expected the secret that `rlmba label-studio serve` prints")
            answer.headers["WWW-Authenticate"] = 'Basic realm="rlmba"'
            return answer
        return None


def _offered(request: Request) -> bytes:
    """The secret of a request; empty if it has none or several."""
    headers = request.headers.getlist("authorization")
    kind, _, value = (headers[0] if len(headers) == 1 else "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip().encode()
    try:
        pair = base64.b64decode(value, validate=True) if kind.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        return b""
    return pair.partition(b":")[2]


async def _backend(request: Request) -> Backend:
    found: Backend = request.app.state.backend
    return found


_Served = Annotated[Backend, Depends(_backend)]


# These are not coroutines, so they run in threads and may wait for the disk.
def _health() -> dict[str, str]:
    return {"status": "UP", "model_class": MODEL}


def _setup(backend: _Served, of: Annotated[_Of, json_body(_Of)]) -> dict[str, str]:
    """Answer Label Studio when it connects, or asks for the current version of the predictions."""
    _require(backend, of.project)
    return {"model_version": [MODEL, *backend.versions()][-1]}


def _predict(backend: _Served, ask: Annotated[_Predict, json_body(_Predict)]) -> dict[str, Any]:
    _require(backend, ask.project)
    return {"results": backend.predictions([task.model_dump() for task in ask.tasks])}


def _webhook(
    request: Request, backend: _Served, event: Annotated[_Event, json_body(_Event)]
) -> dict[str, str]:
    """Note an event. The annotations are read from the API, so order and repetitions do not matter."""
    if event.project is not None:
        _require(backend, event.project.id)
    if event.action == TRAIN:
        return _started(request, backend)
    if event.action in ACTIONS:
        backend.hint(event.action)
    return {"status": "OK"}


def _train(
    request: Request, backend: _Served, of: Annotated[_Of, json_body(_Of)]
) -> dict[str, str]:
    """Answer the button "Start Training" of older versions."""
    _require(backend, of.project)
    return _started(request, backend)


def _started(request: Request, backend: Backend) -> dict[str, str]:
    backend.hint(TRAIN)
    text = (
        "training begins when every question of the batch has an answer; `rlmba collect DIR --partial` "
        "trains on the answers so far"
    )
    request.app.state.say("train", f"somebody asked for a training in Label Studio: {text}")
    return {"status": "OK", "message": text}


def _versions(backend: _Served) -> dict[str, Any]:
    return {"versions": list(backend.versions()), "message": ""}


def _metrics(backend: _Served) -> dict[str, Any]:
    return dict(backend.metrics())


def _require(backend: Backend, project: str | int) -> None:
    own = backend.number()
    number = str(project).partition(".")[0][:20]
    if own is None or number != str(own):
        known = "has no project yet" if own is None else f"works for project {own}"
        raise _OtherProjectError(
            f"this server {known}, got a request of project {number}; start another "
            "`rlmba label-studio serve` with another port for another project"
        )


def _answer(status: int, message: str) -> JSONResponse:
    return JSONResponse({"message": message}, status)


async def _other_project(request: Request, error: Exception) -> JSONResponse:
    request.app.state.say("project", f"refused: {error}")
    return _answer(403, str(error))


async def _problem(request: Request, error: Exception) -> JSONResponse:
    request.app.state.say("problem", f"{request.url.path}: {error}")
    return _answer(500, str(error))


async def _malformed(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the signature of a handler
    return _answer(422, malformed(error))
