"""Where a task of Label Studio has what rlmba reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlmba.annotators.labelstudio.labeling import CHOICES
from rlmba.cells import as_text, whole

__all__ = ["OWN", "PREFIX", "RANK", "TaskForm"]

PREFIX = "rlmba_"
"""Begins the keys that rlmba adds to the data of tasks that it did not create."""

RANK = f"{PREFIX}rank"
"""The key in a task's data with its rank among all tasks without an answer."""

_DIGITS = 10
"""Round numbers have fewer digits."""


@dataclass(frozen=True)
class TaskForm:
    """The keys of a project's tasks.

    Parameters
    ----------
    sample : str
        The key in a task's data with the sample's id.
    prefix : str
        Begins the keys with the round and the other facts about a question, so that they cannot replace
        data of people.
    control : str
        The name of the control with the classes.
    """

    sample: str = "sample_id"
    prefix: str = ""
    control: str = CHOICES

    def key(self, fact: str) -> str:
        """The key in a task's data with a fact about its question, such as "round"."""
        return f"{self.prefix}{fact}"

    def written_id(self, task: Mapping[str, Any]) -> str | None:
        """The sample's id as the task has it; None if it has none."""
        return _text(task["data"].get(self.sample))

    def round_of(self, task: Mapping[str, Any]) -> int | None:
        """The round of a task, a number or its text as in a table; None if the task has none."""
        text = whole(_text(task["data"].get(self.key("round"))) or "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else None


OWN = TaskForm()
"""The keys of tasks that rlmba created."""


def _text(cell: Any) -> str | None:
    try:
        return as_text(cell)
    except ValueError:
        return None
