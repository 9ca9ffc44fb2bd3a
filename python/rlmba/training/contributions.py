"""Contribution of each modality to the fused head's prediction: Shapley values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import ShapeError
from rlmba.kernels.shapley_contributions.parts import logit_parts
from rlmba.types import PoolOutputs

__all__ = ["shapley_contributions"]


def shapley_contributions(
    outputs: PoolOutputs,
    labels: NDArray[np.int64],
    weight: NDArray[Any],
    bias: NDArray[Any],
    fusion_weights: Mapping[str, float] | NDArray[Any],
    *,
    rng: np.random.Generator | None = None,
) -> dict[str, float]:
    """Share of each modality: its mean absolute Shapley value for p_y, normalized to sum 1.

    In a coalition's fused feature, the parts of other modalities are zero and the weights are
    unchanged.

    Parameters
    ----------
    outputs : PoolOutputs
        Outputs for N samples.
    labels : int64 array [N]
        Their classes.
    weight, bias : float arrays [C, D] and [C]
        The fused head; D = d for convex fusion, M d for concatenation.
    fusion_weights : float array [M] or mapping of modality to float
        w of convex fusion; unused for concatenation.
    rng : numpy.random.Generator or None
        Required for M > 8.

    Returns
    -------
    dict of modality to float
        Uniform if every value is zero or there is no sample.

    Raises
    ------
    ShapeError
        If the widths of head and features do not match.
    """
    names = outputs.modalities
    if isinstance(fusion_weights, Mapping):
        w = np.array([fusion_weights[m] for m in names], dtype=np.float64)
    else:
        w = np.asarray(fusion_weights, dtype=np.float64)
    y = np.asarray(labels)
    if y.shape != (len(outputs),) or w.shape != (len(names),):
        raise ShapeError(
            f"shapley_contributions: expected {len(outputs)} labels and {len(names)} weights, "
            f"got {y.shape} and {w.shape}"
        )
    parts = logit_parts(list(outputs.features.values()), weight, w, outputs.present)
    values = np.abs(kernels.shapley_contributions(parts, y, bias=bias, rng=rng))
    total = values.mean(axis=0) if len(values) else np.zeros(len(names))
    even = np.full(len(names), 1.0 / len(names))
    shares = total / total.sum() if total.sum() > 0 else even
    return {m: float(s) for m, s in zip(names, shares, strict=True)}
