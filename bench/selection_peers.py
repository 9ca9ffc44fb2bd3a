"""The plain form of each selection, timed on a case.

Each function takes a :class:`~rlmba.experiments.selection_times.SelectionCase` and returns a
:class:`Peer`, or None where the plain form cannot handle the case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.plain import (
    bald_difference,
    deepfool_iteration,
    dense_gcn,
    gradient_one_a_pass,
    k_center_one_a_pass,
)
from rlmba import kernels
from rlmba.experiments.selection_times import SelectionCase
from rlmba.kernels.sequential_gcn import spec as gcn_spec
from rlmba.kernels.shapley_contributions.parts import logit_parts
from rlmba.strategies.bmmal import modality_scales

__all__ = ["PEERS", "Peer"]


@dataclass(frozen=True, eq=False)
class Peer:
    """A timed plain form: a description for tables, and its seconds.

    ``positions`` are those it selected, where the form is deterministic and made the whole selection.
    """

    form: str
    seconds: float
    positions: NDArray[np.int64] | None = None


def _timed(form: str, call: Callable[[], NDArray[np.int64]]) -> Peer:
    start = time.perf_counter()
    positions = call()
    return Peer(form, time.perf_counter() - start, positions)


_ONE_A_PASS = "factored, one center a pass (torch)"


def _badge(case: SelectionCase) -> Peer:
    def select() -> NDArray[np.int64]:
        residuals = kernels.gradient_residuals(case.pool.fused_logits)
        return gradient_one_a_pass(residuals, case.pool.fused_features, case.size.batch)

    return _timed(_ONE_A_PASS, select)


def _bmmal(case: SelectionCase) -> Peer:
    """Only the draw is timed: our operations compute the contributions beforehand."""
    pool, context = case.pool, case.context
    head = context.head_for(pool)
    features = list(pool.features.values())
    parts = logit_parts(features, head.weight, context.fusion_weights_for(pool))
    phi = kernels.shapley_contributions(
        parts, pool.fused_logits.argmax(axis=1), bias=head.bias, rng=0
    )
    scales = modality_scales(phi).astype(np.float32)

    def select() -> NDArray[np.int64]:
        residuals = kernels.gradient_residuals(pool.fused_logits)
        scaled = np.concatenate([scales[:, k, None] * f for k, f in enumerate(features)], axis=1)
        return gradient_one_a_pass(residuals, scaled, case.size.batch)

    return _timed(_ONE_A_PASS, select)


def _coreset(case: SelectionCase) -> Peer | None:
    labeled = case.context.labeled_for(case.pool)
    if labeled is None:
        return None
    return _timed(
        "torch.cdist, one center a pass",
        lambda: k_center_one_a_pass(case.pool.fused_features, labeled, case.size.batch)[0],
    )


def _bald(case: SelectionCase) -> Peer | None:
    logits = case.pool.dropout_logits
    if logits is None:
        return None
    return _timed(
        "difference of entropies (torch)",
        lambda: np.argsort(-bald_difference(logits), kind="stable")[: case.size.batch],
    )


_FEW = 50


def _deepfool(case: SelectionCase) -> Peer:
    head = case.context.head_for(case.pool)
    start = time.perf_counter()
    deepfool_iteration(head, case.pool.fused_features[:_FEW])
    seconds = (time.perf_counter() - start) * case.size.rows / _FEW
    return Peer(f"autograd, a sample at a time (torch; {_FEW} timed and scaled)", seconds)


_DENSE_ROWS = 20_000
_EPOCHS, _TIMED_EPOCHS = 200, 10


def _gcnal(case: SelectionCase) -> Peer | None:
    labeled = case.context.labeled_features
    if labeled is None or case.size.rows > _DENSE_ROWS:
        return None
    features = np.concatenate([case.pool.fused_features, labeled])
    marks = np.arange(len(features)) >= case.size.rows
    start = gcn_spec.initial_parameters(0, features.shape[1], 128)
    rng = np.random.default_rng(0)
    masks = [
        (rng.random((len(features), 128), dtype=np.float32) > 0.3) / np.float32(0.7)
        for _ in range(_TIMED_EPOCHS)
    ]

    def seconds_of(epochs: int) -> float:
        begin = time.perf_counter()
        dense_gcn(features, marks, start, masks[:epochs])
        return time.perf_counter() - begin

    seconds_of(1)
    once = seconds_of(1)
    epoch = (seconds_of(_TIMED_EPOCHS) - once) / (_TIMED_EPOCHS - 1)
    form = f"dense adjacency (torch; {_TIMED_EPOCHS} epochs timed and scaled)"
    return Peer(form, once + epoch * (_EPOCHS - 1))


PEERS: Mapping[str, Callable[[SelectionCase], Peer | None]] = {
    "badge": _badge,
    "bald": _bald,
    "bmmal": _bmmal,
    "coreset": _coreset,
    "deepfool": _deepfool,
    "gcnal": _gcnal,
}
"""The plain form of each strategy that has one."""
