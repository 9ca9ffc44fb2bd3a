"""Squared distances between rows of several modalities, in Triton."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["squared_distances"]


@triton.jit
def _columns(values, begin, step, count, row, inside):
    return tl.load(values + (begin + step) * count + row, inside, other=0).to(tl.float64)


@triton.jit
def squared_distances(
    x,
    x_has,
    x_count,
    i,
    y,
    y_has,
    y_count,
    j,
    ends,
    weights,
    modalities,
    PARTIAL: tl.constexpr,
    UNROLL: tl.constexpr,
    LEFT: tl.constexpr,
    RIGHT: tl.constexpr,
):
    """D [LEFT, RIGHT] of rows i of x and j of y, in float64.

    Rows are stored as in ``ModalityColumns``. D is infinite if it overflows, and -1 if the rows
    have no modality in common. Rows beyond the counts are 0.
    """
    inside_i = i < x_count
    inside_j = j < y_count
    squared = tl.zeros((LEFT, RIGHT), tl.float64)
    total = tl.zeros((LEFT, RIGHT), tl.float64)
    for m in range(modalities):
        part = tl.zeros((LEFT, RIGHT), tl.float64)
        for begin in range(tl.load(ends + m), tl.load(ends + m + 1), UNROLL):
            for step in tl.static_range(UNROLL):
                p = _columns(x, begin, step, x_count, i, inside_i)
                q = _columns(y, begin, step, y_count, j, inside_j)
                d = p[:, None] - q[None, :]
                part += d * d
        weight = tl.load(weights + m)
        if PARTIAL:
            left = tl.load(x_has + i * modalities + m, inside_i, other=0) != 0
            right = tl.load(y_has + j * modalities + m, inside_j, other=0) != 0
            both = left[:, None] & right[None, :]
            squared += tl.where(both, weight * part, 0.0)
            total += tl.where(both, weight, 0.0)
        else:
            squared += weight * part
    if PARTIAL:
        squared = tl.where(total > 0, squared / tl.where(total > 0, total, 1.0), -1.0)
    return squared
