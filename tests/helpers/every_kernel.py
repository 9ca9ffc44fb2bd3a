"""One small call of every kernel by name, for tests of what all of them do with their arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from rlmba import kernels

GPU = ("triton",)


class Case(NamedTuple):
    """Arrays by name, how to call the kernel with them in this order, and the GPU backends that it has."""

    arrays: Callable[[np.random.Generator, str], dict[str, np.ndarray]]
    call: Callable[..., Any]
    gpu: tuple[str, ...] = GPU


def _rows(*shapes):
    """Random float arrays a, b, c, ... of these shapes."""
    return lambda rng, dtype: {
        name: rng.normal(size=shape).astype(dtype)
        for name, shape in zip("abc", shapes, strict=False)
    }


def _dirichlet(rng, dtype):
    return _rows((20, 3), (20, 3))(rng, dtype) | {"weights": rng.dirichlet(np.ones(2), 20)}


def _fused(rng, dtype):
    present = rng.random((20, 2)) < 0.8
    present[:, 0] |= ~present[:, 1]
    weights = np.array([0.25, 0.75])
    return _rows((20, 3), (20, 3), (20,))(rng, dtype) | {"weights": weights, "present": present}


def _shapley(rng, dtype):
    present = np.ones((20, 2), bool)
    present[3, 1] = False
    more = {"labels": rng.integers(3, size=20), "bias": rng.normal(size=3), "present": present}
    return _rows((20, 3), (20, 3))(rng, dtype) | more


def _masked(rng, dtype):
    return _rows((20, 2))(rng, dtype) | {"mask": rng.random((20, 2)) < 0.7}


def _graph(rng, dtype):
    return _rows((20, 4))(rng, dtype) | {"labeled": np.arange(20) < 5}


def _herding(rng, dtype):
    present = rng.random((20, 2)) < 0.8
    utility = rng.random(20).astype(dtype)
    more = {"present": present, "utility": utility, "candidates": rng.permutation(20)[:9]}
    labeled = rng.normal(size=(2, 2)).astype(dtype)
    return _rows((20, 3), (20, 2), (2, 3))(rng, dtype) | {"d": labeled} | more


def _order(rng, dtype):
    return _rows((20,))(rng, dtype) | {"indices": rng.permutation(20)[:6]}


CASES = {
    "bald_score": Case(_rows((3, 20, 4)), kernels.bald_score),
    "deepfool_distance": Case(_rows((20, 3), (3, 5)), kernels.deepfool_distance),
    "dirichlet_variance": Case(
        _dirichlet,
        lambda a, b, weights, **o: kernels.dirichlet_variance(
            [a, b], weights=weights, kind="logits", **o
        ),
        ("triton", "cuda"),
    ),
    "fused_score": Case(
        _fused,
        lambda a, b, c, weights, present, **o: kernels.fused_score(
            [a, b], weights, distances=c, present=present, **o
        ),
        ("triton", "cuda"),
    ),
    "gradient_kmeans_plusplus": Case(
        _rows((20, 3), (20, 4), (20, 1)),
        lambda a, b, c, **o: kernels.gradient_kmeans_plusplus(a, b, 4, rng=0, scales=c, **o),
    ),
    "gradient_residuals": Case(_rows((20, 3)), kernels.gradient_residuals),
    "graph_propagate": Case(
        _rows((20, 3), (20, 2)), lambda a, b, **o: kernels.graph_propagate(a, b, **o)[:2]
    ),
    "herding": Case(
        _herding,
        lambda a, b, c, d, present, utility, candidates, **o: kernels.herding(
            {"a": a, "b": b},
            4,
            labeled={"a": c, "b": d},
            present=present,
            utility=utility,
            candidates=candidates,
            **o,
        ),
    ),
    "k_center": Case(
        _rows((20, 3), (2, 3)), lambda a, b, **o: kernels.k_center(a, 4, labeled=b, **o)
    ),
    "kmeans": Case(_rows((20, 3)), lambda a, **o: kernels.kmeans(a, 3, rng=0, **o)),
    "kmeans_plusplus": Case(
        _rows((20, 3)), lambda a, **o: kernels.kmeans_plusplus(a, 3, rng=0, **o)
    ),
    "min_distance": Case(
        _rows((20, 3), (4, 3)),
        kernels.min_distance,
        ("triton", "cuda"),
    ),
    "minmax": Case(
        _masked, lambda a, mask, **o: kernels.minmax(a, mask=mask, **o), ("triton", "cuda")
    ),
    "plackett_luce": Case(_rows((20,)), lambda a, **o: kernels.plackett_luce(a, 5, rng=0, **o)),
    "plackett_luce_log_prob": Case(_order, kernels.plackett_luce_log_prob),
    "sequential_gcn": Case(
        _graph,
        lambda a, labeled, **o: kernels.sequential_gcn(a, labeled, rng=0, epochs=2, hidden=4, **o)[
            :2
        ],
        (),
    ),
    "shapley_contributions": Case(
        _shapley,
        lambda a, b, labels, bias, present, **o: kernels.shapley_contributions(
            [a, b], labels, bias=bias, present=present, **o
        ),
    ),
    "tile_radius": Case(_rows((20, 3)), lambda a, **o: kernels.tile_radius(a, 3, **o)),
    "top_k": Case(_rows((20,)), lambda a, **o: kernels.top_k(a, 5, **o), ("triton", "cuda")),
}
"""Every exported operation."""

ON_GPU = [(name, backend) for name, case in CASES.items() for backend in case.gpu]
"""Kernels and the GPU backends that serve them, for ``parametrize(("name", "backend"), ...)``."""


def numbers(result):
    """The arrays of a result as NumPy arrays, in their order."""
    parts = result if isinstance(result, tuple) else (result,)
    return [p.numpy() if isinstance(p, torch.Tensor) else np.asarray(p) for p in parts]


def assert_same(ours, theirs):
    """Two results that are the same to the last bit."""
    for a, b in zip(numbers(ours), numbers(theirs), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
