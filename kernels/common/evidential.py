"""Shared by operations on Dirichlet evidence: checked arguments and errors for invalid rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.kernels.common import arrays

EVIDENCE = ("softplus", "exp", "relu")
CODES = {"alpha": 0, "softplus": 1, "exp": 2, "relu": 3}


@dataclass(frozen=True, eq=False)
class Modalities:
    """M arrays [N, C] of one float dtype and how they become Dirichlet parameters.

    ``evidence`` is ``"alpha"`` if the numbers are alpha itself. ``weights`` is float64 [1, M] or
    [N, M], or None. ``present`` is a contiguous bool [N, M] or None. ``names`` are the arrays'
    names in messages.
    """

    arrays: tuple[arrays.Float, ...]
    names: tuple[str, ...]
    evidence: str
    temperatures: NDArray[np.float64]
    weights: NDArray[np.float64] | None
    present: NDArray[np.bool_] | None

    @property
    def rows(self) -> int:
        """N, the number of rows."""
        return int(self.arrays[0].shape[0])

    @property
    def dtype(self) -> Any:
        """The computation dtype."""
        return self.arrays[0].dtype

    @property
    def code(self) -> int:
        """The number of the evidence function in the compiled extension."""
        return CODES[self.evidence]

    def invalid_row(self, row: int) -> DataError:
        """Return the error for a row with NaN, infinity or an alpha that is not positive."""
        for k, (a, name) in enumerate(zip(self.arrays, self.names, strict=True)):
            if self.present is not None and not self.present[row, k]:
                continue
            if not np.isfinite(a[row]).all():
                return arrays.non_finite(a, name, row)
            if self.evidence == "alpha" and not (a[row] > 0).all():
                column = int(np.argmax(~(a[row] > 0)))
                return DataError(
                    f"{name}[{row}, {column}] is {a[row, column]}: expected alpha > 0; "
                    'pass kind="logits" if these are logits'
                )
        raise AssertionError(f"row {row} is valid")

    def require_valid(self) -> None:
        """Raise the error for the first invalid row (the reference implementation of the check)."""
        bad = np.zeros(self.rows, dtype=bool)
        for k, a in enumerate(self.arrays):
            broken = ~np.isfinite(a)
            if self.evidence == "alpha":
                broken |= ~(a > 0)
            rows = broken.any(axis=1)
            bad |= rows if self.present is None else rows & self.present[:, k]
        if bad.any():
            raise self.invalid_row(int(np.argmax(bad)))


def evidence(x: arrays.Float, kind: str, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the evidence alpha - 1 of logits, in float64; ``kind`` is one of :data:`EVIDENCE`."""
    with np.errstate(over="ignore"):
        z: NDArray[np.float64] = np.asarray(x, dtype=np.float64) / temperature
        if kind == "exp":
            return np.asarray(np.exp(z))
        return np.asarray(np.maximum(z, 0) if kind == "relu" else np.logaddexp(0, z))


def device_of(x: Sequence[arrays.ArrayLike]) -> str:
    """Return ``"cuda"`` if one of the arrays is on a GPU, otherwise ``"cpu"``."""
    devices = {arrays.device_of(a) for a in x}
    return "cuda" if "cuda" in devices else "cpu"


def class_rows(x: Sequence[arrays.ArrayLike], names: Sequence[str]) -> tuple[arrays.Float, ...]:
    """Return one float matrix [N, C] per modality, all of one shape and dtype, C >= 1.

    Raises
    ------
    ShapeError
        If an array is not a matrix of real numbers, or the shapes differ.
    """
    floats = [arrays.as_float(a, name, ndim=2) for a, name in zip(x, names, strict=True)]
    for a, name in zip(floats, names, strict=True):
        require_classes(a.shape, floats[0].shape, name)
    dtype = np.result_type(*floats)
    return tuple(a if a.dtype == dtype else a.astype(dtype) for a in floats)


def require_classes(shape: tuple[int, ...], first: tuple[int, ...], name: str) -> None:
    """Raise :class:`ShapeError` unless ``shape`` is [N, C] with C >= 1 and equals ``first``."""
    if shape != first or shape[1] < 1:
        raise ShapeError(
            f"{name}: expected [N, C] with C >= 1 and the same for all modalities, "
            f"got {shape} and {first}"
        )


def gather(
    x: Sequence[arrays.ArrayLike],
    *,
    single: bool,
    kind: str,
    evidence: str,
    temperature: Any,
) -> Modalities:
    """Check the evidence arguments; with ``single``, messages call the only array ``x``.

    Raises
    ------
    ShapeError
        If the arrays are not all [N, C] of one shape with C >= 1.
    UsageError
        For an unknown kind or evidence, a temperature that is not positive, or one given with
        alpha.
    """
    names, name, temperatures = check_options(
        len(x), single=single, kind=kind, evidence=evidence, temperature=temperature
    )
    floats = class_rows(x, names)
    return Modalities(
        arrays=floats,
        names=names,
        evidence=name,
        temperatures=temperatures,
        weights=None,
        present=None,
    )


def check_options(
    count: int, *, single: bool, kind: str, evidence: str, temperature: Any
) -> tuple[tuple[str, ...], str, NDArray[np.float64]]:
    """Check the options of ``count`` modalities; return names, evidence and temperatures.

    Raises
    ------
    UsageError
        For no modality, an unknown kind or evidence, a temperature that is not positive, or one
        given with alpha.
    """
    if kind not in ("alpha", "logits"):
        raise UsageError(f"kind: expected 'alpha' or 'logits', got {kind!r}")
    if evidence not in EVIDENCE:
        raise UsageError(f"evidence: expected one of {list(EVIDENCE)}, got {evidence!r}")
    if count == 0:
        raise UsageError("x: expected at least one modality, got an empty sequence")
    names = ("x",) if single else tuple(f"x[{k}]" for k in range(count))
    return names, "alpha" if kind == "alpha" else evidence, _temperatures(temperature, count, kind)


def _temperatures(temperature: Any, m: int, kind: str) -> NDArray[np.float64]:
    t = numbers(temperature, "temperature")
    if t.ndim > 1 or t.size not in (1, m):
        raise UsageError(f"temperature: expected a number or {m} numbers, got shape {t.shape}")
    if not np.isfinite(t).all() or (t <= 0).any():
        raise UsageError(f"temperature: expected finite numbers > 0, got {temperature!r}")
    if kind == "alpha" and (t != 1).any():
        raise UsageError('temperature: alpha has none; expected kind="logits" or temperature 1')
    return np.ascontiguousarray(np.broadcast_to(t.reshape(-1), (m,)))


def numbers(value: Any, name: str) -> NDArray[np.float64]:
    """Return a float64 array from a number, a sequence of numbers or an array in CPU memory.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    try:
        if arrays.is_array(value):
            value = arrays.to_numpy(value, name)
        return np.asarray(value, dtype=np.float64)
    except ShapeError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: expected numbers, got {value!r} ({error})") from None


def simplex_weights(value: Any, rows: int, m: int) -> NDArray[np.float64]:
    """Return weights as float64 [1, M] or [N, M] whose rows are on the simplex.

    Raises
    ------
    ShapeError
        For another shape than [M] or [N, M].
    UsageError
        If [M] weights are negative, not finite, or do not sum to 1 (within 1e-4).
    DataError
        The same for a row of [N, M] weights; the message names the row.
    """
    w = numbers(value, "weights")
    if w.shape not in ((m,), (rows, m)):
        raise ShapeError(f"weights: expected shape ({m},) or ({rows}, {m}), got {w.shape}")
    shared = w.ndim == 1
    w = np.ascontiguousarray(np.atleast_2d(w))
    with np.errstate(invalid="ignore"):
        good = (w >= 0).all(axis=1) & (np.abs(w.sum(axis=1) - 1) <= 1e-4)
    if not good.all():
        row = int(np.argmin(good))
        if shared:
            raise UsageError(f"weights: {describe_weights(w[row])}")
        raise DataError(f"weights[{row}]: {describe_weights(w[row])}")
    return w


def describe_weights(weights: NDArray[np.float64]) -> str:
    """Describe weights that are not on the simplex, for an error message."""
    return f"expected numbers >= 0 with sum 1, got {weights}; divide them by their sum"


def presence_mask(
    value: arrays.ArrayLike, rows: int, m: int, name: str = "present"
) -> NDArray[np.bool_]:
    """Return ``present`` as a contiguous bool [N, M] array.

    Raises
    ------
    ShapeError
        For another shape or dtype.
    """
    p = arrays.to_numpy(value, name)
    if p.dtype != np.bool_ or p.shape != (rows, m):
        raise ShapeError(
            f"{name}: expected a bool array of shape ({rows}, {m}), got {p.dtype} {p.shape}"
        )
    return np.ascontiguousarray(p)


def presence(value: arrays.ArrayLike, rows: int, m: int) -> NDArray[np.bool_]:
    """Return :func:`presence_mask`, in which each row must have a modality.

    Raises
    ------
    ShapeError
        For another shape or dtype.
    DataError
        If a row has no modality at all.
    """
    p = presence_mask(value, rows, m)
    some = p.any(axis=1)
    if not some.all():
        raise DataError(describe_missing(int(np.argmin(some))))
    return p


def describe_missing(row: int) -> str:
    """Describe a row without any modality, for an error message."""
    return f"present[{row}]: expected at least one modality, got none; drop row {row}"
