"""BMMAL: BADGE with the part of each modality scaled by its contribution to the prediction."""

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
        Signed Shapley values. phi are their absolute values, normalized to sum 1 in each row (uniform
        if all are 0).
    present : bool array [N, M] or None
        The factor of an absent modality is 0.

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

    The embedding of a sample is (p - onehot(argmax p)) (x) [s_1 f_1, ..., s_M f_M]. The factor s_m
    reduces the part of a modality by the difference between its Shapley contribution to the predicted
    class and that of the strongest modality. Samples are drawn as in BADGE. The fused head is
    ``QueryContext.head``, the fusion weights are ``QueryContext.fusion_weights``.
    """

    name: ClassVar[str] = "bmmal"
    summary: ClassVar[str] = "BADGE with modalities balanced by their Shapley contributions"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "modality_features", "logits", "head"})
    on_device: ClassVar[bool] = True

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are distances to the nearest sample drawn before; for the first sample, its norm."""
        with stages("contributions"):
            residuals, features, scales = self.embedding(pool, context)
        with stages("draw"):
            drawn = kernels.gradient_kmeans_plusplus(
                residuals, features, n, scales=scales, rng=context.rng
            )
        return Choice(drawn.indices, drawn.distances)

    def embedding(self, pool: PoolOutputs, context: QueryContext) -> tuple[Any, list[Any], Any]:
        """The factors of the samples' embeddings: residuals [N, C], features [N, d_m], scales [N, M]."""
        residuals = kernels.gradient_residuals(pool.fused_logits)
        scales = match_kind(self._scales(pool, context), residuals)
        features = list(pool.features.values())
        if pool.present is not None:  # rows of an absent modality have no meaning
            there = match_kind(pool.present, residuals)
            features = [_kept(f, there[:, k, None]) for k, f in enumerate(features)]
        return residuals, features, scales

    def _scales(self, pool: PoolOutputs, context: QueryContext) -> NDArray[np.float64]:
        m = len(pool.modalities)
        if m == 1:
            return modality_scales(np.ones((len(pool), 1)), pool.present)
        head, w = context.head_for(pool), context.fusion_weights_for(pool)
        features = list(pool.features.values())
        with np.errstate(over="ignore", invalid="ignore"):  # the kernel below names the row
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
    """Features with 0 in the rows of an absent modality."""
    if isinstance(features, np.ndarray):
        return np.where(there, features, 0)
    return features.masked_fill(~there, 0)
