"""Memory-bound operations: variance, normalization, score, selection of the largest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench import plain
from bench.gpu.case import Aim, Case, Floor, Shape, Work
from bench.gpu.data import assert_close, normal
from rlmba import kernels
from rlmba.kernels import dispatch
from rlmba.kernels.fused_score.on_device import normalized_score

__all__ = ["CASES"]

_WEIGHTS = (0.4, 0.6)
_CHECKED = 1_000


def _logits(shape: Shape, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    size = (shape["rows"], shape["classes"])
    return [3 * normal(size, device, dtype, seed) for seed in range(shape["modalities"])]


def _peers(
    form: Callable[..., Any], device: torch.device, *arguments: Any, compiled: bool = False
) -> dict[str, Callable[[], Any]]:
    """A plain implementation and, on a GPU, its version by torch.compile."""
    peers = {"torch": lambda: form(*arguments)}
    if compiled and device.type == "cuda":
        fast = torch.compile(form)
        peers["torch.compile"] = lambda: fast(*arguments)
    return peers


def _variance(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    logits = _logits(shape, dtype, device)
    some = [z[:: max(1, len(z) // _CHECKED)].cpu().double().numpy() for z in logits]
    exact = kernels.dirichlet_variance(
        some, kind="logits", weights=list(_WEIGHTS), backend="reference"
    )

    def ours(backend: str) -> tuple[Tensor, Tensor]:
        return kernels.dirichlet_variance(
            logits, kind="logits", weights=list(_WEIGHTS), backend=backend
        )

    def check(answer: tuple[Tensor, Tensor], _is_ours: bool) -> None:
        step = max(1, shape["rows"] // _CHECKED)
        for values, expected, what in zip(answer, exact, ("fused", "modality"), strict=True):
            assert bool(torch.isfinite(values).all()), f"{what}: not finite"
            assert_close(values[::step], torch.as_tensor(expected), rtol=1e-4, atol=1e-9, what=what)

    peers = _peers(plain.dirichlet_variances, device, logits, _WEIGHTS, compiled=True)
    return Work(ours, peers, check)


def _variance_floor(shape: Shape, item: int) -> Floor:
    """Logits are read; fused and M values per row are written. About ten operations per logit."""
    n, m = shape["rows"], shape["modalities"]
    read = n * shape["classes"] * m
    return Floor(read * item + n * (m + 1) * 4, 10 * read)


def _minmax(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    x = normal((shape["rows"],), device, dtype, 0)
    expected = plain.minmax(x.double())

    def check(answer: Tensor, _is_ours: bool) -> None:
        assert_close(answer, expected, rtol=1e-6, atol=1e-7, what="minmax")
        assert (float(answer.min()), float(answer.max())) == (0, 1)

    peers = _peers(plain.minmax, device, x)
    return Work(lambda backend: kernels.minmax(x, backend=backend), peers, check)


def _minmax_floor(shape: Shape, item: int) -> Floor:
    """Two reads, since the extremes come first, and one write."""
    return Floor(shape["rows"] * (2 * item + 4), 4 * shape["rows"])


def _score(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    logits = _logits(shape, dtype, device)
    distances = 20 + normal((shape["rows"],), device, torch.float32, 9)
    expected = plain.fused_score([z.double() for z in logits], _WEIGHTS, distances.double())

    def ours(backend: str) -> Tensor:
        score: Tensor = kernels.fused_score(
            logits, list(_WEIGHTS), distances=distances, backend=backend
        ).score
        return score

    def check(answer: Tensor, _is_ours: bool) -> None:
        assert_close(answer, expected, rtol=1e-3, atol=1e-3, what="score")

    peers = _peers(plain.fused_score, device, logits, _WEIGHTS, distances)
    return Work(ours, peers, check)


def _score_floor(shape: Shape, item: int) -> Floor:
    """Two passes, since the extremes come first: logits and distances; then u_m and distances again.

    Written are u_m and U, then normalized u_m and d, and q.
    """
    n, m, c = shape["rows"], shape["modalities"], shape["classes"]
    first = n * (m * c * item + 4 + 4 * m + 4)
    second = n * (4 * m + 4 + 4 * m + 4 + 4)
    return Floor(first + second, n * (10 * m * c + 4 * (m + 1)))


def _second_pass(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    uncertainty = normal((shape["rows"], shape["modalities"]), device, dtype, 0).square_()
    distances = 20 + normal((shape["rows"],), device, dtype, 9)
    expected = plain.normalized_score(uncertainty.double(), distances.double(), _WEIGHTS)

    def ours(backend: str) -> Tensor:
        if backend in dispatch.ACCELERATED:
            return normalized_score(uncertainty, distances, _WEIGHTS, backend, beta=1.0).score
        unit: Tensor = kernels.minmax(uncertainty, backend=backend)
        near: Tensor = kernels.minmax(distances, backend=backend)
        return near + unit @ unit.new_tensor(_WEIGHTS)

    def check(answer: Tensor, _is_ours: bool) -> None:
        assert_close(answer, expected, rtol=1e-5, atol=1e-6, what="score")

    peers = _peers(plain.normalized_score, device, uncertainty, distances, _WEIGHTS, compiled=True)
    return Work(ours, peers, check)


def _second_pass_floor(shape: Shape, item: int) -> Floor:
    """u_m and d read twice, since the extremes come first; normalized u_m and d, and q written."""
    columns = shape["modalities"] + 1
    return Floor(shape["rows"] * item * (3 * columns + 1), 6 * shape["rows"] * columns)


def _top_k(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    values = normal((shape["rows"],), device, dtype, 0)
    k = shape["k"]
    exact = torch.sort(values, descending=True, stable=True)
    best, positions = exact.values[:k].clone(), exact.indices[:k].clone()
    del exact

    def check(answer: tuple[Tensor, Tensor], is_ours: bool) -> None:
        found, indices = answer
        assert torch.equal(found, best), "not the largest values"
        if is_ours:  # torch.topk does not specify which of equal values it takes
            assert torch.equal(indices, positions), "ties not by position"
        assert torch.equal(values[indices], best), "positions of other values"

    def ours(backend: str) -> tuple[Tensor, Tensor]:
        return kernels.top_k(values, k, backend=backend)

    return Work(ours, {"torch.topk": lambda: tuple(torch.topk(values, k))}, check)


def _top_k_floor(shape: Shape, item: int) -> Floor:
    """Values are read; k values and positions are written. One comparison per value."""
    return Floor(shape["rows"] * item + shape["k"] * (item + 8), shape["rows"])


_VARIANCE = {"rows": 1_000_000, "classes": 309, "modalities": 2}
_TINY = {"rows": 257, "classes": 7, "modalities": 2}

CASES = (
    *(
        Case(
            name=f"dirichlet_variance {dtype}",
            ops=("dirichlet_variance",),
            group="dirichlet_variance",
            dtype=dtype,
            full=_VARIANCE,
            tiny=_TINY,
            floor=_variance_floor,
            make=_variance,
            aim=Aim("copy", 0.85),
        )
        for dtype in ("bfloat16", "float32")
    ),
    Case(
        name="minmax",
        ops=("minmax",),
        group="score",
        dtype="float32",
        full={"rows": 10_000_000},
        tiny={"rows": 1_025},
        floor=_minmax_floor,
        make=_minmax,
        aim=Aim("copy", 0.85),
    ),
    Case(
        name="minmax and score",
        ops=("fused_score",),
        group="score",
        dtype="float32",
        full={"rows": 10_000_000, "modalities": 2},
        tiny={"rows": 1_025, "modalities": 2},
        floor=_second_pass_floor,
        make=_second_pass,
        aim=Aim("copy", 0.85),
    ),
    Case(
        name="fused_score",
        ops=("fused_score",),
        group="score",
        dtype="float32",
        full={"rows": 10_000_000, "classes": 10, "modalities": 2},
        tiny=_TINY,
        floor=_score_floor,
        make=_score,
        aim=Aim("copy", 0.85),
    ),
    Case(
        name="top_k",
        ops=("top_k",),
        group="top_k",
        dtype="float32",
        full={"rows": 10_000_000, "k": 5_000},
        tiny={"rows": 1_025, "k": 9},
        floor=_top_k_floor,
        make=_top_k,
        aim=Aim("times", 3, "torch.topk"),
    ),
)
