"""The projects on a server that belong to one project folder."""

from __future__ import annotations

import json
import secrets
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
    "files": "Files that questions of rlmba show; nothing to label here. Keep it as long as these are asked.",
}


@dataclass
class _State:
    """The file: our mark, and the numbers of projects by kind, by the server's address."""

    mark: str
    servers: dict[str, dict[str, int]]


class ServerProjects:
    """Which of a server's projects are ours: one with questions, one with the files these show.

    A mark in a project's description finds it again where a process died before its number was kept, and
    where the server has moved to another address.

    Parameters
    ----------
    path : path
        The file with the mark, and with the numbers by address.
    title : str
        Title of the project with the questions.
    prelabel : bool
        Whether that project chooses the model's class beforehand.
    """

    def __init__(self, path: Path, title: str, *, prelabel: bool) -> None:
        self.path = path
        self._title = title
        self._prelabel = prelabel

    def number(self, server: Client, kind: str, *, make: bool) -> int:
        """Number of the project with the "questions", or of that with the "files".

        Raises
        ------
        AnnotatorError
            If there is none and it shall not be made, or the server cannot be asked.
        """
        state = self._read()
        known = state.servers.setdefault(server.url, {})
        if kind in known:
            return known[kind]
        mark = f"[rlmba {state.mark} {kind}]"
        number = server.find_project(mark)
        if number is None and not make:
            raise AnnotatorError(
                f"Label Studio at {server.url} has no project of {self.path.parent.parent}; ask with "
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
