"""Naive NumPy implementation of :func:`rlmba.kernels.bald_score`: float64, all passes at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.bald_score import checks
from rlmba.kernels.common import arrays


def bald_score(passes: arrays.Float, kind: str) -> NDArray[np.float64]:
    """Mean over the passes of KL(p_k || mean p), [N]."""
    checks.require_valid(passes, kind)
    p = passes.astype(np.float64)
    if kind == "logits":
        p = np.exp(p - p.max(axis=2, keepdims=True))
    p /= p.sum(axis=2, keepdims=True)
    q = p[0] + (p - p[0]).sum(axis=0) / len(p)
    # KL is computed as sum_c q phi(p / q - 1), phi(e) = (1 + e) log(1 + e) - e >= 0, without the
    # first-order terms, which sum to zero.
    e = (p - q) / np.where(q > 0, q, 1.0)
    u = np.maximum(1.0 + e, np.finfo(np.float64).tiny)
    log = np.where(u < 0.5, np.log(u), np.log1p(np.maximum(e, -0.5)))
    phi = np.maximum(u * log - e, 0.0)
    return np.asarray((q * phi).sum(axis=2).mean(axis=0))
