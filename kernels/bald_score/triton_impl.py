"""Triton implementation of :func:`rlmba.kernels.bald_score`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.bald_score import spec
from rlmba.kernels.common.device import ALL_VALID
from rlmba.kernels.common.triton_device import is_finite, programs

_ROWS = 16
_COLUMNS = tl.constexpr(64)
_VALID = tl.constexpr(ALL_VALID)
_SLACK = tl.constexpr(spec.SUM_SLACK)


@triton.jit
def _normalizers(
    x, shift, scale, bad, rows, passes, classes, row_stride, pass_stride, first_row,
    LOGITS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Shift and scale of one pass [rows]: p = exp(x - shift) scale, or x scale."""
    k = tl.program_id(1)
    for begin in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = begin + tl.arange(0, ROWS).to(tl.int64)
        there = row < rows
        most = tl.full((ROWS,), float("-inf"), tl.float64)
        total = tl.zeros((ROWS,), tl.float64)
        broken = tl.full((ROWS,), 0, tl.int32)
        for start in range(0, classes, _COLUMNS):
            c = start + tl.arange(0, _COLUMNS)
            inside = there[:, None] & (c < classes)[None, :]
            at = row[:, None] * row_stride + k * pass_stride + c[None, :]
            v = tl.load(x + at, inside, other=0).to(tl.float64)
            good = is_finite(v)
            if not LOGITS:
                good &= v >= 0
            broken |= tl.max((inside & (good == 0)).to(tl.int32), axis=1)
            if LOGITS:
                v = tl.where(inside & good, v, float("-inf"))
                raised = tl.maximum(most, tl.max(v, axis=1))
                raised = tl.where(is_finite(raised), raised, 0.0)
                total = total * tl.exp(most - raised) + tl.sum(tl.exp(v - raised[:, None]), axis=1)
                most = raised
            else:
                total += tl.sum(tl.where(inside & good, v, 0.0), axis=1)
        if not LOGITS:
            broken |= (tl.abs(total - 1.0) > _SLACK).to(tl.int32)
        first = tl.min(tl.where(there & (broken != 0), row, _VALID))
        if first < _VALID:
            tl.atomic_min(bad, first_row + first)
        tl.store(shift + row * passes + k, most, there)
        tl.store(scale + row * passes + k, 1.0 / tl.where(total > 0, total, 1.0), there)


@triton.jit
def _probability(
    x, shift, scale, row, there, inside, c, k, passes, row_stride, pass_stride,
    LOGITS: tl.constexpr,
):  # fmt: skip
    at = row[:, None] * row_stride + k * pass_stride + c[None, :]
    v = tl.load(x + at, inside, other=0).to(tl.float64)
    if LOGITS:
        v = tl.exp(v - tl.load(shift + row * passes + k, there, other=0)[:, None])
    return v * tl.load(scale + row * passes + k, there, other=0)[:, None]


@triton.jit
def _scores(
    x, shift, scale, scores, rows, passes, classes, row_stride, pass_stride,
    LOGITS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """mean_k sum_c q phi(p_k / q - 1), phi(e) = (1 + e) log(1 + e) - e >= 0."""
    for begin in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = begin + tl.arange(0, ROWS).to(tl.int64)
        there = row < rows
        score = tl.zeros((ROWS,), tl.float64)
        for start in range(0, classes, _COLUMNS):
            c = start + tl.arange(0, _COLUMNS)
            inside = there[:, None] & (c < classes)[None, :]
            p0 = _probability(
                x, shift, scale, row, there, inside, c, 0, passes, row_stride, pass_stride, LOGITS
            )
            apart = tl.zeros((ROWS, _COLUMNS), tl.float64)
            for k in range(1, passes):
                p = _probability(
                    x, shift, scale, row, there, inside, c, k, passes, row_stride, pass_stride,
                    LOGITS,
                )  # fmt: skip
                apart += p - p0
            q = p0 + apart / passes
            for k in range(passes):
                p = _probability(
                    x, shift, scale, row, there, inside, c, k, passes, row_stride, pass_stride,
                    LOGITS,
                )  # fmt: skip
                e = (p - q) / tl.where(q > 0, q, 1.0)
                u = tl.maximum(1.0 + e, 2.2250738585072014e-308)
                # log(1 + e) corrected for the rounding of u = 1 + e; u - 1 is exact near 1.
                near = u != 1.0
                log = tl.where(near, tl.log(u) * (e / tl.where(near, u - 1.0, 1.0)), e)
                log = tl.where(u < 0.5, tl.log(u), log)
                phi = tl.maximum(u * log - e, 0.0)
                score += tl.sum(tl.where(inside, q * phi, 0.0), axis=1)
        tl.store(scores + row, score / passes, there)


def bald_score(x: Tensor, kind: str, begin: int, scores: Tensor, bad: Tensor) -> None:
    """Scores [N] of x [N, K, C], whose rows begin at row ``begin``; N may be strided, and K."""
    n, k, c = x.shape
    shift = torch.empty((n, k), dtype=torch.float64, device=x.device)
    scale = torch.empty_like(shift)
    blocks = triton.cdiv(n, _ROWS)
    most = programs(x.device)
    options = {"LOGITS": kind == "logits", "ROWS": _ROWS, "num_warps": 4}
    strides = (x.stride(0), x.stride(1))
    few = max(1, min(blocks, triton.cdiv(most, k)))
    _normalizers[(few, k)](x, shift, scale, bad, n, k, c, *strides, begin, **options)
    _scores[(max(1, min(blocks, most)),)](x, shift, scale, scores, n, k, c, *strides, **options)
