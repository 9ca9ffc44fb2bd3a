"""Rows of one or several modalities and their weighted squared distances.

The distance between two rows is D = sum_m w_m |x_m - x'_m|^2 / sum_m w_m, where m runs over the
modalities that both rows have. It is infinite if they have none in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import ShapeError, UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances, evidential

__all__ = [
    "HOST",
    "Features",
    "ModalityRows",
    "Reader",
    "first_array",
    "gather",
    "labeled_rows",
    "reader_of",
]

Features: TypeAlias = "arrays.ArrayLike | Mapping[Any, arrays.ArrayLike]"

_BLOCK_ROWS = 4096


class Reader(NamedTuple):
    """How arrays are read: in host memory (:data:`HOST`), or as tensors for a GPU.

    ``rows`` checks a matrix by name, ``one_dtype`` converts matrices to one dtype, ``cast``
    converts a matrix, by name, to the dtype of another, and ``like`` returns a NumPy array as the
    same kind of array as an argument.
    """

    rows: Callable[[arrays.ArrayLike, str], Any]
    one_dtype: Callable[[list[Any]], tuple[Any, ...]]
    cast: Callable[[Any, Any, str], Any]
    like: Callable[[NDArray[Any], arrays.ArrayLike], Any]


@dataclass(frozen=True)
class ModalityRows:
    """N rows of M modalities with positive weights.

    ``names`` are the modalities as error messages name them, such as ``features['image']``;
    ``parts`` are matrices [N, D_m] of one dtype; ``weights`` is float64 [M]; ``present`` is bool
    [N, M], or None if every row has all modalities. ``chosen`` are the positions of these
    modalities among those given. The methods need float32 or float64 arrays in host memory.
    """

    names: tuple[str, ...]
    parts: tuple[Any, ...]
    weights: NDArray[np.float64]
    present: NDArray[np.bool_] | None
    chosen: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.parts[0].shape[0])

    def take(self, positions: NDArray[np.int64]) -> ModalityRows:
        """Return copies of some rows."""
        kept = None if self.present is None else self.present[positions]
        return replace(self, parts=tuple(p[positions] for p in self.parts), present=kept)

    def squared_distances(self, other: ModalityRows, row: int) -> NDArray[np.float64]:
        """Return D between every row and one row of ``other``: float64 [N]."""
        out = np.empty(self.rows)
        for begin in range(0, self.rows, _BLOCK_ROWS):
            block = slice(begin, begin + _BLOCK_ROWS)
            out[block] = self._block_distances(block, other, row)
        return out

    def _block_distances(self, block: slice, other: ModalityRows, row: int) -> NDArray[np.float64]:
        squared = []
        for part, theirs in zip(self.parts, other.parts, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):  # an absent row may hold anything
                difference = part[block].astype(np.float64) - theirs[row].astype(np.float64)
                squared.append((difference**2).sum(axis=1))
        both = self._common(block, other, row, len(squared[0]))
        shares = both * self.weights
        total = shares.sum(axis=1, keepdims=True)
        met = total[:, 0] > 0
        shares[met] /= total[met]
        with np.errstate(over="ignore", invalid="ignore"):
            sums = np.where(both, shares * np.stack(squared, axis=1), 0.0).sum(axis=1)
        if not np.isfinite(sums).all():
            raise distances.overflow("features")
        return np.where(met, sums, np.inf)

    def _common(self, block: slice, other: ModalityRows, row: int, count: int) -> NDArray[np.bool_]:
        both = np.ones((count, len(self.parts)), dtype=bool)
        if self.present is not None:
            both &= self.present[block]
        if other.present is not None:
            both &= other.present[row]
        return both

    def require_range(self, squared: NDArray[np.float64], positions: NDArray[np.int64]) -> None:
        """Raise :class:`DataError` if a distance between rows with a common modality is infinite.

        ``squared`` [S, N] are the distances from the rows at ``positions`` to all rows.
        """
        far = np.isinf(squared.max(axis=1))
        if self.present is not None:
            for i in np.flatnonzero(far):
                common = (self.present & self.present[positions[i]]).any(axis=1)
                far[i] = np.isinf(squared[i, common]).any()
        if far.any():
            raise distances.overflow("features")

    def groups(self) -> tuple[NDArray[np.bool_], NDArray[np.int32] | None]:
        """Return the G sets of modalities that occur, bool [G, M], and the set of each row.

        The second array, int32 [N], is None if there is only one set.
        """
        if self.present is None:
            return np.ones((1, len(self.parts)), dtype=bool), None
        sets, which = np.unique(self.present, axis=0, return_inverse=True)
        if len(sets) < 2:
            return np.ascontiguousarray(self.present[:1]), None
        return np.ascontiguousarray(sets), which.reshape(-1).astype(np.int32)

    def require_finite(self, first_bad_row: Callable[[Any], int] | None = None) -> None:
        """Raise :class:`NonFiniteError` for a row that is not finite in a modality that it has.

        ``first_bad_row`` is the compiled search for the first row that is not finite. It does not
        know which rows have the modality.
        """
        for m, (name, part) in enumerate(zip(self.names, self.parts, strict=True)):
            if first_bad_row is not None and first_bad_row(part) < 0:
                continue
            finite = np.isfinite(part).all(axis=1)
            if self.present is not None:
                finite |= ~self.present[:, m]
            if not finite.all():
                raise arrays.non_finite(part, name, int(np.argmin(finite)))


def first_array(features: Features) -> arrays.ArrayLike:
    """Return the array that determines the device and the kind of the results."""
    if not isinstance(features, Mapping):
        return features
    if not features:
        raise UsageError("features: expected at least one modality, got an empty mapping")
    return next(iter(features.values()))


def _named(features: Features, name: str) -> Iterator[tuple[str, Any, arrays.ArrayLike]]:
    if isinstance(features, Mapping):
        for key, part in features.items():
            yield f"{name}[{key!r}]", key, part
    else:
        yield name, None, features


def _weights(weights: Any, keys: list[Any]) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(len(keys))
    if isinstance(weights, Mapping):
        if set(weights) != set(keys):
            raise UsageError(
                f"weights: expected the modalities of features {keys}, got {list(weights)}"
            )
        weights = [weights[k] for k in keys]
    w = evidential.numbers(weights, "weights")
    if w.shape != (len(keys),):
        raise ShapeError(f"weights: expected shape ({len(keys)},), got {w.shape}")
    if not (np.isfinite(w).all() and (w >= 0).all() and 0 < w.sum() < np.inf):
        raise UsageError(
            f"weights: expected finite numbers >= 0 with a positive sum, got {w.tolist()}; "
            "give at least one modality a positive weight"
        )
    return w


def _one_dtype(parts: list[arrays.Float]) -> tuple[arrays.Float, ...]:
    dtype = np.result_type(*parts)
    return tuple(np.asarray(p, dtype=dtype) for p in parts)


def _without(part: Any, absent: NDArray[np.bool_]) -> Any:
    """Return a copy with zeros in the absent rows, whose values have no meaning."""
    if isinstance(part, np.ndarray):
        return np.where(absent[:, None], part.dtype.type(0), part)
    import torch

    return part.masked_fill(torch.from_numpy(absent).to(part.device)[:, None], 0)


def _cast(part: arrays.Float, other: arrays.Float, name: str) -> NDArray[Any]:
    return arrays.cast(part, other.dtype, name)


HOST = Reader(distances.as_rows, _one_dtype, _cast, arrays.like)
"""Reads arrays in host memory as NumPy arrays."""


def reader_of(backend: str) -> Reader:
    """Return how a backend reads arrays."""
    if backend not in dispatch.ACCELERATED:
        return HOST
    from rlmba.kernels.common.modality_columns import READER

    return READER


def _row_count(names: Sequence[str], parts: Sequence[Any]) -> int:
    count = int(parts[0].shape[0])
    for name, part in zip(names, parts, strict=True):
        if part.shape[0] != count:
            raise ShapeError(
                f"{name}: expected {count} rows as in {names[0]}, got shape {tuple(part.shape)}"
            )
    return count


def _presence(present: Any, rows: int, m: int, name: str) -> NDArray[np.bool_]:
    return evidential.presence_mask(arrays.to_host(present, name), rows, m, name)


def gather(
    features: Features, weights: Any = None, present: Any = None, reader: Reader = HOST
) -> ModalityRows:
    """Check features and their weights and return them; modalities of weight 0 are left out.

    Raises
    ------
    ShapeError
        If an array is not a matrix of real numbers with at least one column, or numbers of rows or
        modalities differ.
    UsageError
        If there is no modality, or a weight is invalid.
    """
    first = first_array(features)
    named = list(_named(features, "features"))
    w = _weights(weights, [key for _, key, _ in named])
    chosen = tuple(np.flatnonzero(w).tolist())
    parts = []
    for name, _, array in named:
        distances.require_same_device(array, name, first, named[0][0])
        parts.append(reader.rows(array, name))
    count = _row_count([name for name, _, _ in named], parts)
    mask = None if present is None else _presence(present, count, len(named), "present")
    return ModalityRows(
        tuple(named[m][0] for m in chosen),
        reader.one_dtype([parts[m] for m in chosen]),
        w[list(chosen)],
        None if mask is None else np.ascontiguousarray(mask[:, list(chosen)]),
        chosen,
    )


def labeled_rows(
    labeled: Any, features: Features, rows: ModalityRows, present: Any, reader: Reader = HOST
) -> ModalityRows:
    """Check labeled rows, which have the modalities of ``features``, and return them.

    Raises
    ------
    ShapeError
        If they have another width or other modalities.
    """
    if labeled is None:
        return replace(rows, parts=tuple(p[:0] for p in rows.parts), present=None)
    if isinstance(labeled, Mapping) != isinstance(features, Mapping) or (
        isinstance(labeled, Mapping)
        and isinstance(features, Mapping)
        and set(labeled) != set(features)
    ):
        raise ShapeError(
            f"labeled: expected {_kind(features)} as for features, got {_kind(labeled)}"
        )
    first = first_array(features)
    keys = list(features) if isinstance(features, Mapping) else [None]
    given = {key: (name, part) for name, key, part in _named(labeled, "labeled")}
    names, parts = [], []
    for place, m in enumerate(rows.chosen):
        name, array = given[keys[m]]
        distances.require_same_device(array, name, first, "features")
        part = reader.rows(array, name)
        width = rows.parts[place].shape[1]
        if part.shape[1] != width:
            raise ShapeError(
                f"{name}: expected {width} columns as in features, got shape {tuple(part.shape)}"
            )
        names.append(name)
        parts.append(part)
    count = _row_count(names, parts)
    mask = None
    if present is not None:
        mask = _presence(present, count, len(keys), "labeled_present")
        mask = np.ascontiguousarray(mask[:, list(rows.chosen)])
    for m, (name, part, like) in enumerate(zip(names, parts, rows.parts, strict=True)):
        kept = part if mask is None or part.dtype == like.dtype else _without(part, ~mask[:, m])
        parts[m] = reader.cast(kept, like, name)
    return replace(rows, names=tuple(names), parts=tuple(parts), present=mask)


def _kind(features: Features) -> str:
    if isinstance(features, Mapping):
        return f"a mapping of the modalities {list(features)}"
    return "one array"
