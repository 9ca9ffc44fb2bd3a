"""Annotators that users or other packages provide, checked against the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlmba.annotators.base import Annotator
from rlmba.annotators.matching import is_storable
from rlmba.errors import PluginError
from rlmba.plugins import blamed
from rlmba.runfolder.batches import LabelBatch
from rlmba.storage import is_plain_name

__all__ = ["CheckedAnnotator"]


class CheckedAnnotator:
    """Passes calls to an annotator from outside the package, and checks what it returns.

    Whatever it raises that is not an error of this package, and every return value that breaks the
    protocol, becomes a PluginError that names the annotator.

    Parameters
    ----------
    annotator : Annotator
    name : str
        The name that it was found by.
    """

    def __init__(self, annotator: Annotator, name: str) -> None:
        self._annotator = annotator
        self._name = name

    def request(self, batch: LabelBatch) -> str:
        """Ask for the labels of a batch; see :meth:`rlmba.annotators.base.Annotator.request`."""
        ticket: Any = self._call("request", batch)
        if not is_plain_name(ticket):
            raise self._broken("request", "a file name without a folder", ticket)
        return str(ticket)

    def collect(self, ticket: str) -> Mapping[str, str | None]:
        """The answers so far; see :meth:`rlmba.annotators.base.Annotator.collect`."""
        answers: Any = self._call("collect", ticket)
        if not isinstance(answers, Mapping):
            raise self._broken("collect", "a mapping of ids to labels", answers)
        for id_, label in answers.items():
            if not (_is_text(id_) and (label is None or _is_text(label))):
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


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_storable(value)
