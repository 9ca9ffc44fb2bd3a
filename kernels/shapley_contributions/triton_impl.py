"""Triton implementation of :func:`rlmba.kernels.shapley_contributions`."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common.device import ALL_VALID
from rlmba.kernels.common.triton_device import is_finite, programs

_ROWS = 16
_COLUMNS = tl.constexpr(64)
_VALID = tl.constexpr(ALL_VALID)


@triton.jit
def _part(parts, m, at, inside, size):
    """Load numbers of modality m; modalities are ``size`` elements apart."""
    return tl.load(parts + m * size + at, inside, other=0).to(tl.float64)


@triton.jit
def _present(present, row, there, m, modalities, PRESENT: tl.constexpr):
    here = there
    if PRESENT:
        here &= tl.load(present + row * modalities + m, there, other=0) != 0
    return here


@triton.jit
def _report(
    parts, present, bad, row, there, classes, modalities, size, first_row, PRESENT: tl.constexpr
):
    """Lower ``bad`` to the first row with a present part that is not finite."""
    for m in range(modalities):
        here = _present(present, row, there, m, modalities, PRESENT)
        for start in range(0, classes, _COLUMNS):
            c = start + tl.arange(0, _COLUMNS)
            inside = here[:, None] & (c < classes)[None, :]
            v = _part(parts, m, row[:, None] * classes + c[None, :], inside, size)
            broken = tl.max((inside & (is_finite(v) == 0)).to(tl.int32), axis=1)
            first = tl.min(tl.where(broken != 0, row, _VALID))
            if first < _VALID:
                tl.atomic_min(bad, first_row + first)


@triton.jit
def _shapley(
    parts, labels, bias, present, members, shares, values, bad,
    rows, classes, modalities, coalitions, size, first_row,
    PRESENT: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Add p_y = 1 / sum_c exp(z_c - z_y) of each coalition to the modalities' values."""
    for begin in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = begin + tl.arange(0, ROWS).to(tl.int64)
        there = row < rows
        _report(parts, present, bad, row, there, classes, modalities, size, first_row, PRESENT)
        label = tl.load(labels + row, there, other=0)
        k = tl.arange(0, WIDTH)
        total = tl.zeros((ROWS, WIDTH), tl.float64)
        for coalition in range(coalitions):
            own = tl.load(bias + label, there, other=0)
            for m in range(modalities):
                if tl.load(members + coalition * modalities + m) != 0:
                    here = _present(present, row, there, m, modalities, PRESENT)
                    own += _part(parts, m, row * classes + label, here, size)
            others = tl.zeros((ROWS,), tl.float64)
            for start in range(0, classes, _COLUMNS):
                c = start + tl.arange(0, _COLUMNS)
                inside = there[:, None] & (c < classes)[None, :]
                z = tl.zeros((ROWS, _COLUMNS), tl.float64)
                z += tl.load(bias + c, c < classes, other=0)[None, :]
                for m in range(modalities):
                    if tl.load(members + coalition * modalities + m) != 0:
                        here = _present(present, row, there, m, modalities, PRESENT)
                        at = row[:, None] * classes + c[None, :]
                        z += _part(parts, m, at, inside & here[:, None], size)
                others += tl.sum(tl.where(inside, tl.exp(z - own[:, None]), 0.0), axis=1)
            share = tl.load(shares + coalition * modalities + k, k < modalities, other=0)
            worth = 1.0 / tl.where(there, others, 1.0)
            total += worth[:, None] * share[None, :]
        at = row[:, None] * modalities + k[None, :]
        tl.store(values + at, total, there[:, None] & (k < modalities)[None, :])


def shapley_contributions(
    parts: Tensor,
    labels: Tensor,
    bias: Tensor,
    present: Tensor | None,
    members: Tensor,
    shares: Tensor,
    begin: int,
    values: Tensor,
    bad: Tensor,
) -> None:
    """Values [N, M] of parts [M, N, C], contiguous, whose rows begin at row ``begin``.

    ``members`` bool bytes [K, M] of the coalitions, and ``shares`` float64 [K, M]: how much of the worth
    of a coalition goes to each modality.
    """
    m, n, c = parts.shape
    grid = (max(1, min(triton.cdiv(n, _ROWS), programs(parts.device))),)
    _shapley[grid](
        parts, labels, bias, bad if present is None else present, members, shares, values, bad,
        n, c, m, members.shape[0], n * c, begin,
        PRESENT=present is not None, ROWS=_ROWS, WIDTH=triton.next_power_of_2(m), num_warps=4,
    )  # fmt: skip
