"""Arrays of any library as the NumPy arrays that strategies read: checks, fusion, labeled positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.kernels.common.arrays import (
    ArrayLike,
    as_float,
    device_of,
    is_array,
    require_finite,
    to_host,
)
from rlmba.types import MULTIMODAL, LinearHead, simplex_weights

__all__ = [
    "PROBABILITY_FLOOR",
    "ByModality",
    "Parts",
    "as_head",
    "as_positions",
    "float_array",
    "fuse",
    "gpu_of",
    "log_probabilities",
    "parts",
]

ByModality: TypeAlias = "ArrayLike | Mapping[str, ArrayLike]"

PROBABILITY_FLOOR = 1e-12
"""Smaller probabilities are raised to this value before the logarithm, which is not finite at 0."""

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Parts:
    """One kind of output: the fused array, and those of the modalities, as far as they were given."""

    fused: NDArray[Any] | None
    modalities: Mapping[str, NDArray[Any]]

    def arrays(self) -> list[NDArray[Any]]:
        """All arrays, the fused one last."""
        return [*self.modalities.values(), *([] if self.fused is None else [self.fused])]


def float_array(x: ArrayLike, name: str, *, ndim: int = 2) -> NDArray[Any]:
    """Convert to float32 or float64 in host memory, without a copy if dtype and layout allow it.

    Parameters
    ----------
    x : array
        NumPy, torch, DLPack, or a numeric column or table of pandas, polars or pyarrow. float16 and
        bfloat16 become float32, integers and booleans float64; an array in GPU memory is copied to the
        host.
    name : str
        For messages.
    ndim : int
        The expected number of axes.

    Raises
    ------
    ShapeError
        If it is not an array of real numbers with that many axes, or its last axis has width 0.
    BackendError
        If it is on a device that neither NumPy nor torch can read.
    """
    if isinstance(x, Sequence):
        raise ShapeError(
            f"{name}: expected an array of {ndim} axes, got {type(x).__name__}; "
            "wrap it in numpy.asarray"
        )
    if device_of(x) == "cuda":
        x = to_host(x, name)
    a: NDArray[Any] = as_float(x, name, ndim=ndim)
    if a.shape[-1] == 0:
        raise ShapeError(f"{name}: expected at least one column, got shape {a.shape}")
    return a


def gpu_of(*given: ByModality | None) -> Any:
    """The torch device of the first array that is a torch tensor in GPU memory, or None."""
    for value in given:
        for x in value.values() if isinstance(value, Mapping) else [value]:
            device = getattr(x, "device", None)
            if getattr(device, "type", None) == "cuda":
                return device
    return None


def log_probabilities(p: NDArray[Any], name: str) -> NDArray[Any]:
    """log p of probabilities [N, C], with values below ``PROBABILITY_FLOOR`` raised to it.

    The softmax of the result is the probabilities again, up to the floor.

    Raises
    ------
    NonFiniteError
        If a probability is NaN or infinite.
    DataError
        If one is negative or a row's sum differs from 1 by more than 1e-3; the message names the row.
    """
    require_finite(p, name)
    negative = (p < 0).any(axis=1)
    if negative.any():
        row = int(np.argmax(negative))
        raise DataError(
            f"{name}, row {row}: expected numbers >= 0, got {p[row].min():.6g}; "
            "pass logits= if these are logits"
        )
    sums = p.sum(axis=1, dtype=np.float64)
    off = np.abs(sums - 1) > _SUM_TOLERANCE
    if off.any():
        row = int(np.argmax(off))
        raise DataError(
            f"{name}, row {row}: expected probabilities with sum 1, got sum {sums[row]:.6g} "
            f"({int(off.sum())} rows are off); normalize them, or pass logits= if these are logits"
        )
    return np.asarray(np.log(np.maximum(p, PROBABILITY_FLOOR)))


def parts(given: ByModality | None, name: str, *, of_probabilities: bool = False) -> Parts:
    """Split a caller's argument into the fused array and those of the modalities.

    Parameters
    ----------
    given : array [N, D] or mapping of modality to array [N, d_m], or None
        An array is the fused one; in a mapping, the one under the key "mm" is.
    of_probabilities : bool
        The arrays are probabilities, and are converted to logits.

    Raises
    ------
    ShapeError
        If an array has the wrong number of axes or their lengths differ.
    UsageError
        If the mapping is empty or a key is not a name.
    """
    if given is None:
        return Parts(None, {})
    by_name = given if isinstance(given, Mapping) else {MULTIMODAL: given}
    if not by_name or not all(isinstance(m, str) and m for m in by_name):
        raise UsageError(
            f"{name}: expected an array or a mapping of modality names to arrays, "
            f"got the keys {list(by_name)}"
        )
    found: dict[str, NDArray[Any]] = {}
    for m, x in by_name.items():
        label = name if not isinstance(given, Mapping) else f"{name}[{m!r}]"
        a = float_array(x, label)
        found[m] = log_probabilities(a, label) if of_probabilities else a
    if len({len(a) for a in found.values()}) > 1:
        lengths = {m: len(a) for m, a in found.items()}
        raise ShapeError(f"{name}: expected one row for each sample everywhere, got {lengths} rows")
    fused = found.pop(MULTIMODAL, None)
    if fused is None and len(found) == 1:
        fused = next(iter(found.values()))
    return Parts(fused, found)


def fuse(
    features: Mapping[str, NDArray[Any]],
    weights: NDArray[np.float64] | None,
    present: NDArray[np.bool_] | None,
    *,
    joined: bool = False,
) -> NDArray[Any]:
    """f(x) = sum_m w_m f_m(x) where all widths are equal, else (or if ``joined``) the concatenation.

    Parameters
    ----------
    features : mapping of modality to float array [N, d_m]
    weights : float array [M] or None
        On the simplex; None: uniform. Not used for the concatenation.
    present : bool array [N, M] or None
        An absent modality has weight 0 and the others are renormalized; in a concatenation, its part
        is 0.

    Raises
    ------
    UsageError
        If the weights are not M numbers >= 0 with sum 1.
    """
    m, w = len(features), simplex_weights(weights, tuple(features), "fusion_weights")
    arrays = list(features.values())
    if joined or len({a.shape[1] for a in arrays}) > 1:
        if present is not None:
            arrays = [a * present[:, j, None] for j, a in enumerate(arrays)]
        return np.concatenate(arrays, axis=1)
    if present is None:
        rows = w[None]
    else:
        rows = w * present
        total = rows.sum(axis=1, keepdims=True)
        # If all the weight was on absent modalities, the present ones share it evenly.
        rows = np.where(total > 0, rows / np.where(total > 0, total, 1), present / m)
        rows = rows / rows.sum(axis=1, keepdims=True)
    dtype = np.result_type(*arrays)
    fused = np.zeros(arrays[0].shape, dtype=dtype)
    for j, a in enumerate(arrays):
        fused += rows[:, j, None].astype(dtype) * a
    return fused


def as_positions(given: Any, n: int) -> NDArray[np.int64] | None:
    """The positions that the argument ``labeled`` names, or None if it holds features.

    Parameters
    ----------
    given : bool array [n], int array [L] or a list of ints, or anything else
        One axis: a mask, or positions within 0..n-1.
    n : int
        Number of samples.

    Raises
    ------
    UsageError
        If a position is out of range or the mask has another length.
    DataError
        If a position is given twice.
    """
    if isinstance(given, Mapping):
        return None
    one_axis = len(getattr(given, "shape", ())) == 1
    if one_axis and len(given) == 0:  # an empty column of a table may have any dtype
        return np.empty(0, dtype=np.int64)
    a = to_host(given, "labeled") if is_array(given) else np.asarray(given)
    if a.ndim != 1:
        return None
    if a.size == 0:
        return np.empty(0, dtype=np.int64)
    if a.dtype == np.bool_:
        if len(a) != n:
            raise UsageError(f"labeled: expected a mask of {n} entries, one a sample, got {len(a)}")
        return np.flatnonzero(a).astype(np.int64)
    if a.dtype.kind not in "iu":
        raise ShapeError(
            "labeled: expected positions (integers), a mask (bool) or features [L, D], "
            f"got dtype {a.dtype} and shape {a.shape}"
            + (
                "; convert them with .astype(np.int64) or .astype(bool)"
                if a.dtype.kind in ("f", "O")
                else ""
            )
        )
    if a.min() < 0 or a.max() >= n:
        at = int(np.argmax((a < 0) | (a >= n)))
        raise UsageError(
            f"labeled: expected positions within 0..{n - 1}, got {a[at]} at {at}; "
            "they are rows of the arrays passed with it"
        )
    values, counts = np.unique(a, return_counts=True)
    if (counts > 1).any():
        mask = len(a) == n and values.max() <= 1
        raise DataError(
            f"labeled: expected distinct positions, {values[counts > 1][0]} repeats; "
            + ("give a mask as bool, with .astype(bool)" if mask else "remove the duplicates")
        )
    return a.astype(np.int64)


def as_head(given: Any) -> LinearHead | None:
    """Convert a :class:`~rlmba.types.LinearHead` or a pair (weight [C, D], bias [C]) to a checked head.

    Raises
    ------
    UsageError
        If it is neither.
    NonFiniteError
        If it contains NaN or infinity.
    """
    if given is None:
        return None
    if isinstance(given, LinearHead):
        weight, bias = given.weight, given.bias
    elif isinstance(given, tuple | list) and len(given) == 2:
        weight, bias = given
    else:
        raise UsageError(
            "head: expected a LinearHead or a pair (weight [C, D], bias [C]), "
            f"got {type(given).__name__}"
        )
    head = LinearHead(float_array(weight, "head weight"), float_array(bias, "head bias", ndim=1))
    require_finite(head.weight, "head weight")
    require_finite(head.bias, "head bias")
    return head
