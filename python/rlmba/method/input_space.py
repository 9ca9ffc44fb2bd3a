"""The space of the encoders' input: standardized, of at most 128 components per modality, unit rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from rlmba.errors import NonFiniteError, ShapeError
from rlmba.kernels.common.arrays import to_host

__all__ = ["COMPONENTS", "InputSpace", "unit_rows"]

COMPONENTS = 128
"""Number of columns above which a modality is reduced by PCA, and of the components that are kept."""

_BLOCK_VALUES = 2**22
_EXACT = 2048
"""Number of rows or columns up to which components come from an exact eigendecomposition."""
_EXTRA = 32
"""Vectors of the subspace iteration in addition to the components, for its convergence."""
_PASSES = 6
"""Steps of the subspace iteration."""


def unit_rows(x: NDArray[Any]) -> NDArray[Any]:
    """Rows [N, D] of finite numbers scaled to Euclidean length 1; rows of zeros remain zero."""
    # Squares of very large or very small numbers would overflow or vanish.
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0)
    scaled = x / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(scaled / np.where(length > 0, length, 1), dtype=x.dtype)


@dataclass(frozen=True, eq=False)
class _Modality:
    """Row x becomes ((x / top - mean) * scale) @ components, and then a unit row."""

    top: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    components: NDArray[np.float64] | None = None

    @property
    def width(self) -> int:
        return len(self.mean) if self.components is None else self.components.shape[1]

    def standardized(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        z = rows.astype(np.float64)
        z /= self.top
        z -= self.mean
        z *= self.scale
        return z

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        z = self.standardized(rows)
        if self.components is not None:
            z = z @ self.components
        return unit_rows(z)


@dataclass(frozen=True, eq=False)
class InputSpace:
    """The map from arrays of each modality to features in which samples are compared.

    Each column is standardized by its mean and standard deviation over the fitted rows (a constant
    column becomes 0). A modality of more than 128 columns is then reduced to its first 128 principal
    components, and every row is scaled to length 1; a row of zeros stays zero. Rows that lack a modality
    are not used for its statistics, and become zeros.

    Make one by :meth:`fit`.

    Notes
    -----
    Arrays are read in blocks of rows, in float64; they may be memory-mapped. Principal components are
    exact if the fitted rows or the columns number at most 2,048, and otherwise come from six subspace
    iterations with 32 additional vectors from a fixed seed. Fewer than 128 components are kept where the
    rows span fewer dimensions. The sign of a component makes its largest entry positive.
    """

    modalities: Mapping[str, _Modality]

    @classmethod
    def fit(
        cls,
        inputs: Mapping[str, Any],
        *,
        rows: NDArray[np.int64] | None = None,
        present: NDArray[np.bool_] | None = None,
        components: int = COMPONENTS,
    ) -> InputSpace:
        """Compute the statistics and principal components of each modality.

        Parameters
        ----------
        inputs : mapping of modality to array [N, d_m]
            Real numbers, finite in the rows that have the modality.
        rows : int64 array, optional
            The rows to fit on, such as the training samples; default: all.
        present : bool array [N, M], optional
            Which modalities each sample has; default: all.
        components : int
            Components to keep at most, >= 1.

        Raises
        ------
        ShapeError
            If an array is not a matrix with a column, or numbers of rows differ.
        NonFiniteError
            If a value of a present row that is fitted on is NaN or infinite.
        """
        arrays = _checked(inputs, present)
        chosen = np.arange(len(next(iter(arrays.values())))) if rows is None else np.asarray(rows)
        fitted = {}
        for column, (m, a) in enumerate(arrays.items()):
            having = chosen if present is None else chosen[present[chosen, column]]
            fitted[m] = _fit(m, a, having, components)
        return cls(fitted)

    def prepare(
        self, inputs: Mapping[str, Any], *, present: NDArray[np.bool_] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Map rows into the space.

        Parameters
        ----------
        inputs : mapping of modality to array [N, d_m]
            The modalities and widths that the space was fitted on.
        present : bool array [N, M], optional
            Which modalities each sample has; rows of the others may contain anything.

        Returns
        -------
        dict of modality to float32 array [N, k_m]
            Rows of length 1, or zeros.

        Raises
        ------
        ShapeError
            If modalities or shapes differ.
        NonFiniteError
            If a value of a present row is NaN or infinite.
        """
        arrays = _checked(inputs, present)
        widths = {m: len(f.mean) for m, f in self.modalities.items()}
        if (got := {m: a.shape[1] for m, a in arrays.items()}) != widths:
            raise ShapeError(
                f"input_features: expected the modalities and widths {widths}, got {got}"
            )
        prepared = {}
        for column, (m, a) in enumerate(arrays.items()):
            there = np.arange(len(a))
            if present is not None:
                there = np.flatnonzero(present[:, column])
            out = np.zeros((len(a), self.modalities[m].width), np.float32)
            for at, block in _blocks(m, a, there):
                out[at] = self.modalities[m](block)
            prepared[m] = out
        return prepared


def _checked(
    inputs: Mapping[str, Any], present: NDArray[np.bool_] | None
) -> dict[str, NDArray[Any]]:
    arrays = {m: to_host(a) for m, a in inputs.items()}
    if not arrays:
        raise ShapeError("input_features: expected an array for each modality, got none")
    n = len(next(iter(arrays.values())))
    for m, a in arrays.items():
        if a.ndim != 2 or len(a) != n or a.shape[1] == 0 or a.dtype.kind not in "fiub":
            raise ShapeError(
                f"input_features[{m!r}]: expected real numbers [{n}, d] with at least one column, got dtype "
                f"{a.dtype} and shape {a.shape}"
            )
    if present is not None and present.shape != (n, len(arrays)):
        raise ShapeError(f"present: expected shape {(n, len(arrays))}, got {present.shape}")
    return arrays


def _blocks(
    name: str, a: NDArray[Any], rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Blocks of row positions and the rows, which are finite."""
    step = max(1, _BLOCK_VALUES // a.shape[1])
    for start in range(0, len(rows), step):
        at = rows[start : start + step]
        block = a[at]
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = int(at[int(np.argmin(finite))])
            raise NonFiniteError(
                f"input_features[{name!r}]: expected finite numbers, row {row} contains NaN or infinity; "
                "repair that sample, or mark its modality as absent",
                row,
            )
        yield at, block


def _fit(name: str, a: NDArray[Any], rows: NDArray[np.int64], components: int) -> _Modality:
    d = a.shape[1]
    low, high = np.full(d, np.inf), np.full(d, -np.inf)
    for _, block in _blocks(name, a, rows):
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    if not len(rows):
        return _Modality(np.ones(d), np.zeros(d), np.zeros(d), np.zeros((d, 1)))
    # Numbers within [-1, 1], so that neither sums nor squares overflow.
    top = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    top[top == 0] = 1
    mean, square = np.zeros(d), np.zeros(d)
    for _, block in _blocks(name, a, rows):
        mean += (block / top).sum(axis=0)
    mean /= len(rows)
    for _, block in _blocks(name, a, rows):
        square += ((block / top - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(square / len(rows))
    scale = np.where((high > low) & (deviation > 0), 1 / np.where(deviation > 0, deviation, 1), 0)
    plain = _Modality(top, mean, scale)
    if d <= components:
        return plain
    return _Modality(top, mean, scale, _principal(plain, name, a, rows, components))


def _principal(
    plain: _Modality, name: str, a: NDArray[Any], rows: NDArray[np.int64], components: int
) -> NDArray[np.float64]:
    """Principal components [d, k] of the standardized rows, largest first; k <= ``components``."""
    n, d = len(rows), a.shape[1]
    if n <= min(d, _EXACT):
        z = np.concatenate([plain.standardized(b) for _, b in _blocks(name, a, rows)])
        values, left = scipy.linalg.eigh(z @ z.T)
        vectors = z.T @ left
    elif d <= _EXACT:
        covariance = np.zeros((d, d))
        for _, block in _blocks(name, a, rows):
            z = plain.standardized(block)
            covariance += z.T @ z
        values, vectors = scipy.linalg.eigh(covariance)
    else:
        values, vectors = _subspace(plain, name, a, rows, components + _EXTRA)
    values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
    kept = values > values[0] * np.finfo(np.float64).eps * max(n, d)
    if not kept.any():
        return np.zeros((d, 1))
    vectors = vectors[:, kept]
    vectors = vectors / np.linalg.norm(vectors, axis=0)
    largest = np.abs(vectors).argmax(axis=0)
    return np.ascontiguousarray(vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])]))


def _subspace(
    plain: _Modality, name: str, a: NDArray[Any], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The k largest eigenvalues and eigenvectors of the covariance, ascending, by subspace iteration."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((a.shape[1], k)))[0]
    for _ in range(_PASSES):
        image = np.zeros_like(basis)
        for _, block in _blocks(name, a, rows):
            z = plain.standardized(block)
            image += z.T @ (z @ basis)
        values, small = scipy.linalg.eigh(basis.T @ image)
        last, basis = basis @ small, np.linalg.qr(image)[0]
    return values, last
