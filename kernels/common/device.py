"""Arrays on a GPU: conversion to torch tensors and back, and streaming of host memory in chunks.

This module imports torch, so operations import it only when a GPU backend serves a call. Under
Triton's interpreter and with the emulated CUDA extension, the CPU takes the place of the GPU:
tensors are not moved, and everything else works as on a GPU.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from rlmba.errors import NonFiniteError, ShapeError, UsageError
from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, distances, tables

__all__ = [
    "ALL_VALID",
    "Rows",
    "Tile",
    "as_float",
    "as_rows",
    "cast",
    "compute_device",
    "flag",
    "like",
    "matrix",
    "on",
    "ordered_keys",
    "raise_non_finite",
    "raise_out_of_range",
    "read_flag",
    "result_dtype",
    "stream",
    "tensor",
    "to_device",
]

ALL_VALID = 2**63 - 1
"""Initial value of a row flag, which kernels lower to the first invalid row."""

_WHOLE_TILES = 128
"""Chunks hold a multiple of this many rows, which the tile sizes divide. Sums within a tile therefore do not
depend on where a chunk begins."""

_cuda: Any = torch.cuda  # parts of it have no types
_FLOAT = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def tensor(x: arrays.ArrayLike, name: str = "array") -> Tensor:
    """Return an array in any memory as a torch tensor that shares its memory.

    Misaligned memory and another byte order are copied, as in :func:`arrays.to_numpy`.

    Raises
    ------
    ShapeError
        If torch cannot read it as an array of numbers; the message says how to convert it.
    """
    if isinstance(x, Tensor):
        arrays.require_readable(x, name)
        return _aligned(x.detach().resolve_conj().resolve_neg())
    foreign = isinstance(x, arrays.SupportsDLPack) and not isinstance(x, np.ndarray)
    if foreign and not tables.is_table(x):
        try:
            return _aligned(torch.utils.dlpack.from_dlpack(x))
        except Exception as error:  # other libraries raise any exception here
            raise arrays.not_read(x, name, error) from error
    a = arrays.to_numpy(x, name)
    if any(s < 0 or s % a.itemsize for s in a.strides):
        a = np.ascontiguousarray(a)
    try:
        if a.flags.writeable:
            return torch.from_numpy(a)
        # torch has no read-only tensors, but kernels never write to their inputs.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(a)
    except TypeError:  # strings, objects, extended precision
        raise ShapeError(f"{name}: {arrays.describe_dtype(a.dtype)}") from None


def _aligned(t: Tensor) -> Tensor:
    """Return ``t``, or an aligned copy if kernels on the CPU could not read it safely."""
    on_cpu = t.device.type == "cpu" and type(t) is Tensor  # others may lack memory
    return t.clone() if on_cpu and t.data_ptr() % t.element_size() else t


def as_float(x: arrays.ArrayLike, name: str, *, ndim: int | tuple[int, ...]) -> Tensor:
    """Check rank and dtype; keep floating point and convert integers and booleans to float64.

    Half precision is not converted in memory; kernels convert it as they read. The last axis of the
    result is contiguous, and other axes may be strided.

    Raises
    ------
    ShapeError
        For an object that is not an array, a wrong rank or a dtype that is not real.
    DataError
        For an integer in CPU memory that float64 cannot hold.
    """
    t = tensor(x, name)
    arrays.require_rank(tuple(t.shape), name, ndim)
    if t.dtype not in _FLOAT:
        if t.is_complex() or t.is_floating_point():
            raise ShapeError(f"{name}: {arrays.describe_dtype(t.dtype)}")
        given, t = t, t.to(torch.float64)
        if given.device.type == "cpu" and type(given) is Tensor:
            arrays.require_exact(given.numpy(), t.numpy(), name)
    if t.ndim >= 1 and t.shape[-1] > 1 and t.stride(-1) != 1:
        t = t.contiguous()
    return t


def as_rows(x: arrays.ArrayLike, name: str) -> Tensor:
    """Return a float matrix [N, D] with D >= 1, in place.

    Raises
    ------
    ShapeError
        For another rank or dtype, or no columns.
    """
    t = as_float(x, name, ndim=2)
    distances.require_columns(tuple(t.shape), name)
    return t


def result_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the computation dtype: float64 if any input is float64, otherwise float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def cast(t: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """Like :func:`arrays.cast`, but without checks during CUDA graph capture.

    Raises
    ------
    NonFiniteError
        As in :func:`arrays.cast`.
    """
    if t.dtype == dtype:
        return t
    converted = t.to(dtype)
    if not capturing(t.device) and not bool(converted.isfinite().all()):
        bad = ~converted.isfinite().reshape(len(t), -1).all(dim=1)
        raise_out_of_range(t, dtype, name, int(bad.to(torch.uint8).argmax()))
    return converted


def compute_device(*tensors: Tensor) -> torch.device:
    """Choose the device: the tensors' GPU, else the current GPU, else (if emulated) the CPU.

    Raises
    ------
    UsageError
        If the tensors are on different GPUs.
    """
    found = {t.device for t in tensors if t.device.type == "cuda"}
    if len(found) > 1:
        raise UsageError(
            f"expected all arrays on one GPU, got {sorted(map(str, found))}; move them together"
        )
    if found:
        return found.pop()
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def to_device(t: Tensor, device: torch.device) -> Tensor:
    """Return ``t`` on ``device``; return it unchanged if it is already there."""
    return t.to(device, non_blocking=True)


def like(result: Tensor, original: arrays.ArrayLike) -> Any:
    """Return ``result`` as the same kind of array as ``original``, on the same kind of device."""
    if isinstance(original, Tensor):
        return result.to(original.device)
    if isinstance(original, np.ndarray):
        return result.cpu().numpy()
    namespace = getattr(original, "__array_namespace__", None)
    if arrays.device_of(original) == "cpu":
        result = result.cpu()
    if namespace is not None:
        return namespace().from_dlpack(result)
    module = __import__(type(original).__module__.split(".")[0])
    return module.from_dlpack(result) if hasattr(module, "from_dlpack") else result


def on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Make ``device`` current in the block, because CUDA and Triton launch on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def matrix(t: Tensor) -> Any:
    """Describe a tensor [N, C], or [N] as one column, for the CUDA extension; ``t`` owns the memory."""
    t2 = t[:, None] if t.ndim == 1 else t
    rows, columns = t2.shape
    code = _FLOAT.index(t.dtype)
    stride = t2.stride(0) if rows > 1 else columns
    return dispatch.require_cuda().Matrix(t2.data_ptr(), rows, columns, stride, code)


def stream(device: torch.device) -> int:
    """Return the handle of torch's current stream for the CUDA extension; 0 if emulated."""
    return int(torch.cuda.current_stream(device).cuda_stream) if device.type == "cuda" else 0


def capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured, during which nothing may synchronize or be checked."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def flag(device: torch.device) -> Tensor:
    """Return int64 [1] with :data:`ALL_VALID`; kernels lower it to an invalid row (atomic minimum)."""
    return torch.full((1,), ALL_VALID, dtype=torch.int64, device=device)


def ordered_keys(columns: int, like: Tensor) -> Tensor:
    """Keys [2 columns] in which the CUDA extension collects column extremes of ``like``'s dtype."""
    dtype = torch.int64 if like.dtype == torch.float64 else torch.int32
    keys = torch.zeros(2 * columns, dtype=dtype, device=like.device)
    keys[:columns].fill_(-1)
    return keys


def read_flag(bad: Tensor) -> int | None:
    """Return the first invalid row or None; waits for the GPU except during CUDA graph capture."""
    if capturing(bad.device):
        return None
    row = int(bad.item())
    return None if row == ALL_VALID else row


def raise_non_finite(t: Tensor, name: str, row: int) -> NoReturn:
    """Raise :class:`NonFiniteError` for row ``row`` of ``t``, with the other backends' message."""
    values = t[row].reshape(-1).to("cpu", torch.float64).numpy()
    column = int(np.argmax(~np.isfinite(values)))
    place = f"{name}[{row}]" if t.ndim == 1 else f"{name}[{row}, {column}]"
    raise NonFiniteError(
        f"{place} is {values[column]}: expected finite numbers; drop or repair row {row}", row
    )


def raise_out_of_range(t: Tensor, dtype: torch.dtype, name: str, row: int) -> NoReturn:
    """Raise :class:`NonFiniteError` for row ``row`` of ``t``, which is not finite in ``dtype``."""
    values = t[row].to("cpu", torch.float64).numpy()
    raise arrays.out_of_range(values, str(dtype).removeprefix("torch."), name, row)


class Tile(NamedTuple):
    """Rows ``begin`` to ``end`` of some arrays, on the device."""

    begin: int
    end: int
    parts: tuple[Tensor, ...]


class Rows:
    """Rows of arrays of equal length, for kernels that read them tile by tile.

    Arrays on the device form one tile, which is read in place. Arrays in host memory are copied to
    the device once if ``max_memory`` allows. Otherwise they are processed in chunks, and the next
    chunk is copied during the computation on the current one.

    Parameters
    ----------
    parts : sequence of tensors [N, ...]
        All on ``device``, or all in host memory.
    device : torch.device
    max_memory : int or None
        Bytes of device memory for copies of rows; None uses three quarters of the free memory.

    Raises
    ------
    UsageError
        If only some arrays are on the device, or ``max_memory`` does not hold two rows.
    """

    def __init__(
        self, parts: Sequence[Tensor], device: torch.device, max_memory: int | None = None
    ) -> None:
        self.device = device
        self.count = int(parts[0].shape[0])
        self._host: tuple[Tensor, ...] | None = None
        self._parts: tuple[Tensor, ...] | None = tuple(parts)
        self._chunk = self.count
        places = {p.device.type for p in parts}
        if len(places) > 1:
            raise UsageError(
                f"expected all arrays in one kind of memory, got {sorted(places)}; move them together"
            )
        if places == {device.type} and (device.type == "cuda" or max_memory is None):
            return
        row = sum(p[:1].numel() * p.element_size() for p in parts)
        room = _free_bytes(device) if max_memory is None else max_memory
        if row * self.count <= room:
            self._parts = tuple(to_device(p, device) for p in parts)
            return
        self._chunk = room // (2 * row)
        if self._chunk < 1:
            raise UsageError(
                f"max_memory: expected at least {2 * row} bytes, two rows of {row}, got {room}"
            )
        if self._chunk > _WHOLE_TILES:
            self._chunk -= self._chunk % _WHOLE_TILES
        self._host, self._parts = tuple(parts), None

    @property
    def resident(self) -> bool:
        """Whether all rows are on the device."""
        return self._parts is not None

    @property
    def chunk(self) -> int:
        """Maximum number of rows in a tile."""
        return self._chunk

    def __iter__(self) -> Iterator[Tile]:
        if self._parts is not None:
            if self.count:
                yield Tile(0, self.count, self._parts)
            return
        assert self._host is not None
        pinned = self.device.type == "cuda"
        side = _cuda.Stream(self.device) if pinned else None
        slots = [_Slot(self._host, self._chunk, self.device, pinned=pinned) for _ in range(2)]
        starts = range(0, self.count, self._chunk)
        try:
            slots[0].fill(0, side)
            for i, begin in enumerate(starts):
                if i + 1 < len(starts):
                    slots[(i + 1) % 2].fill(starts[i + 1], side)
                tile = slots[i % 2].ready(begin)
                yield tile
                slots[i % 2].release()
        finally:
            if side is not None:
                # The buffers' memory must not be reused on this stream before the last copy is
                # done.
                _cuda.current_stream(self.device).wait_stream(side)

    def take(self, positions: Tensor) -> tuple[Tensor, ...]:
        """Copy the rows at ``positions`` (int64, on the device) of each array to the device."""
        if self._parts is not None:
            return tuple(p[positions] for p in self._parts)
        assert self._host is not None
        where = positions.cpu()
        return tuple(to_device(p[where], self.device) for p in self._host)


class _Slot:
    """One of two buffers for chunks of host memory."""

    def __init__(
        self, host: tuple[Tensor, ...], chunk: int, device: torch.device, *, pinned: bool
    ) -> None:
        self._host, self._chunk = host, chunk
        shapes = [(chunk, *p.shape[1:]) for p in host]
        self._buffers = [
            torch.empty(s, dtype=p.dtype, device=device) for s, p in zip(shapes, host, strict=True)
        ]
        self._staging = [
            torch.empty(s, dtype=p.dtype, pin_memory=True) if pinned and not p.is_pinned() else None
            for s, p in zip(shapes, host, strict=True)
        ]
        self._copied = _cuda.Event() if pinned else None
        self._used = _cuda.Event() if pinned else None
        self.release()  # earlier users of the buffers' memory may still be running

    def fill(self, begin: int, side: Any) -> None:
        """Start copying the rows from ``begin`` on; returns before the copy is done."""
        if self._copied is not None:
            self._copied.synchronize()  # the staging memory is free again
        with _cuda.stream(side):  # nothing on a CPU
            if side is not None and self._used is not None:
                side.wait_event(self._used)
            for p, staging, buffer in zip(self._host, self._staging, self._buffers, strict=True):
                rows = p[begin : begin + self._chunk]
                if staging is not None:
                    rows = staging[: len(rows)].copy_(rows)
                buffer[: len(rows)].copy_(rows, non_blocking=True)
            if side is not None and self._copied is not None:
                self._copied.record(side)

    def ready(self, begin: int) -> Tile:
        """Return the tile after making the current stream wait for its copy."""
        end = min(begin + self._chunk, len(self._host[0]))
        if self._copied is not None:
            self._copied.wait()
        return Tile(begin, end, tuple(b[: end - begin] for b in self._buffers))

    def release(self) -> None:
        """Mark that all work that reads the tile has been queued on the current stream."""
        if self._used is not None:
            self._used.record()


def _free_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return ALL_VALID
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) * 3 // 4
