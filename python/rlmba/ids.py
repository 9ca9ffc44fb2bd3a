"""Ids of samples as arrays, and the positions of listed ids in a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import NameIndex, as_text, is_missing
from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.spreadsheet import unguarded

__all__ = ["IdIndex", "as_ids", "has_surrogate", "id_texts", "labeled_ids", "not_storable"]

_INSTEAD = {
    "b": "; booleans cannot distinguish samples",
    "f": "; floats do not keep all digits: convert them with .astype(np.int64) or .astype(str)",
    "M": "; give dates as text: .astype(str)",
    "m": "; give durations as text: .astype(str)",
}


def as_ids(given: Any, n: int | None = None) -> NDArray[Any]:
    """Ids as an array of distinct texts or integers.

    Parameters
    ----------
    given : array or sequence of str, bytes or int
        An array of NumPy, torch, pandas, pyarrow or polars, or a list.
    n : int or None
        The expected number of ids.

    Returns
    -------
    array
        A NumPy array of text, bytes or integers is returned as it is, in native byte order. Lists and
        object arrays of text become text; those of integers become int64, or uint64 if needed. Larger
        integers, and a mixture of text and integers, stay objects.

    Raises
    ------
    ShapeError
        If there are not n ids on one axis, they are neither text nor integers, or the array is masked.
    DataError
        If an id is missing, repeated or not UTF-8; the message names it and its position.
    """
    a = _array(given, "ids")
    if a.dtype == object and a.ndim == 1:
        a = _of_objects(a, n)
    elif a.dtype.kind == "T":
        a = np.array(a.tolist(), dtype=np.str_)
    elif a.dtype.kind == "f" and a.ndim == 1 and np.isnan(a).any():
        at = int(np.argmax(np.isnan(a)))
        raise ShapeError(
            f"ids: expected {len(a)} strings or integers, one per sample, got nothing at position {at} "
            f"({int(np.isnan(a).sum())} are missing); fill them, or leave these samples out"
        )
    if a.ndim != 1 or (n is not None and len(a) != n) or a.dtype.kind not in "USiuO":
        count = "" if n is None else f"{n} "
        raise ShapeError(
            f"ids: expected {count}strings or integers, one per sample, got dtype {a.dtype} and shape "
            f"{a.shape}{_INSTEAD.get(a.dtype.kind, '')}"
        )
    if not a.dtype.isnative:
        a = a.astype(a.dtype.newbyteorder("="))
    values = id_texts(a) if a.dtype.kind in "SO" else a.tolist()
    if len(set(values)) < len(values):  # several times faster than sorting strings
        _refuse_repeated(values)
    return a


def id_texts(ids: NDArray[Any]) -> list[str]:
    """Ids as text, which is how ids of different types are compared.

    Raises
    ------
    DataError
        If bytes are not UTF-8.
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
    """Why an id cannot be stored in a file and read back unchanged; "" if it can."""
    if not text:
        return "is empty"
    if text != text.strip():
        return "has blanks around it"
    if "\0" in text or has_surrogate(text):
        return "has a NUL byte or half a character (a lone surrogate)"
    return ""


def has_surrogate(text: str) -> bool:
    """Whether a text has a lone surrogate, which is half a character and cannot be encoded as UTF-8."""
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


class IdIndex:
    """Finds the positions of ids in a pool.

    Parameters
    ----------
    ids : array [N]
        As returned by :func:`as_ids`.
    """

    def __init__(self, ids: NDArray[Any]) -> None:
        self._position = {text: p for p, text in enumerate(id_texts(ids))}
        self._names = NameIndex(self._position)

    def locate(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], list[int]]:
        """Positions of ids in the pool.

        Parameters
        ----------
        texts : sequence of str
            Ids as people or programs write them; see :class:`rlmba.cells.NameIndex`. An apostrophe that
            guards a cell against spreadsheets is removed.

        Returns
        -------
        (int64 array, list of int)
            Positions of the ids that were found, in order, and indices of the texts that were not.
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
    """Positions of labeled samples that are given by id; None if they are given in another way.

    Parameters
    ----------
    given : anything
        The argument ``labeled`` of a caller. With one axis, texts are ids, and integers are ids if the
        pool's ids are integers and include them.
    ids : array [N] or None
        The ids of the pool.

    Raises
    ------
    DataError
        If some are not ids of the pool.
    UsageError
        If text is given for a pool without ids, or integers that could be ids or positions.
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
                "labeled: expected ids or positions, got integers that could be either, since the pool's ids "
                "are integers; pass a mask, which is np.isin(ids, labeled) if they are ids"
            )
    if unknown:
        raise DataError(
            f"labeled: id {id_texts(a)[unknown[0]]!r} is not in the pool ({len(unknown)} are not); drop "
            "it, or pass features of samples outside the pool"
        )
    return at


def _among(a: NDArray[Any], ids: NDArray[Any]) -> tuple[NDArray[np.int64], Sequence[int]]:
    """As :meth:`IdIndex.locate`, but without an index if both are integers of the same kind."""
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
    # Not np.asarray, which converts integers of 2^63 and more to floats, and all integers to text if some
    # entries are text.
    return np.fromiter(given, dtype=object)


def _plain(objects: NDArray[Any]) -> NDArray[Any] | None:
    """Objects as an array of text or integers if all are of one type; None if some are neither."""
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
        f"ids: expected {len(values) if n is None else n} strings or integers, one per sample, got {what} "
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
        f"ids: expected distinct ids, but {value!r} is at positions {one} and {other} ({len(repeated)} ids "
        "repeat); make them unique"
    )
