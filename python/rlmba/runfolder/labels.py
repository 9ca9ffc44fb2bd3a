"""The log of a project's labels: every answer ever given. The latest answer to a sample counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from rlmba.runfolder.jsonlines import JsonLog

__all__ = ["Answer", "LabelLog"]


@dataclass(frozen=True)
class Answer:
    """One line of the log: the answer that somebody gave for a sample.

    Parameters
    ----------
    id : str
        The sample's id.
    label : str or None
        A class name, or None for "cannot tell".
    source : str
        "manifest", the annotator and ticket that it answers ("browser/round_003"), or the path of the
        file that it came from.
    time : str
        When it was recorded, ISO 8601 in UTC.
    """

    id: str
    label: str | None
    source: str
    time: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )


class LabelLog:
    """The file ``labels.jsonl`` of a project, which is only appended to; see :class:`JsonLog`.

    Parameters
    ----------
    path : path
        The file. The first append creates it.

    Raises
    ------
    RunFolderError
        If a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = JsonLog(
            path,
            repair="repair or delete the line",
            retry="free some space and collect again",
        )
        self.answers = self._log.read(Answer)

    def current(self) -> dict[str, str | None]:
        """The latest answer by sample id, in the order in which the samples were first answered."""
        return {a.id: a.label for a in self.answers}

    def said(self, source: str) -> dict[str, str | None]:
        """The latest answer of one source by sample id."""
        return {a.id: a.label for a in self.answers if a.source == source}

    def news(self, source: str, answers: Mapping[str, str | None]) -> list[Answer]:
        """Those of a source's answers that differ from its latest answers in the log."""
        said = self.said(source)
        return [
            Answer(i, label, source)
            for i, label in answers.items()
            if i not in said or said[i] != label
        ]

    def append(self, answers: Iterable[Answer]) -> None:
        """Append all of the answers or none; they are on the device when this returns.

        Raises
        ------
        StorageError
            If they cannot be written.
        """
        new = list(answers)
        if new:
            self._log.append(json.dumps(vars(a), ensure_ascii=False) for a in new)
            self.answers += new
