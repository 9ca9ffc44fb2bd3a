"""Contribution of each modality to the logits of a linear head on fused features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import ShapeError
from rlmba.kernels.common.arrays import match_kind

__all__ = ["logit_parts"]


def logit_parts(
    features: Sequence[NDArray[Any]],
    weight: NDArray[Any],
    fusion_weights: NDArray[np.float64],
    present: NDArray[np.bool_] | None = None,
) -> list[NDArray[Any]]:
    """Split the fused logits, without the bias, into one part per modality.

    Parameters
    ----------
    features : sequence of M float arrays or torch tensors [N, d_m]
        f_m(x).
    weight : float array [C, D]
        The fused head. D is the sum of the widths for concatenated features, and the common width d
        for a convex combination.
    fusion_weights : float64 array [M]
        w of the convex combination; unused for a concatenation.
    present : bool array [N, M] or None
        A missing modality of a sample adds zero. In a convex combination the other weights are
        renormalized, or made equal if their sum is zero.

    Returns
    -------
    list of M float arrays, or tensors, [N, C]
        In the common dtype of features and head. Their sum plus the bias is the fused logits.

    Raises
    ------
    ShapeError
        If the widths of head and features do not match.
    """
    widths = [f.shape[1] for f in features]
    rows, m = len(features[0]), len(features)
    there = np.ones((rows, m)) if present is None else present.astype(np.float64)
    if m > 1 and weight.shape[1] == sum(widths):
        blocks = np.split(weight, np.cumsum(widths)[:-1], axis=1)
        scale = there
    elif all(width == weight.shape[1] for width in widths):
        blocks = [weight] * m
        total = (there * fusion_weights).sum(axis=1, keepdims=True)
        even = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
        scale = np.where(total > 0, there * fusion_weights / np.where(total > 0, total, 1), even)
    else:
        raise ShapeError(
            f"head: expected a weight [C, {widths[0]}] or [C, {sum(widths)}] for features of widths "
            f"{widths}, got {weight.shape}"
        )
    parts = []
    for k, f in enumerate(features):
        parts.append(_scaled_product(f, blocks[k], scale[:, k, None]))
    return parts


def _scaled_product(f: Any, block: NDArray[Any], scale: NDArray[Any]) -> Any:
    if isinstance(f, np.ndarray):
        part = f @ block.T
        part *= scale.astype(part.dtype)
        return part
    weights: Any = match_kind(np.ascontiguousarray(block), f)
    common = (f[:1, :1] + weights[:1, :1]).dtype
    return (f.to(common) @ weights.to(common).T).mul_(match_kind(scale, f))
