"""Operations on distances: assignment, k-means, k-center."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench import plain
from bench.gpu.case import Aim, Case, Floor, Shape, Work
from bench.gpu.data import assert_close, assert_distinct, distances_to, features
from rlmba import kernels

__all__ = ["CASES"]

_CHECKED = 1_000
_STEPS = 5
Labels = tuple[Tensor, Tensor]


def _check_nearest(
    x: Tensor, centers: Tensor, labels: Tensor, distances: Tensor | None, *, ours: bool
) -> None:
    """Check on some rows that the label is a nearest center and, if ours, the distance is right.

    A peer's products are rounded to bfloat16 or TF32, so its choice may be off by this rounding.
    """
    some = torch.arange(0, len(x), max(1, len(x) // _CHECKED), device=x.device)
    exact = distances_to(x[some], centers)
    taken = exact.gather(1, labels[some].long()[:, None]).squeeze(1)
    least = exact.min(dim=1).values
    if ours:
        assert bool((taken <= least * (1 + 1e-3)).all()), "a center that is not the nearest"
        assert distances is not None
        assert_close(distances[some], taken, rtol=1e-3, atol=1e-6, what="distances")
    else:
        norms = x[some].double().norm(dim=1) * centers.double().norm(dim=1).max()
        slack = 2**-6 * norms
        assert bool((taken**2 <= least**2 + slack).all()), "a center that is far from the nearest"


def _flash(device: torch.device) -> bool:
    return device.type == "cuda" and importlib.util.find_spec("flash_kmeans") is not None


def _assignment(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    rows, k = shape["rows"], shape["k"]
    x = features(rows, shape["width"], device, dtype, 0)
    centers = x[:: rows // k][:k].clone() + torch.rand((), device=device).to(dtype)

    def ours(backend: str) -> Labels:
        found = kernels.min_distance(x, centers, backend=backend)
        return found.indices, found.distances

    def torch_form() -> Labels:
        squared, labels = plain.nearest_by_product(x, centers)
        return labels, squared.sqrt()

    def check(answer: tuple[Tensor, Tensor | None], is_ours: bool) -> None:
        labels, distances = answer
        _check_nearest(x, centers, labels, distances, ours=is_ours)

    peers: dict[str, Callable[[], Any]] = {"torch": torch_form}
    if _flash(device):
        from flash_kmeans.assign_euclid_triton import euclid_assign_triton

        squares = (x.float() ** 2).sum(1)  # its loop computes them once, before the first step

        def flash() -> tuple[Tensor, None]:
            return euclid_assign_triton(x[None], centers[None], squares[None])[0], None

        peers["flash-kmeans"] = flash
    return Work(ours, peers, check)


def _assignment_floor(shape: Shape, item: int) -> Floor:
    """Rows and centers are read, a label and a distance per row are written; one product."""
    n, k, d = shape["rows"], shape["k"], shape["width"]
    return Floor((n + k) * d * item + n * 12, 2 * n * k * d)


def _kmeans(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    k = shape["k"]
    x = features(shape["rows"], shape["width"], device, dtype, 0)
    reference = plain.kmeans_one_a_pass(x, k, steps=_STEPS, seed=1)
    usual = float((reference[2].double() ** 2).sum())
    del reference

    def ours(backend: str) -> tuple[Tensor, Tensor, Tensor]:
        return kernels.kmeans(x, k, rng=0, max_iter=_STEPS, backend=backend)[:3]

    def check(answer: tuple[Tensor, Tensor, Tensor | None], is_ours: bool) -> None:
        centers, labels, distances = answer
        _check_nearest(x, centers, labels, distances, ours=is_ours)
        if distances is not None:
            assert float((distances.double() ** 2).sum()) < shape["slack"] / 100 * usual, (
                "clusters are too wide"
            )

    peers: dict[str, Callable[[], Any]] = {
        "torch": lambda: plain.kmeans_one_a_pass(x, k, steps=_STEPS)
    }
    if _flash(device):
        peers["flash-kmeans"] = lambda: _flash_kmeans(x, k)
    return Work(ours, peers, check)


def _flash_kmeans(x: Tensor, k: int) -> tuple[Tensor, Tensor, None]:
    """Its Lloyd steps after the plain seeding; its last labels belong to the previous centers."""
    from flash_kmeans import batch_kmeans_Euclid
    from flash_kmeans.assign_euclid_triton import euclid_assign_triton

    start = x[plain.kmeans_plusplus_one_a_pass(x, k)][None]
    centers = batch_kmeans_Euclid(x[None], k, max_iters=_STEPS, tol=-1.0, init_centroids=start)[1]
    squares = (x.float() ** 2).sum(1)
    labels = euclid_assign_triton(x[None], centers.to(x.dtype), squares[None])
    return centers[0], labels[0], None


def _kmeans_floor(shape: Shape, item: int) -> Floor:
    """Rows are read once for the seeding and once per step, with as many products."""
    n, k, d = shape["rows"], shape["k"], shape["width"]
    return Floor((1 + _STEPS) * n * d * item + n * 12, 2 * (1 + _STEPS) * n * k * d)


def _k_center(shape: Shape, dtype: torch.dtype, device: torch.device) -> Work:
    rows, b = shape["rows"], shape["batch"]
    x = features(rows, shape["width"], device, dtype, 0)
    none = x[:0]

    def ours(backend: str) -> Labels:
        found = kernels.k_center(x, b, first=0, backend=backend)
        return found.indices, found.distances

    def one_a_pass() -> Labels:
        picks, reach = plain.k_center_one_a_pass(x, none, b, first=0)
        return torch.as_tensor(picks, device=device), torch.as_tensor(reach, device=device)

    def check(answer: Labels, _is_ours: bool) -> None:
        picks, distances = answer
        assert_distinct(picks, b, rows)
        among = distances_to(x[picks], x[picks])
        for i in range(1, b):
            among[i, i:] = torch.inf
        before = among[1:].min(dim=1).values
        assert_close(distances[1:], before, rtol=1e-5, atol=1e-6, what="distances")
        for i in {1, b // 2, b - 1} - {0}:  # no row was farther than the one picked
            some = distances_to(x[:: max(1, rows // 20_000)], x[picks[:i]])
            assert float(some.min(dim=1).values.max()) <= float(before[i - 1]) * (1 + 1e-5)

    return Work(ours, {"torch, one a pass": one_a_pass}, check)


def _k_center_floor(shape: Shape, item: int) -> Floor:
    """Rows are read once; the operations are those of the plain algorithm, more than a lazy one needs."""
    n, b, d = shape["rows"], shape["batch"], shape["width"]
    return Floor(n * d * item + 16 * b, 2 * n * b * d)


# "slack": percentage of the plain form's sum of squared distances that others may have. With few
# clusters in a small pool, results vary a lot.
_POOL = {"rows": 102_243, "width": 512}

CASES = (
    Case(
        name="assignment",
        ops=("min_distance",),
        group="assignment",
        dtype="bfloat16",
        full={"rows": 1_000_000, "width": 512, "k": 1_000},
        tiny={"rows": 131, "width": 17, "k": 5},
        floor=_assignment_floor,
        make=_assignment,
        aim=Aim("matmul", 0.6),
    ),
    *(
        Case(
            name=f"kmeans {dtype}",
            ops=("kmeans",),
            group="kmeans",
            dtype=dtype,
            full={**_POOL, "k": 1_000, "slack": 110},
            tiny={"rows": 70, "width": 9, "k": 3, "slack": 300},
            floor=_kmeans_floor,
            make=_kmeans,
            aim=Aim("milliseconds", 10),
        )
        for dtype in ("float32", "bfloat16")
    ),
    Case(
        name="k_center",
        ops=("k_center",),
        group="k_center",
        dtype="float32",
        full={**_POOL, "batch": 1_000},
        tiny={"rows": 70, "width": 9, "batch": 4},
        floor=_k_center_floor,
        make=_k_center,
        aim=Aim("milliseconds", 40),
    ),
)
