"""Rows of one or several modalities as columns on a GPU, as its kernels read them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from rlmba.kernels.common import arrays, device
from rlmba.kernels.common.modality_rows import ModalityRows, Reader

__all__ = ["READER", "UNROLL", "ModalityColumns", "compute_device", "launch_arguments", "pack"]

UNROLL = 4
"""The columns of each modality are padded with zeros to a multiple of this number."""

_CHUNK_BYTES = 64 * 2**20


class ModalityColumns(NamedTuple):
    """n rows of M modalities, stored by columns on the device.

    ``values`` [W, n] are the columns of all modalities in their order, 0 where a row lacks the
    modality; those of modality m are ``ends[m]`` to ``ends[m + 1]``. ``has`` bool [n, M] says which
    modalities a row has, or is None if all rows have all of them. ``weights`` float64 [M] sum to 1.
    """

    values: Tensor
    has: Tensor | None
    ends: Tensor
    weights: Tensor

    @property
    def rows(self) -> int:
        """n, the number of rows."""
        return int(self.values.shape[1])

    def take(self, positions: Tensor) -> ModalityColumns:
        """Return copies of some rows."""
        has = None if self.has is None else self.has.index_select(0, positions)
        return self._replace(values=self.values.index_select(1, positions), has=has)


def _one_dtype(parts: list[Tensor]) -> tuple[Tensor, ...]:
    if len({part.dtype for part in parts}) == 1:
        return tuple(parts)
    dtype = device.result_dtype(*parts)
    return tuple(part.to(dtype) for part in parts)


def _cast(part: Tensor, other: Tensor, name: str) -> Tensor:
    if part.dtype == other.dtype:
        return part
    return device.cast(part, device.result_dtype(other), name)


def _like(result: NDArray[Any], original: arrays.ArrayLike) -> Any:
    where = device.compute_device(device.tensor(original))
    return device.like(torch.from_numpy(result).to(where), original)


def launch_arguments(
    x: ModalityColumns, y: ModalityColumns
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of Triton kernels that compute distances of rows of ``x`` and ``y``.

    These are the positional ones from ``x`` to ``modalities``, and PARTIAL and UNROLL. A tensor of
    rows that have all modalities takes the place of ``has``, and is not read.
    """

    def of(rows: ModalityColumns) -> tuple[Any, ...]:
        return rows.values, rows.values if rows.has is None else rows.has, rows.rows

    shared = (y.ends, y.weights, len(y.weights))
    return (*of(x), *of(y), *shared), {"PARTIAL": y.has is not None, "UNROLL": UNROLL}


READER = Reader(device.as_rows, _one_dtype, _cast, _like)
"""Reads arrays as tensors in the caller's memory; half precision is kept."""


def compute_device(*rows: ModalityRows) -> torch.device:
    """Choose the device, as :func:`device.compute_device` does."""
    return device.compute_device(*(part for some in rows for part in some.parts))


def pack(rows: ModalityRows, where: torch.device, *, partial: bool) -> ModalityColumns:
    """Copy rows to the device, a block at a time; with ``partial``, ``has`` is not None.

    Raises
    ------
    NonFiniteError
        For a row that is not finite in a modality that it has.
    """
    widths = [-(-int(part.shape[1]) // UNROLL) * UNROLL for part in rows.parts]
    count, first = rows.rows, 0
    values = torch.zeros((sum(widths), count), dtype=rows.parts[0].dtype, device=where)
    has = None if rows.present is None else torch.from_numpy(rows.present).to(where)
    for m, (name, part) in enumerate(zip(rows.names, rows.parts, strict=True)):
        finite = torch.ones(count, dtype=torch.bool, device=where)
        width = int(part.shape[1])
        step = max(1, _CHUNK_BYTES // (width * part.element_size()))
        for begin in range(0, count, step):
            some = slice(begin, begin + step)
            block = device.to_device(part[some], where)
            if has is not None:
                block = block.masked_fill(~has[some, m, None], 0)
            finite[some] = block.isfinite().all(dim=1)
            values[first : first + width, some] = block.T
        if not bool(finite.all()):
            device.raise_non_finite(part, name, int((~finite).to(torch.uint8).argmax()))
        first += widths[m]
    if has is None:
        has = torch.ones((count, len(widths)), dtype=torch.bool, device=where)
    ends = torch.tensor([0, *widths], dtype=torch.int64).cumsum(0)
    weights = torch.from_numpy(rows.weights / rows.weights.sum())
    return ModalityColumns(values, has if partial else None, ends.to(where), weights.to(where))
