""":func:`rlmba.kernels.graph_propagate` on a GPU.

torch computes the two thin products in float64, which data-center GPUs multiply as fast as float32.
:mod:`.triton_impl` normalizes the rows in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlmba.errors import ShapeError, UsageError
from rlmba.kernels.common import arrays, device, distances
from rlmba.kernels.graph_propagate import spec, triton_impl

_CHUNK_VALUES = 2**24
"""Number of values converted to float64 at a time."""


class Propagated(NamedTuple):
    """The fields of :class:`rlmba.kernels.GraphPropagate`."""

    values: Any
    degrees: Any
    affinity: str


class _Graph:
    """The graph A: normalized rows in chunks, degrees and affinity."""

    def __init__(self, rows: device.Rows, width: int) -> None:
        wide: dict[str, Any] = {"dtype": torch.float64, "device": rows.device}
        self._rows, self._width = rows, width
        self._largest = torch.empty(rows.count, **wide)
        self._inverse = torch.empty(rows.count, **wide)
        self.bad = device.flag(rows.device)
        self._negative = torch.zeros(1, dtype=torch.int64, device=rows.device)
        self.sums = torch.zeros(width, **wide)
        for tile in rows:
            span = slice(tile.begin, tile.end)
            triton_impl.norms(
                tile.parts[0], tile.begin, self._largest[span], self._inverse[span], self.bad,
                self._negative,
            )  # fmt: skip
            for _, x in self._split(tile, 1):
                self.sums += x.sum(0)
        self.own = (self._inverse > 0).to(torch.float64)

    def _split(self, tile: device.Tile, columns: int) -> Iterator[tuple[slice, Tensor]]:
        step = max(1, _CHUNK_VALUES // max(self._width, columns))
        for begin in range(tile.begin, tile.end, step):
            span = slice(begin, min(begin + step, tile.end))
            part = tile.parts[0][begin - tile.begin : span.stop - tile.begin]
            yield span, triton_impl.unit_rows(part, self._largest[span], self._inverse[span])

    def chunks(self, columns: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield chunks of rows as positions and values, small enough for ``columns`` more values per row."""
        for tile in self._rows:
            yield from self._split(tile, columns)

    def degrees(self, affinity: str) -> tuple[Tensor, Tensor]:
        """Degrees, and whether (0 or 1, float64) the affinity is the shifted one."""
        n = self._rows.count
        cosine = torch.empty_like(self._inverse)
        for span, x in self.chunks(1):
            torch.mv(x, self.sums, out=cosine[span])
        cosine -= self.own
        limit = spec.ISOLATED * self.sums.square().sum().sqrt()
        cosine = torch.where(cosine.abs() <= limit, 0.0, cosine)
        if affinity == "auto":
            close = (cosine >= spec.SAFE_MEAN * (n - 1)) | (self.own == 0)
            shifted = (~((self._negative == 0) | close.all())).to(torch.float64)
        else:
            shifted = torch.full_like(self.sums[:1], float(affinity == "shifted"))
        half = (n - 1 + cosine) / 2
        half = torch.where(half.abs() <= limit, 0.0, half)
        return torch.where(shifted > 0, half, cosine), shifted


def _apply(graph: _Graph, degrees: Tensor, shifted: Tensor, values: Tensor, out: Tensor) -> None:
    """S = weight (X X^T + shifted) without its diagonal; out = S values / degrees + values."""
    columns = values.shape[1]
    inverse = torch.where(degrees != 0, 1 / degrees, 0.0)
    weight = 1 - shifted / 2
    product = torch.zeros((len(graph.sums), columns), dtype=torch.float64, device=out.device)
    total = torch.zeros(columns, dtype=torch.float64, device=out.device)
    for span, x in graph.chunks(columns):
        scaled = values[span] * inverse[span, None]
        product.addmm_(x.T, scaled)
        total += scaled.sum(0)
    product *= weight
    total *= weight * shifted
    for span, x in graph.chunks(columns):
        wide = values[span].to(torch.float64)
        diagonal = weight * (graph.own[span] + shifted) * inverse[span]
        out[span] = torch.addmm(total, x, product) + wide * (1 - diagonal)[:, None]


def _first_bad(values: Tensor) -> Tensor:
    sound = torch.isfinite(values).all(1)
    row = torch.arange(len(values), device=values.device)
    return torch.where(sound, device.ALL_VALID, row).min()[None]


def _checked(features: arrays.ArrayLike, values: arrays.ArrayLike) -> tuple[Tensor, Tensor]:
    distances.require_same_device(values, "values", features, "features")
    f = device.as_rows(features, "features")
    h = device.as_float(values, "values", ndim=(1, 2))
    if h.shape[0] != f.shape[0]:
        raise ShapeError(
            f"values: expected {f.shape[0]} rows as in features, got shape {tuple(h.shape)}"
        )
    return f, h


def graph_propagate(
    features: arrays.ArrayLike, values: arrays.ArrayLike, affinity: str
) -> Propagated:
    """Implement the public function for unchecked arrays."""
    f, h = _checked(features, values)
    where, dtype = device.compute_device(f, h), device.result_dtype(f, h)
    if device.capturing(where) and affinity == "auto":
        raise UsageError(
            "affinity: expected 'cosine' or 'shifted' during CUDA graph capture, got 'auto', "
            "which has to wait for the GPU; name one"
        )
    columns = device.to_device(h, where)
    columns = columns[:, None] if columns.ndim == 1 else columns
    out = torch.empty(tuple(h.shape), dtype=dtype, device=where)
    degrees = torch.empty(len(f), dtype=torch.float64, device=where)
    used = "cosine" if affinity == "auto" else affinity
    if len(f):
        with device.on(where):
            graph = _Graph(device.Rows([f], where), f.shape[1])
            degrees, shifted = graph.degrees(affinity)
            _apply(graph, degrees, shifted, columns, out[:, None] if out.ndim == 1 else out)
            if not device.capturing(where):
                seen = torch.cat([graph.bad, _first_bad(columns), shifted.to(torch.int64)])
                bad, bad_value, is_shifted = seen.tolist()
                if bad < device.ALL_VALID:
                    device.raise_non_finite(f, "features", bad)
                if bad_value < device.ALL_VALID:
                    device.raise_non_finite(h, "values", bad_value)
                used = "shifted" if is_shifted else "cosine"
    return Propagated(device.like(out, values), device.like(degrees, values), used)
