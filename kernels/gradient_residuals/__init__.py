"""Softmax minus the one-hot vector of the most likely class."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances
from rlmba.kernels.gradient_residuals import reference

__all__ = ["gradient_residuals"]


def _cpu(logits: arrays.Float) -> arrays.Float:
    out = np.empty(logits.shape, dtype=logits.dtype)
    bad = dispatch.require_core().gradient_residuals(logits, out)
    if bad >= 0:
        raise arrays.non_finite(logits, "logits", bad)
    return out


def gradient_residuals(
    logits: arrays.ArrayLike, *, max_memory: int | None = None, backend: str = "auto"
) -> Any:
    """Gradient of the cross-entropy by the logits, with the most likely class as the label.

    Parameters
    ----------
    logits : array [N, C]
        Finite real numbers, C >= 1.
    max_memory : int, optional
        Bytes of GPU memory for copies of rows stored in host memory. The result does not depend on
        it. It has no effect on the CPU.
    backend : {"auto", "cpu", "triton", "reference"}
        See :mod:`rlmba.kernels`.

    Returns
    -------
    array [N, C]
        softmax(logits) - onehot(argmax logits) in the computation dtype; ties go to the lowest
        class. The label's entry is computed as minus the sum of the others, so that it stays
        precise where the softmax is close to 1. Zero for C = 1.

    Raises
    ------
    ShapeError
        If ``logits`` is not a matrix of real numbers with at least one column.
    NonFiniteError
        If a value is NaN or infinite; ``.row`` is the first such row.

    Notes
    -----
    The arithmetic is float64 and the result is rounded once. For features z_i, the gradient with
    respect to the weight of a linear head is residual_i (x) z_i; see
    :func:`rlmba.kernels.gradient_kmeans_plusplus`.

    Examples
    --------
    >>> import numpy as np
    >>> gradient_residuals(np.log(np.array([[0.25, 0.5, 0.25]])))
    array([[ 0.25, -0.5 ,  0.25]])
    """
    name = dispatch.choose(
        "gradient_residuals",
        backend,
        arrays.device_of(logits),
        ("triton", "cpu", "reference"),
    )
    if name in dispatch.ACCELERATED:
        from rlmba.kernels.gradient_residuals import on_device

        return on_device.gradient_residuals(logits, max_memory)
    x = distances.as_rows(logits, "logits")
    return arrays.like((_cpu if name == "cpu" else reference.gradient_residuals)(x), logits)
