"""The projects on a Label Studio server that belong to one project folder."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlmba.errors import AnnotatorError
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_text, make_folder

if TYPE_CHECKING:
    from rlmba.annotators.labelstudio.client import Client

__all__ = ["ServerProjects"]

_TEXTS = {
    "questions": "Questions of rlmba.",
    "files": "Files that questions of rlmba show. There is nothing to label here, but keep this project.",
}


@dataclass
class _State:
    """The content of the file: our mark, and the project numbers by kind, by server address."""

    mark: str
    servers: dict[str, dict[str, int]]


class ServerProjects:
    """Finds or creates our projects on a server: one with the questions, one with the files they show.

    A mark in a project's description finds the project again if a process died before it stored the
    project's number, and if the server has moved to another address.

    Parameters
    ----------
    path : path
        The file with the mark and the project numbers.
    title : str
        The title of the project with the questions.
    prelabel : bool
        Whether that project preselects the model's class.
    instructions : callable
        Returns the instructions of that project, as HTML; called when it is created.
    """

    def __init__(
        self, path: Path, title: str, *, prelabel: bool, instructions: Callable[[], str]
    ) -> None:
        self.path = path
        self._title = title
        self._prelabel = prelabel
        self._instructions = instructions

    def mark(self) -> str:
        """The mark of this folder, which is stored first if it is new."""
        state = self._read()
        if not self.path.exists():
            self._write(state)
        return state.mark

    def number(self, server: Client, kind: str, *, make: bool) -> int:
        """The number of the project with the "questions", or of the one with the "files".

        Raises
        ------
        AnnotatorError
            If there is none and ``make`` is False, or the server cannot be reached.
        """
        state = self._read()
        known = state.servers.setdefault(server.url, {})
        if kind in known:
            return known[kind]
        mark = f"[rlmba {state.mark} {kind}]"
        number = server.find_project(mark)
        if number is None and not make:
            raise AnnotatorError(
                f"Label Studio at {server.url} has no project for {self.path.parent.parent}; create it with "
                "`rlmba next`, or set the annotator's option project"
            )
        if number is None:
            self._write(state)
            title = self._title if kind == "questions" else f"{self._title[:40]} ({kind})"
            number = server.make_project(
                title,
                f"{_TEXTS[kind]} {mark}",
                "<View/>",
                prelabel=self._prelabel and kind == "questions",
                instructions=self._instructions() if kind == "questions" else "",
            )
        known[kind] = number
        self._write(state)
        return number

    def _read(self) -> _State:
        advice = (
            "delete it, and set the annotator's option project to the number in its page's address"
        )
        state = find_json(self.path, _State, advice=advice, error=AnnotatorError)
        return _State(secrets.token_hex(8), {}) if state is None else state

    def _write(self, state: _State) -> None:
        make_folder(self.path.parent)
        atomic_write_text(self.path, json.dumps(asdict(state), indent=1) + "\n")
