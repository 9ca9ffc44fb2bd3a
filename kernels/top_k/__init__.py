"""Positions of the k largest values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays
from rlmba.kernels.top_k import reference

__all__ = ["TopK", "top_k"]


class TopK(NamedTuple):
    """The k largest values, largest first: ``values`` [k] and ``indices`` int64 [k]."""

    values: Any
    indices: Any


def _cpu(values: arrays.Float, k: int) -> NDArray[np.int64]:
    indices = np.empty(k, dtype=np.int64)
    bad = dispatch.require_core().top_k(np.ascontiguousarray(values), indices)
    if bad >= 0:
        raise arrays.non_finite(values, "values", bad)
    return indices


def top_k(values: arrays.ArrayLike, k: int, *, backend: str = "auto") -> TopK:
    """Positions of the ``k`` largest values (Eq 7), largest first.

    Parameters
    ----------
    values : array [N]
        Finite real numbers.
    k : int
        Number of values, 0 <= k <= N.
    backend : {"auto", "cpu", "cuda", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    TopK
        ``values`` [k], in the computation dtype, and ``indices`` int64 [k], positions into
        ``values``. Equal values are ordered by position, the lower first; a tie at the k-th place
        is decided the same way. The result is the same on every backend and thread count.

    Raises
    ------
    UsageError
        If k is not within 0..N.
    NonFiniteError
        If a value is NaN or infinite; ``.row`` is the first such position.

    Notes
    -----
    On a CPU, one pass over the values: O(N + k log k) time for values in random order, and O(k)
    memory per thread. On a GPU, a radix select with N to 2 N bytes plus O(k) of scratch memory;
    values in host memory are copied there as a whole.

    Examples
    --------
    >>> import numpy as np
    >>> top_k(np.array([0.3, 0.9, 0.9, 0.1]), 3).indices
    array([1, 2, 0])
    """
    name = dispatch.choose(
        "top_k", backend, arrays.device_of(values), ("cuda", "triton", "cpu", "reference")
    )
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.top_k import on_device

        return TopK(*on_device.top_k(values, k, name))
    v = arrays.as_float(values, "values", ndim=1)
    k = arrays.as_count(k, "k", low=0, high=v.shape[0])
    indices = (_cpu if name == "cpu" else reference.top_k)(v, k)
    return TopK(arrays.like(v[indices], values), arrays.like(indices, values))
