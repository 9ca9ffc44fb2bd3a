"""Ordered sampling without replacement from a softmax, and its log-probability."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, ShapeError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, random
from rlmba.kernels.plackett_luce import reference

__all__ = ["PlackettLuce", "PlackettLuceLogProb", "plackett_luce", "plackett_luce_log_prob"]


class PlackettLuce(NamedTuple):
    """A draw: ``indices`` int64 [n] in drawn order, with its ``log_prob`` and ``gradient``.

    ``log_prob`` is a float, in nats; ``gradient`` float64 [K] is its derivative by the logits.
    During CUDA graph capture, ``log_prob`` is a zero-dimensional tensor, and nothing is checked.
    """

    indices: Any
    log_prob: float
    gradient: Any


class PlackettLuceLogProb(NamedTuple):
    """``log_prob`` (float, in nats) of an ordered set, and its ``gradient`` float64 [K]."""

    log_prob: float
    gradient: Any


def _draw_cpu(logits: NDArray[np.float64], n: int, seed: int) -> NDArray[np.int64]:
    indices = np.empty(n, dtype=np.int64)
    dispatch.require_core().plackett_luce_draw(logits, seed, indices)
    return indices


def _log_prob_cpu(
    logits: NDArray[np.float64], indices: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    gradient = np.empty(logits.shape[0])
    value = dispatch.require_core().plackett_luce_log_prob(logits, indices, gradient)
    return float(value), gradient


_BACKENDS = ("triton", "cpu", "reference")
_LOG_PROB = {"cpu": _log_prob_cpu, "reference": reference.log_prob}


def _logits(logits: arrays.ArrayLike) -> NDArray[np.float64]:
    z = arrays.as_float(logits, "logits", ndim=1)
    arrays.require_finite(z, "logits")
    return np.ascontiguousarray(z, dtype=np.float64)


def plackett_luce(
    logits: arrays.ArrayLike, n: int, *, rng: random.Rng, backend: str = "auto"
) -> PlackettLuce:
    """Draw ``n`` of K in order, each by the softmax over those that remain (Eq 10-12).

    Parameters
    ----------
    logits : array [K]
        Finite real numbers, converted to float64. Adding a constant to all of them has no effect.
    n : int
        Number of draws, 0 <= n <= K.
    rng : int, numpy.random.Generator, torch.Generator or None
        A seed, or a generator that is advanced by one draw to give the seed; None takes fresh
        entropy.
    backend : {"auto", "cpu", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    PlackettLuce
        ``indices``, distinct positions into ``logits`` in drawn order; ``log_prob`` of exactly this
        order (0 for n = 0); its ``gradient``, which sums to 0.

    Raises
    ------
    UsageError
        If n is not within 0..K, or ``rng`` has another type.
    NonFiniteError
        If a logit is NaN or infinite; ``.row`` is the first such position.

    Notes
    -----
    The draw consists of the n largest values of logits + Gumbel noise. Noise i comes from the i-th
    uniform number of a counter-based stream. A seed gives the same draw on every backend and thread
    count, except where two noisy logits agree to the last digit or two of float64 and the
    logarithms of C and NumPy are rounded differently. O(K + n log n) time; the log-probability
    takes one reversed log-cumulative-sum-exp.

    Examples
    --------
    >>> import numpy as np
    >>> draw = plackett_luce(np.array([0.0, 50.0, 100.0]), 2, rng=0)
    >>> draw.indices
    array([2, 1])
    """
    name = dispatch.choose("plackett_luce", backend, arrays.device_of(logits), _BACKENDS)
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.plackett_luce import on_device

        return PlackettLuce(*on_device.plackett_luce(logits, n, rng))
    z = _logits(logits)
    n = arrays.as_count(n, "n", low=0, high=z.shape[0])
    draw = _draw_cpu if name == "cpu" else reference.draw
    indices = draw(z, n, random.seed_from(rng))
    value, gradient = _LOG_PROB[name](z, indices)
    return PlackettLuce(arrays.like(indices, logits), value, arrays.like(gradient, logits))


def plackett_luce_log_prob(
    logits: arrays.ArrayLike, indices: Any, *, backend: str = "auto"
) -> PlackettLuceLogProb:
    """Log-probability that :func:`plackett_luce` draws exactly ``indices``, in this order (Eq 12).

    Parameters
    ----------
    logits : array [K]
        Finite real numbers, converted to float64.
    indices : integer array [n] or sequence of ints
        Distinct positions into ``logits``.
    backend : {"auto", "cpu", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    PlackettLuceLogProb
        sum_j (z_j - log sum_{i not drawn before j} exp z_i) and its gradient in closed form, both
        in float64 and O(K) time.

    Raises
    ------
    ShapeError
        If ``indices`` is not a one-dimensional array of integers.
    DataError
        If an index repeats or is out of range.
    NonFiniteError
        If a logit is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> round(plackett_luce_log_prob(np.zeros(3), [2, 0]).log_prob, 6)  # -log(3 * 2)
    -1.791759
    """
    name = dispatch.choose("plackett_luce_log_prob", backend, arrays.device_of(logits), _BACKENDS)
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.plackett_luce import on_device

        return PlackettLuceLogProb(*on_device.log_prob(logits, indices))
    z = _logits(logits)
    value, gradient = _LOG_PROB[name](z, _indices(indices, z.shape[0]))
    return PlackettLuceLogProb(value, arrays.like(gradient, logits))


def _indices(indices: Any, size: int) -> NDArray[np.int64]:
    if arrays.is_array(indices):
        i = arrays.to_numpy(indices, "indices")
    else:
        i = np.asarray(indices, dtype=None if len(indices) else np.int64)
    if i.ndim != 1 or i.dtype.kind not in "iu":
        raise ShapeError(f"indices: expected integers [n], got {i.dtype} {i.shape}")
    outside = (i < 0) | (i >= size)
    if outside.any():
        j = int(np.argmax(outside))
        raise DataError(f"indices[{j}] is {i[j]}: expected 0 to {size - 1}, positions into logits")
    values, counts = np.unique(i, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"indices: expected distinct positions, {values[counts > 1][0]} repeats")
    return np.ascontiguousarray(i, dtype=np.int64)
