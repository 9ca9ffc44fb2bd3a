"""Naive NumPy implementation of :func:`rlmba.kernels.dirichlet_variance`: float64, one array at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays
from rlmba.kernels.common.evidential import Modalities, evidence


def mean_variance(alpha: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eq 4, mean over the last axis: sum_c Var[p_c] = 2 sum_{b<c} p_b p_c / (alpha_0 + 1)."""
    largest = alpha.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        a = alpha / largest
        before = np.cumsum(a, axis=1)[:, :-1]
        total = a.sum(axis=1)
        pairs = 2 * (a[:, 1:] * before).sum(axis=1) / total**2
        result = pairs / (total * largest[:, 0] + 1) / alpha.shape[1]
    return np.where(np.isinf(largest[:, 0]), 0.0, result)


def dirichlet_variance(inputs: Modalities) -> tuple[arrays.Float, arrays.Float | None]:
    """Variances [N, M] of each modality and, if there are weights, [N] of the fused alpha."""
    inputs.require_valid()
    modality = np.zeros((inputs.rows, len(inputs.arrays)))
    fused = np.zeros(inputs.arrays[0].shape)
    is_alpha = inputs.evidence == "alpha"
    for k, whole in enumerate(inputs.arrays):
        here = slice(None) if inputs.present is None else inputs.present[:, k]
        x = whole[here]
        # Fusing alpha instead of alpha - 1 preserves the digits of a small alpha.
        e = (
            x.astype(np.float64)
            if is_alpha
            else evidence(x, inputs.evidence, inputs.temperatures[k])
        )
        modality[here, k] = mean_variance(e if is_alpha else 1 + e)
        if inputs.weights is not None:
            w = np.broadcast_to(inputs.weights, modality.shape)[here, k, None]
            fused[here] += np.multiply(w, e, where=w > 0, out=np.zeros_like(e))
    if inputs.weights is None:
        return modality.astype(inputs.dtype), None
    return modality.astype(inputs.dtype), mean_variance(fused + (not is_alpha)).astype(inputs.dtype)
