"""Fusion ``adaptive``: convex weights that fit the trained fused head best on the validation set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from rlmba.errors import ShapeError

__all__ = ["adaptive_fusion_weights"]

_Float = NDArray[np.float64]


def adaptive_fusion_weights(
    features: Sequence[NDArray[Any]],
    labels: NDArray[np.int64],
    weight: NDArray[Any],
    bias: NDArray[Any],
    *,
    penalty: float = 1.0,
    present: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Minimize NLL_V(sum_m w_m f_m through the fused head) + penalty ||w - 1/M||^2 over w.

    Parameters
    ----------
    features : M float arrays [V, d]
        f_m of the validation samples.
    labels : int64 array [V]
        Their classes.
    weight, bias : float arrays [C, d] and [C]
        The fused head.
    penalty : float
        lambda >= 0, the strength of the penalty for weights that are not uniform. The NLL is a mean
        over samples, in nats.
    present : bool array [V, M] or None
        Weights of missing modalities are 0 for that sample, and the others are renormalized.

    Returns
    -------
    float64 array [M]
        w; uniform if V is empty. It is found by L-BFGS with the analytic gradient over the logits
        of w (softmax), starting from uniform weights. Nothing is random, so equal input gives equal
        output.

    Raises
    ------
    ShapeError
        If the shapes do not agree.
    """
    head = np.asarray(weight, dtype=np.float64)
    y = np.asarray(labels)
    m, n = len(features), len(y)
    shapes = [f.shape for f in features]
    if m == 0 or head.ndim != 2 or any(s != (n, head.shape[1]) for s in shapes):
        raise ShapeError(
            f"adaptive_fusion_weights: expected features [{n}, {head.shape[-1]}] for these labels "
            f"and head, got {shapes} with a head of shape {head.shape}; it needs convex fusion"
        )
    if m == 1 or n == 0:
        return np.full(m, 1.0 / m)
    # The head is linear, so the logits of a mixture are the mixture of the parts' logits.
    parts = np.stack([np.asarray(f, dtype=np.float64) @ head.T for f in features])
    offset = np.asarray(bias, dtype=np.float64)
    there = np.ones((n, m)) if present is None else np.asarray(present, dtype=np.float64)

    def objective(theta: _Float) -> tuple[float, _Float]:
        return _objective(theta, parts, offset, y, there=there, penalty=penalty)

    from scipy.optimize import minimize  # takes long to import

    result = minimize(objective, np.zeros(m), jac=True, method="L-BFGS-B")
    return np.asarray(softmax(result.x), dtype=np.float64)


def _objective(
    theta: _Float,
    parts: _Float,
    bias: _Float,
    y: NDArray[np.int64],
    *,
    there: _Float,
    penalty: float,
) -> tuple[float, _Float]:
    """Value and gradient in theta, w = softmax(theta); ``parts`` [M, V, C], ``there`` [V, M]."""
    m, n, _ = parts.shape
    w = softmax(theta)
    total = np.maximum((there * w).sum(axis=1, keepdims=True), 1e-300)
    mixed = there * w / total
    log_p = log_softmax(np.einsum("vm,mvc->vc", mixed, parts) + bias, axis=1)
    rows = np.arange(n)
    deviation = w - 1.0 / m
    value = float(-log_p[rows, y].mean() + penalty * deviation @ deviation)
    residual = np.exp(log_p)
    residual[rows, y] -= 1.0
    by_part = np.einsum("vc,mvc->vm", residual, parts)
    centred = by_part - (mixed * by_part).sum(axis=1, keepdims=True)
    in_w = (there / total * centred).mean(axis=0) + 2.0 * penalty * deviation
    return value, w * (in_w - w @ in_w)
