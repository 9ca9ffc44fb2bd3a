"""BADGE and BMMAL: D^2 sampling of gradient embeddings that are never materialized."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench import plain
from bench.gpu.case import Aim, Case, Floor, Shape, Work
from bench.gpu.data import assert_close, assert_distinct, features, normal
from rlmba import kernels

__all__ = ["CASES"]

_CHECKED = 5_000


def _residuals(rows: int, classes: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Softmax minus the one-hot vector of the most likely class."""
    p = torch.softmax(3 * normal((rows, classes), device, torch.float32, 5), dim=1)
    p[torch.arange(rows, device=device), p.argmax(dim=1)] -= 1
    return p.to(dtype)


def _squared(a: Tensor, z: Tensor, rows: Tensor, drawn: Tensor) -> Tensor:
    """Squared distances [n, b] of gradient embeddings, in float64 by their factors."""
    a1, z1, a2, z2 = (t.double() for t in (a[rows], z[rows], a[drawn], z[drawn]))
    norms, others = ((p * p).sum(1) * (q * q).sum(1) for p, q in ((a1, z1), (a2, z2)))
    inner = (a1 @ a2.T) * (z1 @ z2.T)
    return (norms[:, None] + others - 2 * inner).clamp_min(0)


def _make(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    rows, b, parts = shape["rows"], shape["batch"], shape["parts"]
    a = _residuals(rows, shape["classes"], device, dtype)
    each: Sequence[Tensor] = [
        torch.relu(features(rows, shape["width"] // parts, device, dtype, 10 * p))
        for p in range(parts)
    ]
    scales = None
    whole = each[0]
    if parts > 1:
        scales = 0.5 + torch.rand(rows, parts, device=device, dtype=dtype)
        whole = torch.cat([scales[:, p, None] * f for p, f in enumerate(each)], dim=1)
    some = torch.arange(0, rows, max(1, rows // _CHECKED), device=device)
    expected = torch.as_tensor(plain.gradient_one_a_pass(a, whole, b, seed=1), device=device)
    usual = float(_squared(a, whole, some, expected).min(dim=1).values.sum())

    def ours(backend: str) -> tuple[Tensor, Tensor]:
        return kernels.gradient_kmeans_plusplus(
            a, list(each) if parts > 1 else whole, b, rng=0, scales=scales, backend=backend
        )

    def one_a_pass() -> tuple[Tensor, None]:
        z = whole
        if scales is not None:
            z = torch.cat([scales[:, p, None] * f for p, f in enumerate(each)], dim=1)
        return torch.as_tensor(plain.gradient_one_a_pass(a, z, b), device=device), None

    def check(answer: tuple[Tensor, Tensor | None], _is_ours: bool) -> None:
        drawn, distances = answer
        assert_distinct(drawn, b, rows)
        norms = (a.double() ** 2).sum(1) * (whole.double() ** 2).sum(1)
        assert int(drawn[0]) == int(norms.argmax()), "the first is not the row of largest norm"
        if distances is not None:
            among = _squared(a, whole, drawn, drawn)
            later = torch.ones_like(among, dtype=torch.bool).triu()
            before = among.masked_fill(later, torch.inf)[1:].min(dim=1).values
            assert_close(distances[1:], before.sqrt(), rtol=1e-3, atol=1e-4, what="distances")
        potential = float(_squared(a, whole, some, drawn).min(dim=1).values.sum())
        assert potential < shape["slack"] / 100 * usual, "rows lie far from those drawn"

    return Work(ours, {"torch, one a pass": one_a_pass}, check)


def _floor(shape: Shape, item: int) -> Floor:
    """Residuals and features are read once; inner products of every row with every draw."""
    n, b = shape["rows"], shape["batch"]
    width = shape["classes"] + shape["width"]
    scales = n * shape["parts"] * item if shape["parts"] > 1 else 0
    return Floor(n * width * item + scales + 12 * b, 2 * n * b * width)


# "slack": percentage of the plain draw's sum of squared distances that another draw may leave. With
# few draws from a small pool, results vary a lot.
_FULL = {"rows": 102_243, "classes": 309, "width": 1_024, "batch": 1_000, "slack": 103}
_TINY = {"rows": 70, "classes": 5, "width": 12, "batch": 4, "slack": 300}

CASES = tuple(
    Case(
        name=name,
        ops=("gradient_kmeans_plusplus",),
        group="gradients",
        dtype="float32",
        full={**_FULL, "parts": parts},
        tiny={**_TINY, "parts": parts},
        floor=_floor,
        make=_make,
        aim=Aim("milliseconds", 50),
    )
    for name, parts in (("badge", 1), ("bmmal", 2))
)
