"""Naive NumPy implementation of :func:`rlmba.kernels.graph_propagate`, with dense affinities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays
from rlmba.kernels.graph_propagate import spec

_BLOCK_VALUES = 2**24


def normalized(features: arrays.Float) -> NDArray[np.float64]:
    """Rows of unit length in float64; rows of zeros stay zero."""
    x = features.astype(np.float64)
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0)
    x /= np.where(largest > 0, largest, 1)  # so that squares stay in range
    norms = np.sqrt((x**2).sum(axis=1, keepdims=True))
    return np.asarray(x / np.where(norms > 0, norms, 1), dtype=np.float64)


def affinities(
    x: NDArray[np.float64], shifted: bool, rows: slice = slice(None)
) -> NDArray[np.float64]:
    """Rows of the dense S of normalized features, with diagonal 0."""
    s = x[rows] @ x.T
    if shifted:
        s = (1 + s) / 2
    start = rows.start or 0
    s[np.arange(len(s)), start + np.arange(len(s))] = 0
    return s


def _blocks(n: int) -> list[slice]:
    step = max(1, _BLOCK_VALUES // max(n, 1))
    return [slice(begin, min(begin + step, n)) for begin in range(0, n, step)]


def degrees(x: NDArray[np.float64], shifted: bool) -> NDArray[np.float64]:
    """Column sums of S; sums within rounding of zero become exactly 0."""
    d = np.zeros(len(x))
    for rows in _blocks(len(x)):
        d[rows] = affinities(x, shifted, rows).sum(axis=1)
    limit = spec.ISOLATED * np.sqrt((x.sum(axis=0) ** 2).sum())
    d[np.abs(d) <= limit] = 0
    return d


def resolve(features: arrays.Float, affinity: str, d: NDArray[np.float64]) -> str:
    """The affinity that ``"auto"`` stands for, from the cosine degrees ``d``."""
    if affinity != "auto":
        return affinity
    if (features >= 0).all():
        return "cosine"
    some = (features != 0).any(axis=1)
    safe = bool((d[some] >= spec.SAFE_MEAN * (len(d) - 1)).all())
    return "cosine" if safe else "shifted"


def inverse(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / d, and 0 where d is 0."""
    return np.divide(1.0, d, out=np.zeros_like(d), where=d != 0)


def graph_propagate(
    features: arrays.Float, values: arrays.Float, affinity: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """A H in float64, the degrees, and the affinity used."""
    arrays.require_finite(features, "features")
    arrays.require_finite(values, "values")
    x = normalized(features)
    d = degrees(x, affinity == "shifted")
    used = resolve(features, affinity, d)
    if used == "shifted" and affinity == "auto":
        d = degrees(x, True)
    h = values.astype(np.float64)
    scaled = inverse(d)[:, None] * h
    out = h.copy()
    for rows in _blocks(len(x)):
        out[rows] += affinities(x, used == "shifted", rows) @ scaled
    return out, d, used
