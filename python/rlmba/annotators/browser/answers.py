"""The answers to one batch: a file of JSON lines that is only ever appended to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel

from rlmba.errors import DataError, StorageError
from rlmba.reading.files import open_regular
from rlmba.reading.structured import parse_json
from rlmba.storage import lock_file, make_folder, open_own

__all__ = ["Answer", "AnswerLog", "Answers", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One line: what somebody said of a sample, or took back.

    Parameters
    ----------
    id : str
        The sample.
    label : str or None
        A class name; None: cannot tell. Without meaning where ``undo``.
    by : str
        The person's name, "" where none was given.
    session : str
        The browser tab, "" where unknown.
    undo : bool
        What was said before is taken back: the sample has no answer.
    """

    id: str
    label: str | None
    by: str = ""
    session: str = ""
    undo: bool = False

    def line(self) -> bytes:
        """As the file has it, with the time of now."""
        said = {"undo": True} if self.undo else {"label": self.label}
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        data = {"id": self.id, **said, "by": self.by, "time": time, "session": self.session}
        return json.dumps(data).encode() + b"\n"


@dataclass(frozen=True)
class Answer:
    """The answer that counts: a sample's last line.

    Parameters
    ----------
    label : str or None
    by, time, session : str
        As in the line; time is ISO 8601 in UTC.
    version : int
        How many lines the sample has: it changes with every answer and every undo.
    first, line : int
        Numbers of the sample's first and last line in the file, from 1.
    """

    label: str | None
    by: str
    time: str
    session: str
    version: int
    first: int
    line: int


@dataclass
class Answers:
    """What a file of answers says.

    Attributes
    ----------
    revision : str
        Another one whenever the file has changed.
    current : dict
        The answer that counts by sample id; samples whose answer was taken back are not in it.
    versions : dict
        Number of lines by sample id.
    labels : list of str
        Every class name that was ever given, in the order in which they came up.
    damaged : list of int
        Numbers of lines that are no answers.
    """

    revision: str = ""
    current: dict[str, Answer] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


class _Line(BaseModel):
    """A line of the file, as :meth:`Entry.line` makes it."""

    id: str
    label: str | None = None
    by: str = ""
    time: str = ""
    session: str = ""
    undo: bool = False


class AnswerLog:
    """Reads and appends; safe against other threads and processes that do the same.

    A last line that was cut off, by a kill or a full disk, does not count, and the next append cuts
    it away.

    Parameters
    ----------
    path : path
        The file; it and its folder are made by the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[tuple[int, int, int], Answers] | None = None

    def read(self) -> Answers:
        """What the file says now; the caller must not change it.

        Raises
        ------
        StorageError
            If it is there and cannot be read.
        """
        try:
            with open(self.path, "rb", opener=open_regular) as file:
                return self._parsed(file.fileno())
        except FileNotFoundError:
            return Answers()
        except OSError as error:
            raise StorageError(
                f"could not read {self.path} ({error.strerror or error}); the answers in it are unharmed"
            ) from error

    def append(self, entry: Entry, wanted: Callable[[Answers], bool]) -> Answers:
        """Write a line, flushed to the device on return.

        Parameters
        ----------
        entry : Entry
        wanted : callable
            Is given what the file says while nobody else can append; where it returns False, nothing
            is written, and what it raises is passed on.

        Returns
        -------
        Answers
            What the file then says.

        Raises
        ------
        StorageError
            If the disk refuses; the file is as it was.
        """
        make_folder(self.path.parent)
        try:
            descriptor = open_own(self.path, os.O_RDWR | os.O_CREAT)
        except StorageError:
            raise
        except OSError as error:
            raise self._refused(error) from error
        try:
            lock_file(descriptor, self.path, wait=True)
            if wanted(self._parsed(descriptor)):
                self._write(descriptor, entry.line())
            return self._parsed(descriptor)
        except StorageError:
            raise
        except OSError as error:
            raise self._refused(error) from error
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, line: bytes) -> None:
        before = os.fstat(descriptor).st_size
        raw = _all_of(descriptor)
        whole = raw.rfind(b"\n") + 1
        # An editor may have left out the last line's end: it counts all the same.
        start = b"\n" if whole < before and _entry(raw[whole:]) is not None else b""
        end = before if start else whole
        try:
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            left = memoryview(start + line)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
            if before == 0:
                _flush_folder(self.path.parent)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, end)
            raise

    def _parsed(self, descriptor: int) -> Answers:
        status = os.fstat(descriptor)
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        seen = self._seen
        if seen is not None and seen[0] == stamp:
            return seen[1]
        answers = _parse(_all_of(descriptor), "-".join(map(str, stamp)))
        self._seen = stamp, answers
        return answers

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            f"could not write the answer to {self.path} ({error.strerror or error}); free some space or mend "
            "the disk, then send it again: earlier answers are unharmed"
        )


def _parse(raw: bytes, revision: str) -> Answers:
    answers = Answers(revision)
    firsts: dict[str, int] = {}
    rows = raw.split(b"\n")
    for number, row in enumerate(rows, start=1):
        found = _entry(row)
        if found is None:
            if row.strip() and number < len(rows):
                answers.damaged.append(number)
            continue
        entry, time = found
        i = entry.id
        answers.versions[i] = version = answers.versions.get(i, 0) + 1
        if entry.undo:
            answers.current.pop(i, None)
            continue
        first = firsts.setdefault(i, number)
        answers.current[i] = Answer(
            entry.label, entry.by, time, entry.session, version, first, number
        )
        if entry.label is not None and entry.label not in answers.labels:
            answers.labels.append(entry.label)
    return answers


def _entry(row: bytes) -> tuple[Entry, str] | None:
    """A line and its time, None if it is not one of ours."""
    try:
        said = parse_json(row, _Line, "", advice="")
    except DataError:
        return None
    if not said.undo and "label" not in said.model_fields_set:
        return None
    return Entry(said.id, said.label, said.by, said.session, said.undo), said.time


def _all_of(descriptor: int) -> bytes:
    size, parts, at = os.fstat(descriptor).st_size, [], 0
    while at < size and (part := os.pread(descriptor, size - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _flush_folder(folder: Path) -> None:
    """Make a new file's name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have nothing to flush
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
