"""Ids of samples as arrays: which kinds there are, and where the ids of a list stand in a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import NameIndex, as_text, is_missing
from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.spreadsheet import unguarded

__all__ = ["IdIndex", "as_ids", "id_texts", "labeled_ids", "not_storable"]

_INSTEAD = {
    "b": "; booleans cannot tell samples apart",
    "f": "; floats do not keep all digits: convert them with .astype(np.int64) or .astype(str)",
    "M": "; give dates as text: .astype(str)",
    "m": "; give durations as text: .astype(str)",
}


def as_ids(given: Any, n: int | None = None) -> NDArray[Any]:
    """Ids as an array: distinct texts or integers.

    Parameters
    ----------
    given : array or sequence of str, bytes or int
        Of NumPy, torch, pandas, pyarrow or polars, or a list.
    n : int or None
        How many are expected.

    Returns
    -------
    array
        Of the kind given: a NumPy array of text, bytes or integers as it is, in this machine's byte
        order. Lists and object arrays of text become text, those of integers int64, or uint64 where
        they need it; with larger integers, or with text and integers both, they stay objects.

    Raises
    ------
    ShapeError
        If there are not n of them on one axis, they are neither text nor integers, or entries of a
        masked array are hidden.
    DataError
        If one is missing, repeats or is no UTF-8; the message names it and its position.
    """
    a = _array(given, "ids")
    if a.dtype == object and a.ndim == 1:
        a = _of_objects(a, n)
    elif a.dtype.kind == "T":
        a = np.array(a.tolist(), dtype=np.str_)
    elif a.dtype.kind == "f" and a.ndim == 1 and np.isnan(a).any():
        at = int(np.argmax(np.isnan(a)))
        raise ShapeError(
            f"ids: expected {len(a)} strings or integers, one a sample, got nothing at position {at} "
            f"({int(np.isnan(a).sum())} are missing); fill them, or leave these samples out"
        )
    if a.ndim != 1 or (n is not None and len(a) != n) or a.dtype.kind not in "USiuO":
        count = "" if n is None else f"{n} "
        raise ShapeError(
            f"ids: expected {count}strings or integers, one a sample, got dtype {a.dtype} and shape "
            f"{a.shape}{_INSTEAD.get(a.dtype.kind, '')}"
        )
    if not a.dtype.isnative:
        a = a.astype(a.dtype.newbyteorder("="))
    values = id_texts(a) if a.dtype.kind in "SO" else a.tolist()
    if len(set(values)) < len(values):  # several times quicker than sorting strings
        _refuse_repeated(values)
    return a


def id_texts(ids: NDArray[Any]) -> list[str]:
    """Ids as text, by which those of all kinds are compared.

    Raises
    ------
    DataError
        If bytes are no UTF-8.
    """
    if ids.dtype.kind != "S":
        return [str(v) for v in ids.tolist()]
    try:
        return [v.decode() for v in ids.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(
            f"ids: expected text in UTF-8, got the bytes {error.object[:40]!r}; decode them first"
        ) from None


def not_storable(text: str) -> str:
    """Why an id would not come back from a file; "" where it would."""
    if not text:
        return "is empty"
    if text != text.strip():
        return "has blanks around it"
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        return "has a NUL byte or half a character (a lone surrogate)"
    return ""


class IdIndex:
    """Where the ids of a pool stand.

    Parameters
    ----------
    ids : array [N]
        As :func:`as_ids` gives them.
    """

    def __init__(self, ids: NDArray[Any]) -> None:
        self._position = {text: p for p, text in enumerate(id_texts(ids))}
        self._names = NameIndex(self._position)

    def locate(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], list[int]]:
        """Positions in the pool of ids that somebody wrote down.

        Parameters
        ----------
        texts : sequence of str
            See :class:`rlmba.cells.NameIndex` for what they may be; an apostrophe that guards a cell against
            spreadsheets is taken off.

        Returns
        -------
        (int64 array, list of int)
            Positions of those that are there, in order; and which of the texts are not.
        """
        found, unknown = [], []
        for k, text in enumerate(texts):
            name = self._names.find(text) or self._names.find(unguarded(text))
            if name is None:
                unknown.append(k)
            else:
                found.append(self._position[name])
        return np.array(found, dtype=np.int64), unknown


def labeled_ids(given: Any, ids: NDArray[Any] | None) -> NDArray[np.int64] | None:
    """Positions of labeled samples that are named by their ids; None where they are not.

    Parameters
    ----------
    given : anything
        What a caller says is labeled: of one axis, text are ids; integers are ids where the pool's ids are
        integers and these are among them.
    ids : array [N] or None
        The pool's.

    Raises
    ------
    DataError
        If some are no ids of the pool.
    UsageError
        If text was given for a pool without ids, or integers that could be ids or positions.
    """
    one_axis = len(getattr(given, "shape", (1,))) == 1 and hasattr(given, "__len__")
    if isinstance(given, Mapping) or not one_axis:
        return None
    a = _array(given, "labeled")
    if a.ndim == 1 and a.dtype == object:
        a = np.empty(0) if (plain := _plain(a)) is None else plain
    if a.ndim != 1 or len(a) == 0 or a.dtype.kind not in "UTSiuO":
        return None
    if a.dtype.kind in "UTSO" and ids is None:
        raise UsageError(
            f"labeled: expected positions for a pool without ids, got {as_text(a.tolist()[0])!r}; pass ids="
        )
    if ids is None or (a.dtype.kind in "iu" and ids.dtype.kind not in "iuO"):
        return None
    at, unknown = _among(a, ids)
    if a.dtype.kind in "iu":
        if len(at) == 0:
            return None
        rows = int(a.min()) >= 0 and int(a.max()) < len(ids)
        if rows and (unknown or not np.array_equal(at, a)):
            raise UsageError(
                "labeled: expected ids or positions, got integers that could be both, since the pool's ids "
                "are integers; pass a mask: np.isin(ids, labeled) where they are ids"
            )
    if unknown:
        raise DataError(
            f"labeled: id {id_texts(a)[unknown[0]]!r} is not in the pool ({len(unknown)} are not); drop "
            "it, or pass features of samples outside the pool"
        )
    return at


def _among(a: NDArray[Any], ids: NDArray[Any]) -> tuple[NDArray[np.int64], Sequence[int]]:
    """As :meth:`IdIndex.locate`, without an index where both are integers of a kind."""
    if a.dtype.kind != ids.dtype.kind or a.dtype.kind not in "iu" or len(ids) == 0:
        return IdIndex(ids).locate(id_texts(a))
    order = np.argsort(ids, kind="stable")
    at = order[np.minimum(np.searchsorted(ids, a, sorter=order), len(ids) - 1)]
    known = ids[at] == a
    return at[known], np.flatnonzero(~known).tolist()


def _array(given: Any, name: str) -> NDArray[Any]:
    if isinstance(given, np.ma.MaskedArray):
        raise ShapeError(
            f"{name}: expected a plain array, got a masked array; drop the masked entries, or replace them "
            "with .filled(value)"
        )
    if isinstance(given, np.ndarray):
        return given
    if hasattr(given, "detach"):  # a torch tensor
        given = given.detach().cpu()
    if hasattr(given, "to_pylist"):  # pyarrow
        given = given.to_pylist()
    if hasattr(given, "to_list") and "128" in str(
        given.dtype
    ):  # polars: NumPy has no such integers
        given = given.to_list()
    if hasattr(given, "__array__"):
        return np.asarray(given)
    if hasattr(given, "__dlpack__"):
        return np.from_dlpack(given)
    # Not np.asarray, which turns integers of 2^63 and more into floats, and beside text into text.
    return np.fromiter(given, dtype=object)


def _plain(objects: NDArray[Any]) -> NDArray[Any] | None:
    """Objects as text or integers where they are all the one or the other; None if some are neither."""
    values = [v.item() if isinstance(v, np.generic) else v for v in objects.tolist()]
    kinds = {type(v) for v in values}
    if kinds <= {str}:
        return np.array(values, dtype=np.str_)
    if kinds == {bytes}:
        return np.array(values, dtype=np.bytes_)
    if kinds == {int}:
        for limits in (np.iinfo(np.int64), np.iinfo(np.uint64)):
            if limits.min <= min(values) and max(values) <= limits.max:
                return np.array(values, dtype=limits.dtype)
    return np.array(values, dtype=object) if kinds <= {int, str} else None


def _of_objects(a: NDArray[Any], n: int | None) -> NDArray[Any]:
    found = _plain(a)
    if found is not None:
        return found
    values = a.tolist()
    at = next(
        k for k, v in enumerate(values) if isinstance(v, bool) or not isinstance(v, int | str)
    )
    what = "nothing" if is_missing(values[at]) else f"{values[at]!r}"
    raise ShapeError(
        f"ids: expected {len(values) if n is None else n} strings or integers, one a sample, got {what} "
        f"at position {at}{_INSTEAD.get(np.asarray(values[at]).dtype.kind, '')}"
    )


def _refuse_repeated(values: list[Any]) -> None:
    first: dict[Any, int] = {}
    repeated: dict[Any, tuple[int, int]] = {}
    for p, value in enumerate(values):
        if first.setdefault(value, p) != p:
            repeated.setdefault(value, (first[value], p))
    value, (one, other) = next(iter(repeated.items()))
    raise DataError(
        f"ids: expected distinct ids, {value!r} stands at positions {one} and {other} ({len(repeated)} ids "
        "repeat); make them unique"
    )
