"""Convert pandas, polars and pyarrow objects to NumPy arrays without importing these libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import ShapeError

__all__ = ["is_table", "to_numpy"]

_LIBRARIES = ("pandas", "polars", "pyarrow")
_NUMERIC = "biuf"


def _library(x: object) -> str | None:
    """Return the library that defines the type of ``x`` or one of its base classes."""
    for base in type(x).__mro__:
        library = base.__module__.split(".")[0]
        if library in _LIBRARIES:
            return library
    return None


def is_table(x: object) -> bool:
    """Whether ``x`` is a series, a data frame, an array or a table of pandas, polars or pyarrow."""
    return _library(x) is not None


def to_numpy(x: Any, name: str) -> NDArray[Any]:
    """Return [N] for a series or column, [N, D] for a table, a data frame or lists of length D.

    Raises
    ------
    ShapeError
        If a column does not hold numbers or has a missing value; the message names it.
    """
    library = _library(x)
    if library == "pandas":
        return _pandas(x, name)
    return _polars(x, name) if library == "polars" else _pyarrow(x, name)


def _pandas(x: Any, name: str) -> NDArray[Any]:
    frame = x.ndim == 2 and hasattr(x, "columns")
    if not hasattr(x, "dtypes" if frame else "dtype"):
        raise _unreadable(x, name)
    given = list(x.dtypes) if frame else [x.dtype]
    labels = [f"column {c!r}" for c in x.columns] if frame else [type(x).__name__]
    # Nullable and Arrow dtypes name the NumPy dtype of their values.
    plain = [d if isinstance(d, np.dtype) else getattr(d, "numpy_dtype", None) for d in given]
    for label, dtype, numpy in zip(labels, given, plain, strict=True):
        _require_numeric(name, label, dtype, numeric=numpy is not None and numpy.kind in _NUMERIC)
    if plain != given:
        missing = np.asarray(x.isna()).reshape(len(x), -1)
        _require_values(name, labels, missing.sum(axis=0))
    return np.asarray(x.to_numpy(dtype=np.result_type(*plain) if plain else np.float64))


def _polars(x: Any, name: str) -> NDArray[Any]:
    if not hasattr(x, "null_count") or hasattr(x, "collect"):
        raise _unreadable(x, name)
    columns = x.get_columns() if hasattr(x, "get_columns") else [x]
    labels = [f"column {c.name!r}" for c in columns]
    for label, column in zip(labels, columns, strict=True):
        dtype = column.dtype
        while getattr(dtype, "inner", None) is not None:
            dtype = dtype.inner
        numeric = dtype.is_numeric() and not dtype.is_decimal()
        _require_numeric(name, label, column.dtype, numeric=numeric or str(dtype) == "Boolean")
    _require_values(name, labels, [c.null_count() for c in columns])
    return _from_lists(x.to_numpy(), name)


def _pyarrow(x: Any, name: str) -> NDArray[Any]:
    if hasattr(x, "column_names"):  # a table or a batch of records
        columns, labels = list(x.columns), [f"column {c!r}" for c in x.column_names]
    elif hasattr(x, "null_count"):
        columns, labels = [x], [type(x).__name__]
    elif hasattr(x, "to_numpy") and hasattr(x, "strides"):  # a tensor
        return np.asarray(x.to_numpy())
    else:
        raise _unreadable(x, name)
    _require_values(name, labels, [c.null_count for c in columns])
    arrays = [_arrow_column(c, name, label) for c, label in zip(columns, labels, strict=True)]
    if not hasattr(x, "column_names"):
        return arrays[0]
    flat = [a[:, None] if a.ndim == 1 else a for a in arrays]
    return np.concatenate(flat, axis=1) if flat else np.empty((len(x), 0))


def _arrow_column(column: Any, name: str, label: str) -> NDArray[Any]:
    if hasattr(column, "to_numpy_ndarray"):  # an extension array of tensors of one shape
        return np.asarray(column.to_numpy_ndarray())
    values = (
        column.to_numpy()
        if hasattr(column, "chunks")  # a chunked array, which always has to be copied
        else column.to_numpy(zero_copy_only=False)
    )
    values = _from_lists(np.asarray(values), name)
    _require_numeric(name, label, column.type, numeric=values.dtype.kind in _NUMERIC)
    return values


def _from_lists(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Convert N lists of D numbers each to an array [N, D]; return any other array unchanged."""
    if values.dtype != object or not all(isinstance(v, np.ndarray) for v in values.flat):
        return values
    lengths = {len(v) for v in values.flat}
    if values.ndim != 1 or len(lengths) != 1:
        raise ShapeError(
            f"{name}: expected lists of one length, got lengths {sorted(lengths)[:5]}; pad them"
        )
    return np.stack(list(values))


def _require_numeric(name: str, label: str, dtype: Any, *, numeric: bool) -> None:
    if not numeric:
        sparse = str(dtype).startswith("Sparse")
        advice = (
            "call .sparse.to_dense()" if sparse else "leave it out, or encode it as numbers first"
        )
        raise ShapeError(f"{name}: expected numbers, got {label} of dtype {dtype}; {advice}")


def _require_values(name: str, labels: list[str], missing: Any) -> None:
    for label, count in zip(labels, missing, strict=True):
        if count:
            raise ShapeError(
                f"{name}: expected a number in every row, got {label} with {count} missing values; "
                "fill them, or drop these rows"
            )


def _unreadable(x: object, name: str) -> ShapeError:
    what = type(x)
    hint = "call .collect() first" if hasattr(x, "collect") else "convert it with numpy.asarray"
    return ShapeError(
        f"{name}: expected an array of numbers, got {what.__module__}.{what.__qualname__}; {hint}"
    )
