"""The HTTP interface of the labeling page."""

from __future__ import annotations

import json
import math
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlmba.annotators.browser.answer_log import AnswerEvent, AnswerState, CurrentAnswer
from rlmba.annotators.browser.guard import Guard
from rlmba.annotators.browser.media import MediaConverter, kind_of, printable, problem_with
from rlmba.annotators.browser.page_state import AnswerConflictError, PageState, ShownBatch
from rlmba.annotators.requests import json_body, malformed
from rlmba.errors import DataError, RlmbaError, StorageError, UsageError

__all__ = ["make_app"]

_TEXT = 20_000
"""The number of characters of a text that are shown."""

_SCRIPTS = (
    "answers.js", "batches.js", "classes.js", "content.js", "dom.js", "fields.js", "guide.js", "keys.js",
    "naming.js", "page.js", "presses.js", "requests.js", "samples.js", "state.js", "tab.js",
)  # fmt: skip
_STATIC = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{f"/{name}": (name, "text/javascript; charset=utf-8") for name in _SCRIPTS},
}

_Session = Annotated[str, Field(min_length=1, max_length=64)]


class _Json(JSONResponse):
    """JSON in ASCII, because texts from files may hold code points that UTF-8 cannot encode."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class _NextRequest(BaseModel):
    """A tab asks which sample to show."""

    model_config = ConfigDict(extra="forbid")
    ticket: str
    session: _Session
    skipped: list[str] = []
    leaving: str = ""


class _AnswerRequest(BaseModel):
    """A person has answered, or takes an answer back.

    ``key`` is the key of the batch on the screen, and ``base`` the version of the sample.
    """

    model_config = ConfigDict(extra="forbid")
    ticket: str
    key: str | None = None
    session: _Session
    id: str
    label: str | None
    undo: bool = False
    by: str = Field("", max_length=200)
    base: int = Field(ge=0, lt=2**53)


def make_app(folder: Path, token: str, host: str) -> Guard:
    """Create the application that serves one project.

    Parameters
    ----------
    folder : path
        The project's folder.
    token : str
        The token that every request must carry.
    host : str
        Where the server listens.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, default_response_class=_Json)
    app.state.page = PageState(folder)
    app.state.media = MediaConverter()
    pages = resources.files("rlmba.annotators.browser")
    for path, (name, type_) in _STATIC.items():
        file = Response((pages / name).read_bytes(), media_type=type_)
        app.add_api_route(path, _static(file), response_model=None)
    app.add_api_route("/api/state", _state)
    app.add_api_route("/api/project", _project)
    app.add_api_route("/api/batch", _batch)
    app.add_api_route("/api/question", _question)
    app.add_api_route("/api/next", _next, methods=["POST"])
    app.add_api_route("/api/answer", _answer, methods=["POST"])
    app.add_api_route("/media", _media, response_model=None)
    app.add_exception_handler(AnswerConflictError, _conflict)
    app.add_exception_handler(RlmbaError, _problem)
    app.add_exception_handler(ValidationError, _malformed)
    app.add_exception_handler(RequestValidationError, _malformed)
    return Guard(app, token, host)


def _static(file: Response) -> Any:
    async def answer() -> Response:
        return file

    return answer


async def _page(request: Request) -> PageState:
    page: PageState = request.app.state.page
    return page


_Page = Annotated[PageState, Depends(_page)]


# These are not coroutines, so they run in threads and may wait for the disk.
def _state(
    page: _Page, session: str = "", ticket: str = "", at: str = "", since: str = ""
) -> dict[str, Any]:
    """Which batch is open, and the answers to it if they changed since the tab last asked."""
    batch = page.current()
    if isinstance(batch, str):
        return {"ticket": None, "message": page.work() or batch}
    if ticket == batch.ticket and 0 < len(session) <= 64:
        page.touch(batch, session, at)
    answers = page.answers(batch)
    news = {} if since == f"{batch.key} {answers.revision}" else _said(page, batch, answers)
    # Only a tab that shows no sample has use for it, and finding out takes longer than the rest.
    work = "" if at else page.work()
    return {"ticket": batch.ticket, "key": batch.key, "work": work, **news}


def _said(page: PageState, batch: ShownBatch, answers: AnswerState) -> dict[str, Any]:
    """The answers to a batch in the form that a tab keeps."""
    return {
        "since": f"{batch.key} {answers.revision}",
        "classes": page.classes(batch, answers),
        "versions": answers.versions,
        "answers": {i: _shown(a) for i, a in answers.current.items() if i in batch.questions},
    }


def _shown(answer: CurrentAnswer) -> dict[str, Any]:
    return {
        "label": answer.label,
        "by": answer.by,
        "time": answer.time,
        "session": answer.session,
        "first": answer.first,
    }


def _project(page: _Page) -> dict[str, Any]:
    """What the page says about the project."""
    project = page.project()
    return {
        "name": project.name,
        "instructions": project.instructions,
        "descriptions": project.class_descriptions,
    }


def _batch(page: _Page, ticket: str) -> dict[str, Any]:
    """A batch without the content of its samples."""
    batch = page.batch(ticket)
    return {
        "ticket": batch.ticket,
        "key": batch.key,
        "round": batch.content.round,
        "open": batch.content.open,
        "ids": list(batch.questions),
    }


def _question(page: _Page, ticket: str, id: str) -> dict[str, Any]:  # noqa: A002 - the parameter's name in the address
    """One sample: its texts, and how each of its files can be shown."""
    batch = page.batch(ticket)
    question = batch.questions.get(id)
    if question is None:
        raise DataError(f"{ticket} has no sample {id!r}")
    texts = [
        {"modality": m, "text": text[:_TEXT], "cut": max(0, len(text) - _TEXT)}
        for m, text in question.texts.items()
    ]
    files = [
        {
            "modality": m,
            "kind": kind_of(m, Path(file)),
            "problem": problem_with(m, Path(file)),
            "path": printable(Path(file)),
        }
        for m, file in question.files.items()
    ]
    return {
        "id": id,
        "rank": question.rank,
        "purpose": question.purpose,
        "prediction": question.prediction,
        "probability": _number(question.probability),
        "difficulty": _number(question.difficulty),
        "texts": texts,
        "files": files,
        "missing": [m for m in batch.modalities if m not in {*question.texts, *question.files}],
    }


def _number(value: float | None) -> float | None:
    """The value, or None if JSON cannot represent it."""
    return value if value is not None and math.isfinite(value) else None


def _next(
    page: _Page, ask: Annotated[_NextRequest, json_body(_NextRequest, typed=True)]
) -> dict[str, Any]:
    """The sample to show now (null if all are answered), and the one after it."""
    now, then = [
        *page.choose(page.batch(ask.ticket), ask.session, ask.skipped, ask.leaving),
        None,
        None,
    ][:2]
    return {"now": now, "then": then}


def _answer(
    page: _Page, say: Annotated[_AnswerRequest, json_body(_AnswerRequest, typed=True)]
) -> dict[str, Any]:
    """Record an answer. It is on the disk when this returns."""
    batch = page.batch(say.ticket)
    if say.key not in (None, batch.key):
        raise UsageError(
            f"{say.ticket} was asked for again with other content since this sample was shown, so the answer "
            "was not recorded; look at the sample again, then answer"
        )
    event = AnswerEvent(say.id, say.label, say.by.strip(), say.session, say.undo)
    return _said(page, batch, page.answer(batch, event, say.base))


def _media(request: Request, page: _Page, ticket: str, id: str, modality: str) -> Response:  # noqa: A002 - as above
    """A file of a sample. Its path comes from the batch, never from the request."""
    question = page.batch(ticket).questions.get(id)
    if question is None or modality not in question.files:
        return _Json({"message": f"{ticket} has no {modality!r} of a sample {id!r}"}, 404)
    media: MediaConverter = request.app.state.media
    content = media.content(modality, Path(question.files[modality]))
    headers = {"Cache-Control": "private, max-age=300"}
    if content.path is None:
        return Response(content.data, media_type=content.type, headers=headers)
    return FileResponse(content.path, media_type=content.type, headers=headers)


async def _conflict(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the signature of a handler
    assert isinstance(error, AnswerConflictError)
    there = {**_shown(error.answer), "version": error.answer.version}
    return _Json({"message": str(error), "there": there}, 409)


async def _problem(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the signature of a handler
    return _Json({"message": str(error)}, 507 if isinstance(error, StorageError) else 422)


async def _malformed(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the signature of a handler
    return _Json({"message": malformed(error)}, 422)
