"""Triton implementation of :func:`rlmba.kernels.deepfool_distance`."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.triton_device import largest_of_rows, programs

_ROWS = 16
_COLUMNS = tl.constexpr(128)


@triton.jit
def _nearest(
    f, norms, distances, nearest, bad, rows, classes, stride, first_row, ROWS: tl.constexpr
):
    """The class of a row, then the least (f_y - f_k) / |w_k - w_y|, the lowest class on ties."""
    for begin in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = begin + tl.arange(0, ROWS).to(tl.int64)
        there = row < rows
        most, label = largest_of_rows(
            f, bad, row, there, classes, stride, first_row, ROWS, _COLUMNS
        )
        least = tl.full((ROWS,), float("inf"), tl.float64)
        found = tl.full((ROWS,), -1, tl.int32)
        for start in range(0, classes, _COLUMNS):
            c = start + tl.arange(0, _COLUMNS)
            inside = there[:, None] & (c < classes)[None, :] & (c[None, :] != label[:, None])
            v = tl.load(f + row[:, None] * stride + c[None, :], inside, other=0).to(tl.float64)
            at = label.to(tl.int64)[:, None] * classes + c[None, :]
            norm = tl.load(norms + at, inside, other=1)
            gap = most[:, None] - v
            reachable = norm > 0
            d = tl.where(reachable, gap / tl.where(reachable, norm, 1.0), float("inf"))
            d = tl.where(gap == 0, 0.0, d)
            d = tl.where(inside, d, float("inf"))
            here = tl.min(d, axis=1)
            at = tl.min(tl.where(d == here[:, None], c[None, :], classes), axis=1)
            found = tl.where(here < least, at, found)
            least = tl.minimum(least, here)
        tl.store(distances + row, least, there)
        tl.store(nearest + row, found.to(tl.int64), there)


def deepfool_distance(
    f: Tensor, norms: Tensor, begin: int, distances: Tensor, nearest: Tensor, bad: Tensor
) -> None:
    """Distances and classes [N] of logits f [N, C], whose rows begin at row ``begin``."""
    n, c = f.shape
    grid = (max(1, min(triton.cdiv(n, _ROWS), programs(f.device))),)
    _nearest[grid](
        f, norms, distances, nearest, bad, n, c, f.stride(0), begin, ROWS=_ROWS, num_warps=4
    )
