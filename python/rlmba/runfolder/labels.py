"""The log of labels: every answer ever given, the latest of a sample is the one that counts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rlmba.errors import RunFolderError, StorageError
from rlmba.reading.structured import read_json_lines
from rlmba.storage import lock_file, open_own

__all__ = ["Answer", "LabelLog"]


@dataclass(frozen=True)
class Answer:
    """A label that somebody gave.

    Parameters
    ----------
    id : str
        The sample.
    label : str or None
        A class name; None: it cannot be told.
    source : str
        "manifest", the ticket that it answers ("browser/round_003"), or the file that it came from.
    time : str
        When it was written down, ISO 8601 in UTC.
    """

    id: str
    label: str | None
    source: str
    time: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )


class LabelLog:
    """Answers in a file of JSON lines, appended and flushed to the device before anything goes on.

    A last line that was cut off by a crash does not count and is removed by the next append.

    Parameters
    ----------
    path : path
        The file; made by the first append.

    Raises
    ------
    RunFolderError
        If a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        advice = "repair or delete the line"
        self.answers, _ = read_json_lines(path, Answer, advice=advice, error=RunFolderError)

    def current(self) -> dict[str, str | None]:
        """Class name by sample id, the latest answer to each, in the order of the first answers."""
        return {a.id: a.label for a in self.answers}

    def said(self, source: str) -> dict[str, str | None]:
        """What one source said last of each sample."""
        return {a.id: a.label for a in self.answers if a.source == source}

    def news(self, source: str, answers: Mapping[str, str | None]) -> list[Answer]:
        """Those of a source's answers that it has not given before."""
        said = self.said(source)
        return [
            Answer(i, label, source)
            for i, label in answers.items()
            if i not in said or said[i] != label
        ]

    def append(self, answers: Iterable[Answer]) -> None:
        """Write answers down, all of them or none.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        new = list(answers)
        if not new:
            return
        text = "".join(json.dumps(vars(a), ensure_ascii=False) + "\n" for a in new)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            with os.fdopen(open_own(self.path, flags), "a+b") as file:
                lock_file(file.fileno(), self.path, wait=True)
                end = _whole_lines(file)
                try:
                    file.truncate(end)
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(
                f"could not write to {self.path} ({error.strerror or error}); free some space and "
                "collect again"
            ) from error
        self.answers += new


def _whole_lines(file: Any) -> int:
    """Bytes up to and including the last line end."""
    file.seek(0)
    return int(file.read().rfind(b"\n") + 1)
