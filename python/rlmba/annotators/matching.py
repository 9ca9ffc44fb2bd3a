"""What a label or an id means that a person or a program wrote, and why it means nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import cached_property

from rlmba.cells import LONGEST_NAME, NameIndex, all_numbers, folded, one_line, spaced, whole
from rlmba.spreadsheet import unguarded

__all__ = ["CANNOT_TELL", "AskedIds", "ClassNames", "is_storable", "storable"]

CANNOT_TELL = "?"
"""What a table of labels holds for "cannot tell". No new class may have this name."""

_SHOWN_CLASSES = 20
_SHOWN_IDS = 5
_MANY = 5000


def is_storable(text: str) -> bool:
    """Whether a text can be written to a file in UTF-8: it has no NUL byte and no lone surrogate."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def storable(text: str) -> str:
    """A text that is only displayed, with a replacement for what :func:`is_storable` excludes."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class ClassNames:
    """Finds the class that a written label means.

    Parameters
    ----------
    classes : sequence of str
        NameIndex of the known classes.
    open : bool
        Whether a label that is none of them is a new class.
    numbers : bool
        Whether all labels to look up are numbers. Whole ones then lose their fraction when they become new
        classes, unless a known class is not a number.
    """

    def __init__(self, classes: Sequence[str], *, open: bool, numbers: bool = False) -> None:  # noqa: A002 - as in LabelBatch
        self._names = NameIndex(classes, case=False)
        self._open = open
        self._numbers = numbers and all_numbers(classes)

    def find(self, label: str) -> str | None:
        """The class that a label means by the rules of :class:`rlmba.cells.NameIndex`.

        An apostrophe that guards the label against spreadsheets is ignored. Where classes are open, a label
        that means no class becomes one, with single spaces. The exceptions are :data:`CANNOT_TELL` and text
        that is no name (:func:`rlmba.cells.one_line`).

        Parameters
        ----------
        label : str
            Not empty.

        Returns
        -------
        str or None
            None if the label means no class, or could mean several.
        """
        for text in (unguarded(label), label):
            if alike := self._names.alike(text):
                return alike[0] if len(alike) == 1 else None
        name = spaced(unguarded(label))
        if not self._open or name in ("", CANNOT_TELL) or one_line(name):
            return None
        name = whole(name) if self._numbers else name
        self._names.add(name)
        return name

    def refusal(self, label: str) -> str:
        """Why :meth:`find` returns None for a label, and what is allowed instead."""
        if alike := self._names.alike(unguarded(label)):
            return f"label {_short(label)} could mean each of {alike}; write it exactly"
        if self._open:
            problem = one_line(spaced(unguarded(label)))
            return (
                f"label {_short(label)} cannot be the name of a new class"
                f"{': ' * bool(problem)}{problem}; give it another name"
            )
        names = list(self._names)
        near = [folded(name) for name in names] if len(label) <= LONGEST_NAME else []
        nearest = difflib.get_close_matches(folded(label), near, 1)
        meant = next((name for name in names if nearest and folded(name) == nearest[0]), None)
        more = f" and {len(names) - _SHOWN_CLASSES} more" if len(names) > _SHOWN_CLASSES else ""
        return (
            f"label {_short(label)} is not one of the classes"
            + (f" (did you mean {meant!r}?)" if meant is not None else "")
            + f": {', '.join(map(repr, names[:_SHOWN_CLASSES]))}{more}"
        )


class AskedIds:
    """Finds the sample that a written id means, among those that were asked for.

    Parameters
    ----------
    ids : iterable of str
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._names = NameIndex(str(i) for i in ids)

    def find(self, cell: str) -> str | None:
        """The id that a cell means by the rules of :class:`rlmba.cells.NameIndex`; None if it means none."""
        bare = unguarded(cell)
        return self._names.find(bare) or (self._names.find(cell) if bare != cell else None)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._names)

    def refusal(self, cell: str) -> str:
        """Why :meth:`find` returns None for an id."""
        if alike := self._names.alike(unguarded(cell)):
            return f"id {_short(cell)} could mean each of {alike[:_SHOWN_IDS]}; write it exactly"
        candidates = self._sorted
        if len(candidates) > _MANY:  # difflib takes 10 µs for each
            ends = (cell[:3], cell[-3:])
            near = [c for c in candidates if c.startswith(ends[0]) or c.endswith(ends[1])]
            candidates = near[:_MANY]
        if len(cell) > LONGEST_NAME:
            candidates = []
        nearest = difflib.get_close_matches(cell, candidates, 1)
        return f"id {_short(cell)} was not asked for" + (
            f" (did you mean {nearest[0]!r}?)" if nearest else ""
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= LONGEST_NAME else text[:60] + "…")
