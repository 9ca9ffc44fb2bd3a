"""Naive NumPy implementation of :func:`rlmba.kernels.gradient_residuals`."""

from __future__ import annotations

import numpy as np

from rlmba.kernels.common import arrays


def gradient_residuals(logits: arrays.Float) -> arrays.Float:
    """Softmax minus one-hot in float64, rounded once; the label's entry is minus the others' sum."""
    arrays.require_finite(logits, "logits")
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    x = logits.astype(np.float64)
    e = np.exp(x - x[rows, top][:, None])
    e[rows, top] = 0
    others = e.sum(axis=1)
    e /= (1 + others)[:, None]
    e[rows, top] = -others / (1 + others)
    out: arrays.Float = e.astype(logits.dtype)
    return out
