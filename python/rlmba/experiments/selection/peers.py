"""The plain forms of each selection, as active-learning code usually has them, to time ours beside.

Each takes a :class:`~rlmba.experiments.selection.cases.Case` and returns a :class:`Peer`: the seconds of
the whole selection, and what it selected or scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.experiments.selection.cases import Case
from rlmba.strategies.badge import gradient_residuals
from rlmba.strategies.bmmal import modality_scales

__all__ = ["PEERS", "Peer", "gradient_one_a_pass"]


@dataclass(frozen=True, eq=False)
class Peer:
    """What a plain form took, ``seconds``, and what it is: ``form``, a few words for a table."""

    form: str
    seconds: float
    positions: NDArray[np.int64] | None = None


def gradient_one_a_pass(
    residuals: NDArray[Any], features: NDArray[Any], n: int, seed: int = 0
) -> NDArray[np.int64]:
    """k-means++ on a_i (x) z_i, factored, one center a pass over the data, in torch.

    Parameters
    ----------
    residuals : float32 array [N, C]
    features : float32 array [N, D]
    n : int
    seed : int

    Returns
    -------
    int64 array [n]
        Positions, the row of largest norm first.
    """
    a, z = torch.from_numpy(residuals), torch.from_numpy(features)
    norms = (a * a).sum(1) * (z * z).sum(1)
    generator = torch.Generator().manual_seed(seed)
    drawn = [int(norms.argmax())]
    squared = torch.full((len(a),), torch.inf)
    while len(drawn) < n:
        last = drawn[-1]
        to_last = norms + norms[last] - 2 * (a @ a[last]) * (z @ z[last])
        torch.minimum(squared, to_last.clamp_min_(0), out=squared)
        squared[last] = 0
        cumulated = squared.double().cumsum(0)
        target = torch.rand(1, generator=generator, dtype=torch.float64) * cumulated[-1]
        drawn.append(min(int(torch.searchsorted(cumulated, target, right=True)), len(a) - 1))
    return np.array(drawn)


def _timed(form: str, call: Callable[[], NDArray[np.int64]]) -> Peer:
    start = time.perf_counter()
    positions = call()
    return Peer(form, time.perf_counter() - start, positions)


_ONE_A_PASS = "factored, one center a pass (torch)"


def _badge(case: Case) -> Peer:
    def select() -> NDArray[np.int64]:
        residuals = gradient_residuals(case.pool.fused_logits)
        return gradient_one_a_pass(residuals, case.pool.fused_features, case.size.batch)

    return _timed(_ONE_A_PASS, select)


def _bmmal(case: Case) -> Peer:
    """The contributions are not timed: their plain form is no slower than ours is to be shown by."""
    pool, head = case.pool, case.context.head
    if head is None:
        raise AssertionError("make_case gives a head")
    w = np.full(len(pool.modalities), 1 / len(pool.modalities))
    features = list(pool.features.values())
    blocks = np.split(head.weight, len(w), axis=1) if case.size.concat else [head.weight] * len(w)
    scale = np.ones(len(w)) if case.size.concat else w
    parts = [s * (f @ b.T) for s, f, b in zip(scale, features, blocks, strict=True)]
    phi = kernels.shapley_contributions(
        parts, pool.fused_logits.argmax(axis=1), bias=head.bias, rng=0
    )
    scales = modality_scales(phi).astype(np.float32)

    def select() -> NDArray[np.int64]:
        residuals = gradient_residuals(pool.fused_logits)
        scaled = np.concatenate([scales[:, k, None] * f for k, f in enumerate(features)], axis=1)
        return gradient_one_a_pass(residuals, scaled, case.size.batch)

    return _timed(_ONE_A_PASS, select)


PEERS: Mapping[str, Callable[[Case], Peer]] = {"badge": _badge, "bmmal": _bmmal}
"""The plain form of each strategy that has one."""
