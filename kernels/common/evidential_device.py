"""Arguments of operations on Dirichlet evidence, checked and moved to a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlmba.errors import DataError, ShapeError, UsageError
from rlmba.kernels.common import arrays, device, evidential

MAX_MODALITIES = 64
"""Maximum number of modalities that the kernels take."""


@dataclass(frozen=True, eq=False)
class Modalities:
    """M tensors [N, C] of one dtype, in the caller's memory, and how they become alpha.

    ``weights`` is float64 [M] on the host, or None. ``row_weights`` [N, M], of the result's dtype,
    and ``present`` uint8 [N, M] are on ``device``, or None. ``checks`` holds the row flags of
    checks made on the device, each with the function that raises its error.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    evidence: str
    temperatures: NDArray[np.float64]
    device: torch.device
    weights: NDArray[np.float64] | None = None
    row_weights: Tensor | None = None
    present: Tensor | None = None
    checks: list[tuple[Tensor, Callable[[int], NoReturn]]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """N, the number of rows."""
        return int(self.tensors[0].shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of results."""
        return device.result_dtype(*self.tensors)

    @property
    def code(self) -> int:
        """The number of the evidence function in the kernels."""
        return evidential.CODES[self.evidence]

    def require_valid(self) -> None:
        """Raise the error of the first failed check; waits for the GPU except during graph capture."""
        for flag, fail in self.checks:
            row = device.read_flag(flag)
            if row is not None:
                fail(row)

    def invalid_row(self, row: int) -> NoReturn:
        """Raise the error for an invalid row, with the other backends' message."""
        here = tuple(_only_row(t, row) for t in self.tensors)
        present = None if self.present is None else _only_row(self.present, row) != 0
        inputs = evidential.Modalities(
            here, self.names, self.evidence, self.temperatures, None, present
        )
        raise inputs.invalid_row(row)


def _only_row(t: Tensor, row: int) -> NDArray[Any]:
    """Return an array whose row ``row`` is that of ``t``, without memory for other rows."""
    values = t[row].to("cpu")
    if values.is_floating_point():
        values = values.to(device.result_dtype(t))
    return np.broadcast_to(values.numpy(), (row + 1, t.shape[1]))


def gather(
    x: Sequence[arrays.ArrayLike], *, single: bool, kind: str, evidence: str, temperature: Any
) -> Modalities:
    """Like :func:`evidential.gather`, for arrays in any memory.

    Raises
    ------
    ShapeError, UsageError
        As in :func:`evidential.gather`, and for more than :data:`MAX_MODALITIES` modalities.
    """
    names, name, temperatures = evidential.check_options(
        len(x), single=single, kind=kind, evidence=evidence, temperature=temperature
    )
    if len(x) > MAX_MODALITIES:
        raise UsageError(f"x: expected at most {MAX_MODALITIES} modalities, got {len(x)}")
    tensors = class_rows(x, names)
    return Modalities(tensors, names, name, temperatures, device.compute_device(*tensors))


def class_rows(x: Sequence[arrays.ArrayLike], names: Sequence[str]) -> tuple[Tensor, ...]:
    """Like :func:`evidential.class_rows`, but keep half precision if all arrays have one dtype."""
    floats = [device.as_float(a, name, ndim=2) for a, name in zip(x, names, strict=True)]
    for a, name in zip(floats, names, strict=True):
        evidential.require_classes(tuple(a.shape), tuple(floats[0].shape), name)
    if len({a.dtype for a in floats}) > 1:
        floats = [a.to(device.result_dtype(*floats)) for a in floats]
    return tuple(floats)


def weigh(inputs: Modalities, weights: Any) -> Modalities:
    """Add weights to ``inputs``: [M] is checked at once, [N, M] by one of its row flags.

    Raises
    ------
    ShapeError, UsageError
        As :func:`evidential.simplex_weights`.
    """
    n, m = inputs.rows, len(inputs.tensors)
    is_array = isinstance(weights, arrays.SupportsDLPack) and not isinstance(weights, np.ndarray)
    if is_array and device.tensor(weights).ndim == 1:
        weights = device.tensor(weights).cpu().double().numpy()
        is_array = False
    w = device.tensor(weights if is_array else evidential.numbers(weights, "weights"))
    if w.ndim == 1 or tuple(w.shape) != (n, m):
        shared = evidential.simplex_weights(w.cpu().double().numpy(), n, m)[0]
        return _with(inputs, weights=shared)
    exact = device.to_device(w, inputs.device).to(torch.float64)
    good = (exact >= 0).all(dim=1) & ((exact.sum(dim=1) - 1).abs() <= 1e-4)

    def fail(row: int) -> NoReturn:
        raise DataError(f"weights[{row}]: {evidential.describe_weights(exact[row].cpu().numpy())}")

    inputs.checks.append((first_true(~good), fail))
    return _with(inputs, row_weights=exact.to(inputs.dtype).contiguous())


def presence_mask(value: arrays.ArrayLike, shape: tuple[int, int], where: torch.device) -> Tensor:
    """Return ``present`` bool [N, M] as uint8 on the device.

    Raises
    ------
    ShapeError
        For another shape or dtype.
    """
    p = device.tensor(value, "present")
    if p.dtype != torch.bool or tuple(p.shape) != shape:
        kind = str(p.dtype).removeprefix("torch.")
        raise ShapeError(
            f"present: expected a bool array of shape {shape}, got {kind} {tuple(p.shape)}"
        )
    return device.to_device(p.contiguous().view(torch.uint8), where)


def presence(inputs: Modalities, value: arrays.ArrayLike) -> Modalities:
    """Add ``present`` bool [N, M] to ``inputs``; a row flag checks that each row has a modality.

    Raises
    ------
    ShapeError
        For another shape or dtype.
    """
    there = presence_mask(value, (inputs.rows, len(inputs.tensors)), inputs.device)

    def fail(row: int) -> NoReturn:
        raise DataError(evidential.describe_missing(row))

    inputs.checks.append((first_true((there == 0).all(dim=1)), fail))
    return _with(inputs, present=there)


def row_weights(inputs: Modalities) -> Tensor:
    """Weights [N, M] over the present modalities, or [1, M], on the device, without a host copy."""
    w = inputs.row_weights
    if w is None:
        assert inputs.weights is not None
        w = torch.empty((1, len(inputs.tensors)), dtype=inputs.dtype, device=inputs.device)
        for k, value in enumerate(inputs.weights.tolist()):
            w[:, k].fill_(value)
    if inputs.present is None:
        return w
    there = inputs.present.to(inputs.dtype)
    w = w * there
    w = torch.where(w.sum(dim=1, keepdim=True) > 0, w, there)
    return (w / w.sum(dim=1, keepdim=True)).contiguous()


def first_true(broken: Tensor) -> Tensor:
    """Return a row flag with the first True row of bool [N], without synchronizing."""
    clear = device.flag(broken.device)
    if broken.numel() == 0:
        return clear
    return torch.where(broken.any(), broken.to(torch.uint8).argmax(), clear)


def _with(inputs: Modalities, **changes: Any) -> Modalities:
    return Modalities(**{**vars(inputs), **changes})
