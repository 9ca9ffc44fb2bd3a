""":func:`rlmba.kernels.shapley_contributions` on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from rlmba.errors import DataError, ShapeError
from rlmba.kernels.common import arrays, device, evidential_device
from rlmba.kernels.shapley_contributions import triton_impl
from rlmba.kernels.shapley_contributions.plan import CoalitionPlan, exact_plan


def shapley_contributions(
    parts: Sequence[arrays.ArrayLike],
    labels: arrays.ArrayLike,
    *,
    bias: Any,
    present: arrays.ArrayLike | None,
    plan: CoalitionPlan,
    exact: bool,
    max_memory: int | None,
) -> Any:
    """Implement the public function; only the arguments of the plan are checked."""
    names = [f"parts[{k}]" for k in range(len(parts))]
    floats = evidential_device.class_rows(parts, names)
    (n, c), m = floats[0].shape, len(floats)
    where = device.compute_device(*floats)
    y, outside, fail = _labels(labels, n, c, where)
    b = _bias(bias, c, where)
    there = None if present is None else evidential_device.presence_mask(present, (n, m), where)
    tables = _exact_tables(m, where) if exact else _tables(plan, m, where)
    values = torch.empty((n, m), dtype=torch.float64, device=where)
    bad = device.flag(where)
    with device.on(where):
        for tile in device.Rows(floats, where, max_memory):
            rows = slice(tile.begin, tile.end)
            triton_impl.shapley_contributions(
                torch.stack(tile.parts),
                y[rows],
                b,
                None if there is None else there[rows],
                *tables,
                tile.begin,
                values[rows],
                bad,
            )
    row = device.read_flag(outside)
    if row is not None:
        fail(row)
    row = device.read_flag(bad)
    if row is not None:
        _raise(floats, names, there, row)
    return device.like(values, parts[0])


def _labels(value: arrays.ArrayLike, n: int, c: int, where: torch.device) -> Any:
    """Return int64 labels on the device, the flag of the first invalid one, and its error function."""
    y = device.tensor(value, "labels")
    if y.is_floating_point() or y.dtype in (torch.bool, torch.complex64) or tuple(y.shape) != (n,):
        kind = str(y.dtype).removeprefix("torch.")
        raise ShapeError(
            f"labels: expected integers of shape ({n},), one class per row, got {kind} {tuple(y.shape)}"
        )
    given = device.to_device(y, where).to(torch.int64).contiguous()

    def fail(row: int) -> NoReturn:
        raise DataError(f"labels[{row}] is {given[row]}: expected a class within 0..{c - 1}")

    outside = evidential_device.first_true((given < 0) | (given >= c))
    return given.clamp(0, c - 1), outside, fail


def _bias(value: Any, c: int, where: torch.device) -> Tensor:
    from rlmba.kernels.shapley_contributions import checked_bias

    if value is None:
        return torch.zeros(c, dtype=torch.float64, device=where)
    if isinstance(value, Tensor):
        value = value.detach().cpu()
    return torch.from_numpy(checked_bias(value, c)).to(where)


def _tables(plan: CoalitionPlan, m: int, where: torch.device) -> tuple[Tensor, Tensor]:
    """Members of the coalitions, and the share [K, M] of their worth for each modality."""
    coalitions = plan.members()
    members = np.zeros((len(coalitions), m), dtype=np.uint8)
    for k, inside in enumerate(coalitions):
        members[k, inside] = 1
    shares = np.zeros((len(coalitions), m))
    np.add.at(shares, (plan.after, plan.modality), plan.share)
    np.subtract.at(shares, (plan.before, plan.modality), plan.share)
    return torch.from_numpy(members).to(where), torch.from_numpy(shares).to(where)


@functools.cache
def _exact_tables(m: int, where: torch.device) -> tuple[Tensor, Tensor]:
    """Tables cached on the device, because a CUDA graph cannot copy them there."""
    return _tables(exact_plan(m), m, where)


def _raise(
    floats: Sequence[Tensor], names: Sequence[str], there: Tensor | None, row: int
) -> NoReturn:
    for k, (t, name) in enumerate(zip(floats, names, strict=True)):
        if (there is None or bool(there[row, k])) and not bool(torch.isfinite(t[row]).all()):
            device.raise_non_finite(t, name, row)
    raise AssertionError(f"row {row} is valid")
