"""Triton form of :func:`rlmba.kernels.deepfool_distance`."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.device import ALL_VALID
from rlmba.kernels.common.triton_device import is_finite, programs

_ROWS = 16
_COLUMNS = tl.constexpr(128)
_VALID = tl.constexpr(ALL_VALID)


@triton.jit
def _nearest(
    f, norms, distances, nearest, bad, rows, classes, stride, first_row, ROWS: tl.constexpr
):
    """The class of a row, then the least (f_y - f_k) / |w_k - w_y|, the lowest class on ties."""
    for begin in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = begin + tl.arange(0, ROWS).to(tl.int64)
        there = row < rows
        most = tl.full((ROWS,), float("-inf"), tl.float64)
        label = tl.full((ROWS,), 0, tl.int32)
        broken = tl.full((ROWS,), 0, tl.int32)
        for start in range(0, classes, _COLUMNS):
            c = start + tl.arange(0, _COLUMNS)
            inside = there[:, None] & (c < classes)[None, :]
            v = tl.load(f + row[:, None] * stride + c[None, :], inside, other=0).to(tl.float64)
            good = is_finite(v)
            broken |= tl.max((inside & (good == 0)).to(tl.int32), axis=1)
            v = tl.where(inside & good, v, float("-inf"))
            here = tl.max(v, axis=1)
            at = tl.min(tl.where(v == here[:, None], c[None, :], classes), axis=1)
            label = tl.where(here > most, at, label)
            most = tl.maximum(most, here)
        first = tl.min(tl.where(broken != 0, row, _VALID))
        if first < _VALID:
            tl.atomic_min(bad, first_row + first)
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
