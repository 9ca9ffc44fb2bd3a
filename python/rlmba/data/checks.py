"""Check the arrays of a data set; each error names the sample or the modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError
from rlmba.ids import as_ids, has_surrogate, id_texts, not_storable
from rlmba.types import MULTIMODAL

__all__ = [
    "CHUNK_ROWS",
    "as_loaded",
    "check_finite",
    "check_ids",
    "check_labels",
    "check_names",
    "check_present",
    "check_split",
]

CHUNK_ROWS = 8192
"""Samples that are checked at a time."""


def check_names(arrays: Mapping[str, Any] | Iterable[str]) -> None:
    """Check modality names: at least one, none empty, and none the name of the fused head."""
    names = list(arrays)
    if not names:
        raise DataError(
            "expected at least one modality, got none; list them in the option modalities"
        )
    for name in names:
        if name in ("", MULTIMODAL):
            raise DataError(
                f"modality {name!r}: expected a name other than '' and {MULTIMODAL!r}, "
                "which is the name of the fused head; rename the array"
            )


def check_ids(ids: Sequence[str] | NDArray[Any]) -> NDArray[np.str_]:
    """Check sample ids, which are distinct and one line each; returns a 1-D str array."""
    try:
        given = as_ids(ids)
    except ShapeError as error:
        raise DataError(f"{error}") from None
    array = given if given.dtype.kind == "U" else np.array(id_texts(given), dtype=np.str_)
    for value in array.tolist():
        if not_storable(value) or "\n" in value or "\r" in value:
            raise DataError(
                f"ids: expected one non-empty line without leading or trailing blanks, got {value!r}"
            )
    return array


def check_labels(
    labels: NDArray[Any],
    classes: Sequence[str],
    ids: NDArray[np.str_],
    *,
    partial: bool = False,
) -> NDArray[np.int64]:
    """Check labels, which are positions in ``classes`` with at least two classes; returns int64 [n].

    With ``partial``, labels may be -1 (unknown), and fewer classes may occur.
    """
    array = np.asarray(labels)
    if array.shape != ids.shape:
        raise DataError(f"labels: expected {len(ids)} labels, got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise DataError(
            f"labels: expected integers 0 to {len(classes) - 1}, got dtype {array.dtype}"
        )
    bad = (array < (-1 if partial else 0)) | (array >= len(classes))
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"labels: expected 0 to {len(classes) - 1} for {len(classes)} classes, but "
            f"sample {str(ids[at])!r} has {array[at]} ({int(bad.sum())} are out of range)"
        )
    if len(set(classes)) != len(classes):
        raise DataError(f"classes: expected distinct names, got {list(classes)}")
    if halves := [name for name in classes if has_surrogate(name)]:
        raise DataError(
            f"classes: expected whole characters, got {halves[0]!r} with half a character (a lone "
            "surrogate); rename the class"
        )
    if not partial and len(np.unique(array)) < 2:
        raise DataError(
            f"labels: expected two classes or more, got {len(np.unique(array))}; "
            "there is nothing to learn"
        )
    return array.astype(np.int64)


def check_split(split: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """Check a split of 0 (train) and 1 (test); returns bool [n], True for training samples."""
    array = np.asarray(split)
    if array.shape != (n,) or array.dtype.kind not in "biu":
        raise DataError(
            f"split: expected {n} integers, 0 for training and 1 for test, "
            f"got dtype {array.dtype} and shape {array.shape}"
        )
    others = np.setdiff1d(array, [0, 1])
    if len(others):
        raise DataError(
            f"split: expected only 0 (training) and 1 (test), got {others[:5].tolist()} as well"
        )
    if (array == 1).all():
        raise DataError("split: expected training samples (0), got none")
    return np.asarray(array == 0)


def check_present(
    present: NDArray[Any] | None, ids: NDArray[np.str_], modalities: tuple[str, ...]
) -> NDArray[np.bool_] | None:
    """Check which modalities samples have, at least one each; returns bool [n, M], or None for all."""
    if present is None:
        return None
    array = np.asarray(present)
    if array.shape != (len(ids), len(modalities)) or not np.isin(array, [0, 1]).all():
        raise DataError(
            f"present: expected 0 or 1 for {len(ids)} samples and {len(modalities)} modalities, "
            f"got dtype {array.dtype} and shape {array.shape}"
        )
    array = array.astype(np.bool_)
    empty = ~array.any(axis=1)
    if empty.any():
        raise DataError(
            f"present: expected at least one modality for each sample, but "
            f"{str(ids[int(np.argmax(empty))])!r} has none of {list(modalities)}; drop it"
        )
    return None if array.all() else array


def check_finite(
    modality: str, array: NDArray[Any], has: NDArray[np.bool_], ids: NDArray[np.str_]
) -> None:
    """Raise :class:`DataError` for the first sample whose values of the modality are not finite.

    A number beyond float32, which networks compute with, is an error too, because it would become
    infinite when the sample is loaded.
    """
    for start in range(0, len(array), CHUNK_ROWS):
        rows = array[start : start + CHUNK_ROWS]
        finite = np.isfinite(as_loaded(rows)).reshape(len(rows), -1).all(axis=1)
        bad = ~finite & has[start : start + CHUNK_ROWS]
        if bad.any():
            at = start + int(np.argmax(bad))
            values = np.ravel(array[at])
            place = int(np.argmax(~np.isfinite(as_loaded(values))))
            if np.isfinite(values[place]):
                wanted, advice = "numbers within float32, up to 3.4e38", "scale the modality, or "
            else:
                wanted, advice = "finite numbers", ""
            raise DataError(
                f"modality {modality!r} of sample {str(ids[at])!r}: expected {wanted}, got "
                f"{values[place]} at position {place}; {advice}drop or repair the sample"
            )


def as_loaded(values: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers as they are in batches: float32, and infinite if they exceed its range."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)
