"""Triton implementation of :func:`rlmba.kernels.dirichlet_variance`."""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.device import ALL_VALID
from rlmba.kernels.common.evidential_device import Modalities
from rlmba.kernels.common.triton_device import is_finite, programs

_VALID = tl.constexpr(ALL_VALID)
_COLUMNS = tl.constexpr(64)
_BLOCK_ROWS = 16
_ALPHA = tl.constexpr(0)
_SOFTPLUS = tl.constexpr(1)
_EXP = tl.constexpr(2)


@triton.jit
def _evidence(x, high, low, KIND: tl.constexpr, WIDE: tl.constexpr):
    """alpha - 1, or alpha, in float32 in units of :func:`_unit`; NaN or infinite if x is invalid."""
    temperature = tl.full((1, 1), 1.0, tl.float64) * high + low
    if WIDE:
        z = x.to(tl.float64) / temperature
        if KIND == _SOFTPLUS:
            e = tl.maximum(z, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(z)))
        elif KIND == _EXP:
            e = tl.exp(z)
        elif KIND == _ALPHA:
            e = x.to(tl.float64)
        else:
            e = tl.maximum(z, 0.0)
    else:
        v = x.to(tl.float32)
        if KIND == _SOFTPLUS:
            z = v * (1.4426950408889634 / temperature).to(tl.float32)
            # z + |z| = 2 max(z, 0), but NaN for minus infinity.
            e = z + tl.abs(z) + 2.0 * tl.log2(1.0 + tl.exp2(-tl.abs(z)))
        elif KIND == _EXP:
            exact = 1.4426950408889634 / temperature
            scale = exact.to(tl.float32)
            z = v * scale
            # A factor corrects the rounding of the exponent.
            rest = tl.fma(v, (exact - scale.to(tl.float64)).to(tl.float32), tl.fma(v, scale, -z))
            power = tl.exp2(z)
            e = power + tl.where(power > 0, power * (rest * 0.6931471805599453), 0.0)
            e = tl.where(is_finite(v), e, float("nan"))
        elif KIND == _ALPHA:
            e = tl.where(v > 0, v, float("nan"))
        else:
            e = (v + tl.abs(v)) * (0.5 / temperature).to(tl.float32)
    return e


@triton.jit
def _fold(e1, e2, ROWS: tl.constexpr, STEPS: tl.constexpr):
    """Sums e1 and pair sums e2 of a block's columns, halved until one column is left."""
    for k in tl.static_range(STEPS):
        left, right = tl.split(tl.reshape(e1, (ROWS, (1 << STEPS) >> (k + 1), 2)))
        pairs, more = tl.split(tl.reshape(e2, (ROWS, (1 << STEPS) >> (k + 1), 2)))
        e1 = left + right
        e2 = pairs + more + left * right
    return tl.reshape(e1, (ROWS,)), tl.reshape(e2, (ROWS,))


@triton.jit
def _variance(e1, e2, top, classes, KIND: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr):
    """Eq 4 from the sums; NaN where float32 is not sufficient."""
    s1, s2 = _fold(e1, e2, ROWS, 6)
    c = tl.full((1,), 1.0, tl.float64) * classes
    if WIDE:
        exact = 2.0 * s2 / (s1 * s1) / (s1 * top + 1.0) / c
        result = tl.where(is_finite(top), exact, 0.0)
    else:
        base = 1.0
        unit = 1.0
        if KIND == _ALPHA:
            base = 0.0
        if KIND == _SOFTPLUS:
            unit = 0.34657359027997264  # log(2) / 2
        total = s1.to(tl.float64) * unit
        pairs = s2.to(tl.float64) * unit * unit + base * (c - 1.0) * (0.5 * c + total)
        total += base * c
        good = s1 < 1e18
        if KIND == _ALPHA:
            good &= pairs > 1e-28
        exact = 2.0 * pairs / (total * total * (total + 1.0) * c)
        result = tl.where(good, exact, float("nan"))
    return result


@triton.jit
def _put(at, value, there, WIDE: tl.constexpr, ALL: tl.constexpr):
    """Store results; when rows are recomputed, replace only NaN."""
    if WIDE and not ALL:
        old = tl.load(at, there, other=0)
        there &= old != old
    tl.store(at, value, there)


@triton.jit
def _inspect(
    x, stride, high, low, present, largest, modality, fused, unfinished, bad,
    rows, classes, first_row, columns, column,
    KIND: tl.constexpr, ALL: tl.constexpr, FUSE: tl.constexpr, PRESENT: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Largest evidence of each row of a modality, in float64; lowers ``bad`` to an invalid row."""
    if ALL or tl.load(unfinished) != 0:
        for begin in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
            row = begin + tl.arange(0, ROWS).to(tl.int64)
            there = row < rows
            if not ALL:
                old = tl.load(modality + row * columns + column, there, other=0)
                undone = old != old
                if FUSE:
                    whole = tl.load(fused + row, there, other=0)
                    undone |= whole != whole
                there &= undone
            if PRESENT:
                there &= tl.load(present + row * columns + column, there, other=0) != 0
            top = tl.full((ROWS,), 0.0, tl.float64)
            broken = tl.full((ROWS,), 0, tl.int32)
            if tl.max(there.to(tl.int32)) > 0:
                for start in range(0, classes, _COLUMNS):
                    c = start + tl.arange(0, _COLUMNS)
                    inside = there[:, None] & (c < classes)[None, :]
                    v = tl.load(x + row[:, None] * stride + c[None, :], inside, other=1)
                    good = is_finite(v)
                    if KIND == _ALPHA:
                        good &= v > 0
                    broken |= tl.max((inside & (good == 0)).to(tl.int32), axis=1)
                    e = _evidence(v, high, low, KIND, True)
                    top = tl.maximum(top, tl.max(tl.where(inside & good, e, 0.0), axis=1))
                tl.store(largest + row * columns + column, top, there)
                first = tl.min(tl.where(broken != 0, row, _VALID))
                if first < _VALID:
                    tl.atomic_min(bad, first_row + first)


@triton.jit
def _rows(  # noqa: C901
    x0, x1, s0, s1, h0, l0, h1, l1, weights, weight_stride, present, part, largest,
    modality, fused, unfinished, rows, classes, columns, column,
    KIND: tl.constexpr, PAIR: tl.constexpr, WIDE: tl.constexpr, ALL: tl.constexpr,
    FIRST: tl.constexpr, LAST: tl.constexpr, FUSE: tl.constexpr, PRESENT: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Process one or two modalities of rows; ``part`` passes the fused evidence to the next two."""
    wide = tl.float64 if WIDE else tl.float32
    base = 0.0 if KIND == _ALPHA else 1.0
    if ALL or not WIDE or tl.load(unfinished) != 0:
        for begin in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
            row = begin + tl.arange(0, ROWS).to(tl.int64)
            there = row < rows
            has0 = there
            has1 = there
            if PRESENT:
                has0 &= tl.load(present + row * columns + column, there, other=0) != 0
                if PAIR:
                    has1 &= tl.load(present + row * columns + column + 1, there, other=0) != 0
            w0 = tl.load(weights + row * weight_stride + column, there, other=0).to(wide)
            w1 = w0
            if PAIR:
                w1 = tl.load(weights + row * weight_stride + column + 1, there, other=0).to(wide)
            busy = there
            if WIDE and not ALL:
                old = tl.load(modality + row * columns + column, there, other=0)
                busy = old != old
                if PAIR:
                    old = tl.load(modality + row * columns + column + 1, there, other=0)
                    busy |= old != old
                if FUSE:
                    old = tl.load(fused + row, there, other=0)
                    busy |= old != old
            top0 = tl.full((ROWS,), 1.0, wide)
            top1 = top0
            top = top0
            if WIDE:
                top0 = tl.load(largest + row * columns + column, has0 & busy, other=1.0) + base
                if PAIR:
                    top1 = tl.load(largest + row * columns + column + 1, has1 & busy, other=1.0)
                    top1 += base
                if FUSE:
                    # An upper bound on the fused alpha, close to its largest value.
                    top = tl.full((ROWS,), base, wide)
                    for m in range(columns):
                        w = tl.load(weights + row * weight_stride + m, busy, other=0).to(wide)
                        e = tl.load(largest + row * columns + m, busy & (w > 0), other=0)
                        top += tl.where(w > 0, w * e, 0.0)
            if tl.max(busy.to(tl.int32)) > 0:
                zero = tl.zeros((ROWS, _COLUMNS), wide)
                a1, a2, b1, b2, f1, f2 = zero, zero, zero, zero, zero, zero
                for start in range(0, classes, _COLUMNS):
                    c = start + tl.arange(0, _COLUMNS)
                    inside = (busy[:, None]) & (c < classes)[None, :]
                    at = row[:, None]
                    in0 = inside & has0[:, None]
                    e = _evidence(
                        tl.load(x0 + at * s0 + c[None, :], in0, other=1), h0, l0, KIND, WIDE
                    )
                    f = zero
                    if FUSE:
                        if not FIRST:
                            f = tl.load(part + at * classes + c[None, :], inside, other=0)
                        f += tl.where(in0 & (w0 > 0)[:, None], w0[:, None] * e, 0.0)
                    if WIDE:
                        e = (e + base) / top0[:, None]
                    e = tl.where(in0, e, 0.0)
                    a2 += e * a1
                    a1 += e
                    if PAIR:
                        in1 = inside & has1[:, None]
                        v = tl.load(x1 + at * s1 + c[None, :], in1, other=1)
                        e = _evidence(v, h1, l1, KIND, WIDE)
                        if FUSE:
                            f += tl.where(in1 & (w1 > 0)[:, None], w1[:, None] * e, 0.0)
                        if WIDE:
                            e = (e + base) / top1[:, None]
                        e = tl.where(in1, e, 0.0)
                        b2 += e * b1
                        b1 += e
                    if FUSE:
                        if LAST:
                            if WIDE:
                                f = tl.where(inside, (f + base) / top[:, None], 0.0)
                            f2 += f * f1
                            f1 += f
                        else:
                            tl.store(part + at * classes + c[None, :], f, inside)
                u = tl.where(has0, _variance(a1, a2, top0, classes, KIND, WIDE, ROWS), 0.0)
                lost = there & (u != u)
                _put(modality + row * columns + column, u, busy, WIDE, ALL)
                if PAIR:
                    u = tl.where(has1, _variance(b1, b2, top1, classes, KIND, WIDE, ROWS), 0.0)
                    lost |= there & (u != u)
                    _put(modality + row * columns + column + 1, u, busy, WIDE, ALL)
                if FUSE and LAST:
                    u = _variance(f1, f2, top, classes, KIND, WIDE, ROWS)
                    lost |= there & (u != u)
                    _put(fused + row, u, busy, WIDE, ALL)
                if not WIDE and tl.max(lost.to(tl.int32)) > 0:
                    tl.atomic_max(unfinished, 1)


def _two_floats(value: float) -> tuple[float, float]:
    """Split a float64 into the sum of two float32, because scalars are passed as float32."""
    high = float(np.float32(value))
    if not np.isfinite(high):
        return value, 0.0
    return high, value - high


def dirichlet_variance(
    parts: tuple[Tensor, ...],
    inputs: Modalities,
    weights: Tensor | None,
    present: Tensor | None,
    begin: int,
    modality: Tensor,
    fused: Tensor | None,
    unfinished: Tensor,
    bad: Tensor,
) -> None:
    """Compute the variances of ``parts``, which begin at row ``begin``; ``bad`` is as in CUDA.

    ``weights`` [N, M] or [1, M] have the result's dtype and are 0 for missing modalities.
    """
    n, c = parts[0].shape
    m = len(parts)
    where = parts[0].device
    everything = parts[0].dtype == torch.float64
    largest = torch.empty((n, m), dtype=torch.float64, device=where)
    # A kernel constant tells that it is absent; the placeholder is not read.
    whole = modality if fused is None else fused
    w = modality if weights is None else weights
    stride = 0 if w.shape[0] == 1 else m
    marks = bad if present is None else present
    for wide in (False, True):
        if everything and not wide:
            continue
        grid = (max(1, min(triton.cdiv(n, _BLOCK_ROWS), programs(where))),)
        part = modality
        if m > 2 and fused is not None:
            dtype = torch.float64 if wide else torch.float32
            part = torch.empty((n, c), dtype=dtype, device=where)
        options = {"KIND": inputs.code, "ALL": everything, "FUSE": fused is not None}
        options |= {"PRESENT": present is not None, "ROWS": _BLOCK_ROWS, "num_warps": 4}
        if wide:
            for k, x in enumerate(parts):
                high, low = _two_floats(inputs.temperatures[k])
                _inspect[grid](
                    x, x.stride(0), high, low, marks, largest, modality, whole, unfinished, bad,
                    n, c, begin, m, k, **options,
                )  # fmt: skip
        for k in range(0, m, 2):
            pair = k + 1 < m
            x, y = parts[k], parts[k + 1] if pair else parts[k]
            high, low = _two_floats(inputs.temperatures[k])
            high1, low1 = _two_floats(inputs.temperatures[k + 1 if pair else k])
            _rows[grid](
                x, y, x.stride(0), y.stride(0), high, low, high1, low1, w, stride, marks, part,
                largest, modality, whole, unfinished, n, c, m, k,
                PAIR=pair, WIDE=wide, FIRST=k == 0, LAST=k + 2 >= m, **options,
            )  # fmt: skip
