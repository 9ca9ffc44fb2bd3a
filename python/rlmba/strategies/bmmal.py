"""BMMAL: BADGE with each modality's part scaled by what it contributes to the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.kernels.common.arrays import match_kind, to_host
from rlmba.kernels.shapley_contributions.parts import logit_parts
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Bmmal", "modality_scales"]


def modality_scales(
    contributions: NDArray[np.float64], present: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Factor of each modality's part: 1 for the strongest, 1 - (phi_strongest - phi_m) for the others.

    Parameters
    ----------
    contributions : float64 array [N, M]
        Signed Shapley values; their absolute values, normalized to sum 1 in each row (uniform where all
        are 0), are phi.
    present : bool array [N, M] or None
        The part of an absent modality gets 0.

    Returns
    -------
    float64 array [N, M]
        In [0, 1].
    """
    size = np.abs(contributions)
    total = size.sum(axis=1, keepdims=True)
    phi = np.where(total > 0, size / np.where(total > 0, total, 1), 1 / size.shape[1])
    scales = 1 - (phi.max(axis=1, keepdims=True) - phi)
    return np.asarray(scales if present is None else scales * present)


@dataclass(kw_only=True)
class Bmmal(Strategy):
    """Balanced Multi-Modal Active Learning (Shen et al., ACM Multimedia 2023), for any M.

    The embedding of a sample is (p - onehot(argmax p)) (x) [s_1 f_1, ..., s_M f_M], where s_m lowers the
    part of a modality by as much as its Shapley contribution to the predicted class falls short of the
    strongest one's. Drawn as in BADGE. Needs the fused head (``QueryContext.head``); the fusion weights
    are ``QueryContext.fusion_weights``.
    """

    name: ClassVar[str] = "bmmal"
    summary: ClassVar[str] = "BADGE with modalities balanced by their Shapley contributions"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "modality_features", "logits", "head"})
    on_device: ClassVar[bool] = True

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are distances to the nearest sample drawn before; for the first, its norm."""
        features = list(pool.features.values())
        with stages("contributions"):
            residuals = kernels.gradient_residuals(pool.fused_logits)
            scales = match_kind(self._scales(pool, context), residuals)
        if pool.present is not None:  # what an absent modality's row holds means nothing
            there = match_kind(pool.present, residuals)
            features = [_kept(f, there[:, k, None]) for k, f in enumerate(features)]
        with stages("draw"):
            drawn = kernels.gradient_kmeans_plusplus(
                residuals, features, n, scales=scales, rng=context.rng
            )
        return Choice(drawn.indices, drawn.distances)

    def _scales(self, pool: PoolOutputs, context: QueryContext) -> NDArray[np.float64]:
        m = len(pool.modalities)
        if m == 1:
            return modality_scales(np.ones((len(pool), 1)), pool.present)
        head, w = context.head_for(pool), context.fusion_weights_for(pool)
        features = list(pool.features.values())
        with np.errstate(over="ignore", invalid="ignore"):  # named below, by the kernel
            parts = logit_parts(features, head.weight, w, pool.present)
        contributions = kernels.shapley_contributions(
            parts,
            pool.fused_logits.argmax(axis=1),
            bias=head.bias,
            present=pool.present,
            rng=context.rng,
        )
        return modality_scales(to_host(contributions), pool.present)


def _kept(features: Any, there: Any) -> Any:
    """Features with 0 where a row is not there, whatever it holds."""
    if isinstance(features, np.ndarray):
        return np.where(there, features, 0)
    return features.masked_fill(~there, 0)
