"""The whole RL-MBA selection of a round on a GPU: k-means, score, candidates, draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench import plain
from bench.gpu.case import Aim, Case, Floor, Shape, Work
from bench.gpu.data import assert_close, assert_distinct, features, normal
from rlmba import kernels
from rlmba.errors import BackendError

__all__ = ["CASES"]

_WEIGHTS = (0.4, 0.6)
_KAPPA, _STEPS = 5, 5


class _Answer(NamedTuple):
    positions: Tensor
    score: Tensor | None = None
    distances: Tensor | None = None


def _serve(backend: str, call: Callable[[str], Any]) -> Any:
    """Use ``backend`` or, if the operation has only the other GPU backend, that one."""
    other = {"cuda": "triton", "triton": "cuda"}.get(backend)
    try:
        return call(backend)
    except BackendError:
        if other is None:
            raise
        return call(other)


def _select(fused: Tensor, logits: list[Tensor], n: int, candidates: int, backend: str) -> _Answer:
    near = _serve(
        backend, lambda b: kernels.kmeans(fused, n, rng=0, max_iter=_STEPS, backend=b)
    ).distances
    q = _serve(
        backend,
        lambda b: kernels.fused_score(logits, list(_WEIGHTS), distances=near, backend=b),
    ).score
    best = _serve(backend, lambda b: kernels.top_k(q, candidates, backend=b))
    z = (best.values - best.values.mean()) / best.values.std(correction=0)
    drawn = _serve(backend, lambda b: kernels.plackett_luce(z, n, rng=0, backend=b)).indices
    return _Answer(best.indices[drawn], q, near)


def _make(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    rows, n = shape["rows"], shape["batch"]
    count = min(_KAPPA * n, rows)
    fused = features(rows, shape["width"], device, dtype, 0)
    size = (rows, shape["classes"])
    logits = [3 * normal(size, device, dtype, seed) for seed in range(shape["modalities"])]

    def check(answer: _Answer, _is_ours: bool) -> None:
        assert_distinct(answer.positions, n, rows)
        if answer.score is None or answer.distances is None:
            return
        wide = [z.double() for z in logits]
        expected = plain.fused_score(wide, _WEIGHTS, answer.distances.double())
        assert_close(answer.score, expected, rtol=1e-3, atol=1e-3, what="score")
        least = answer.score.topk(count).values[-1]
        assert bool((answer.score[answer.positions] >= least).all()), "drawn from no candidate"

    def torch_form() -> _Answer:
        return _Answer(plain.rlmba_selection(fused, logits, _WEIGHTS, n, kappa=_KAPPA))

    return Work(
        lambda backend: _select(fused, logits, n, count, backend), {"torch": torch_form}, check
    )


def _floor(shape: Shape, item: int) -> Floor:
    """k-means and one read of the logits; scores and candidates are small in comparison."""
    n, k, d = shape["rows"], shape["batch"], shape["width"]
    logits = n * shape["classes"] * shape["modalities"]
    passes = 1 + _STEPS
    return Floor((passes * n * d + logits) * item, 2 * passes * n * k * d + 10 * logits)


_SIZES = {
    "food101": ({"rows": 44_719, "classes": 101}, 10),
    "vggsound": ({"rows": 102_243, "classes": 309}, 25),
}

CASES = tuple(
    Case(
        name=f"selection {name}",
        ops=("kmeans", "fused_score", "top_k", "plackett_luce"),
        group="selection",
        dtype="float32",
        full={**size, "width": 512, "modalities": 2, "batch": 1_000},
        tiny={"rows": 70, "classes": 5, "width": 9, "modalities": 2, "batch": 3},
        floor=_floor,
        make=_make,
        aim=Aim("milliseconds", milliseconds),
        backends=("auto",),
    )
    for name, (size, milliseconds) in _SIZES.items()
)
