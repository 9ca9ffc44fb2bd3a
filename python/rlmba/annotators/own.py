"""Annotators of users, held to the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlmba.annotators.base import Annotator
from rlmba.errors import PluginError
from rlmba.plugins import blamed
from rlmba.runfolder.batches import LabelBatch
from rlmba.storage import is_plain_name

__all__ = ["Own"]


class Own:
    """Somebody's own annotator; what it raises, or returns against the protocol, is said to be its fault.

    Parameters
    ----------
    annotator : Annotator
    name : str
        The one it was found by.
    """

    def __init__(self, annotator: Annotator, name: str) -> None:
        self._annotator = annotator
        self._name = name

    def request(self, batch: LabelBatch) -> str:
        """Ask; see :meth:`rlmba.annotators.base.Annotator.request`."""
        ticket: Any = self._call("request", batch)
        if not is_plain_name(ticket):
            raise self._broken("request", "a file name without folder", ticket)
        return str(ticket)

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """Answers so far; see :meth:`rlmba.annotators.base.Annotator.collect`."""
        answers: Any = self._call("collect", ticket)
        if not isinstance(answers, Mapping):
            raise self._broken("collect", "a mapping of ids to labels", answers)
        for id_, label in answers.items():
            if not isinstance(id_, str) or not isinstance(label, str | None):
                expected = "ids as text and labels as text or None"
                raise self._broken("collect", expected, {id_: label})
        return answers

    def _call(self, method: str, argument: Any) -> Any:
        with blamed(type(self._annotator), f"annotator {self._name!r}, asked to {method}"):
            return getattr(self._annotator, method)(argument)

    def _broken(self, method: str, expected: str, got: object) -> PluginError:
        return PluginError(
            f"annotator {self._name!r}: expected {method} to return {expected}, got {got!r:.200}; correct "
            "the annotator"
        )
