"""Mutual information between the class and the stochastic pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.bald_score import checks, reference
from rlmba.kernels.common import arrays

__all__ = ["bald_score"]


def _cpu(passes: arrays.Float, kind: str) -> NDArray[np.float64]:
    scores = np.empty(passes.shape[1])
    bad = dispatch.require_core().bald_score(passes, kind == "logits", scores)
    if bad >= 0:
        raise checks.invalid_row(passes, bad)
    return scores


def bald_score(
    logits: arrays.ArrayLike,
    *,
    kind: str = "logits",
    max_memory: int | None = None,
    backend: str = "auto",
) -> Any:
    """Mutual information H(mean_k p_k) - mean_k H(p_k) of N samples, in nats (BALD).

    Parameters
    ----------
    logits : array [K, N, C]
        Logits of every sample in each of K >= 1 stochastic passes; C >= 1. Passes and samples may
        be strided and are read in place. An array whose classes are not contiguous is copied once.
        For the layout [N, C, K] pass ``numpy.moveaxis(x, -1, 0)`` (copied); for [N, K, C] pass
        ``numpy.moveaxis(x, 1, 0)`` (not copied).
    kind : {"logits", "probabilities"}
        What ``logits`` holds. Probabilities must be >= 0, and each pass of a sample must sum to 1
        within 1e-3; they are divided by their sum.
    max_memory : int, optional
        Bytes of GPU memory for copies of samples stored in host memory. The result does not depend
        on it. It has no effect on the CPU.
    backend : {"auto", "cpu", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    float64 array [N]
        In [0, log(min(K, C))]; exactly 0 for K = 1, for C = 1 and where all passes are equal.

    Raises
    ------
    ShapeError, UsageError
        If the array is not [K, N, C] of real numbers or ``kind`` is unknown.
    NonFiniteError
        If a number is NaN or infinite; the message names the sample and the pass, and ``.row`` is
        the first such sample.
    DataError
        If a probability is negative or a pass does not sum to 1; the message names the sample and
        the pass.

    Notes
    -----
    The score is computed in float64 as mean_k sum_c q_c phi(p_kc / q_c - 1), with q = mean_k p_k
    and phi(e) = (1 + e) log(1 + e) - e >= 0. This equals mean_k KL(p_k || q) and avoids the
    difference of two entropies, which float32 rounds to zero where the passes nearly agree. The
    error is about 1e-16 times the square root of the score.

    O(K N C) time; 8 K C bytes of memory per thread in addition to the result.

    References
    ----------
    Houlsby, Huszar, Ghahramani and Lengyel, "Bayesian active learning for classification and preference
    learning", 2011.

    Examples
    --------
    >>> import numpy as np
    >>> agree, differ = [0.9, 0.1], [0.1, 0.9]
    >>> bald_score(np.array([[agree, agree], [agree, differ]]), kind="probabilities").round(4)
    array([0.    , 0.3681])
    """
    if kind not in ("logits", "probabilities"):
        raise UsageError(f"kind: expected 'logits' or 'probabilities', got {kind!r}")
    name = dispatch.choose(
        "bald_score", backend, arrays.device_of(logits), ("triton", "cpu", "reference")
    )
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.bald_score import on_device

        return on_device.bald_score(logits, kind, max_memory)
    passes = arrays.as_float(logits, "logits", ndim=3)
    checks.require_passes(passes.shape)
    return arrays.like((_cpu if name == "cpu" else reference.bald_score)(passes, kind), logits)
