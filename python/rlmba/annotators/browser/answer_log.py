"""The answers to one batch, in a file of JSON lines that is only appended to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel

from rlmba.errors import DataError, StorageError
from rlmba.reading.structured import parse_json
from rlmba.runfolder.jsonlines import JsonLog
from rlmba.storage import make_folder

__all__ = ["AnswerEvent", "AnswerLog", "AnswerState", "CurrentAnswer"]


@dataclass(frozen=True)
class AnswerEvent:
    """One line of the file: somebody answered a sample, or took an answer back.

    Parameters
    ----------
    id : str
        The sample's id.
    label : str or None
        A class name, or None for "cannot tell". Ignored if ``undo``.
    by : str
        The person's name, "" if none was given.
    session : str
        The browser tab, "" if unknown.
    undo : bool
        Whether the sample's answer is taken back, so that it has none.
    """

    id: str
    label: str | None
    by: str = ""
    session: str = ""
    undo: bool = False

    def line(self) -> str:
        """The event as a line of the file, with the present time."""
        content = {"undo": True} if self.undo else {"label": self.label}
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return json.dumps(
            {"id": self.id, **content, "by": self.by, "time": time, "session": self.session}
        )


@dataclass(frozen=True)
class CurrentAnswer:
    """The answer that counts for a sample: its last line in the file.

    Parameters
    ----------
    label : str or None
        A class name, or None for "cannot tell".
    by, session : str
        As in :class:`AnswerEvent`.
    time : str
        ISO 8601 in UTC.
    version : int
        The number of lines about the sample. Every answer and every undo changes it.
    first, line : int
        Numbers of the first and the last line about the sample, from 1.
    """

    label: str | None
    by: str
    time: str
    session: str
    version: int
    first: int
    line: int


@dataclass
class AnswerState:
    """The state that the lines of a file result in.

    Attributes
    ----------
    revision : str
        Text that changes whenever the file changes.
    current : dict
        The current answer by sample id. Samples whose answer was taken back are not in it.
    versions : dict
        The number of lines by sample id.
    labels : list of str
        The class names of the current answers, in the order of their first use.
    damaged : list of int
        Numbers of the lines that are not answers.
    """

    revision: str = ""
    current: dict[str, CurrentAnswer] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


class _Line(BaseModel):
    """A line of the file, as :meth:`AnswerEvent.line` writes it."""

    id: str
    label: str | None = None
    by: str = ""
    time: str = ""
    session: str = ""
    undo: bool = False


class AnswerLog:
    """Reads and appends answers, safely while other threads and processes do the same.

    Parameters
    ----------
    path : path
        The file. The first append creates it and its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = JsonLog(
            path,
            repair="its answers are unchanged",
            retry="free some space or repair the disk, then send the answer again",
            error=StorageError,
        )
        self._latest: AnswerState | None = None

    def read(self) -> AnswerState:
        """The present state; the caller must not change it.

        Raises
        ------
        StorageError
            If the file exists and cannot be read.
        """
        # Asked for first: if the file changes in between, the next call reads it again.
        revision = self._log.revision()
        latest = self._latest
        if latest is None or latest.revision != revision:
            latest = self._latest = _state(self._log.lines(), revision)
        return latest

    def append(self, event: AnswerEvent, wanted: Callable[[AnswerState], bool]) -> AnswerState:
        """Append a line. It is on the device when this returns.

        Parameters
        ----------
        event : AnswerEvent
        wanted : callable
            Is given the present state while nobody else can append. If it returns False, nothing is
            written; what it raises is passed on.

        Returns
        -------
        AnswerState
            The state afterwards.

        Raises
        ------
        StorageError
            If the line cannot be written; the file is unchanged.
        """
        make_folder(self.path.parent)
        self._log.append([event.line()], lambda: wanted(self.read()))
        return self.read()


def _state(lines: list[bytes], revision: str) -> AnswerState:
    state = AnswerState(revision)
    firsts: dict[str, int] = {}
    used: dict[str, None] = {}
    for number, row in enumerate(lines, start=1):
        said = _parsed(row)
        if said is None:
            if row.strip():
                state.damaged.append(number)
            continue
        state.versions[said.id] = version = state.versions.get(said.id, 0) + 1
        if said.undo:
            state.current.pop(said.id, None)
            continue
        first = firsts.setdefault(said.id, number)
        state.current[said.id] = CurrentAnswer(
            said.label, said.by, said.time, said.session, version, first, number
        )
        if said.label is not None:
            used.setdefault(said.label)
    now = {answer.label for answer in state.current.values()}
    state.labels = [label for label in used if label in now]
    return state


def _parsed(row: bytes) -> _Line | None:
    """A line of the file; None if it is not an answer."""
    try:
        said = parse_json(row, _Line, "", advice="")
    except DataError:
        return None
    return said if said.undo or "label" in said.model_fields_set else None
