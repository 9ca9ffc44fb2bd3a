"""DeepFool: the smallest change of the fused features that changes the predicted class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlmba import kernels
from rlmba.kernels.common.arrays import match_kind, to_host
from rlmba.strategies.base import TopScore
from rlmba.strategies.geometry import fused_head
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["DeepFool"]


@dataclass(kw_only=True)
class DeepFool(TopScore):
    """The n samples nearest to a decision boundary of the fused head.

    References
    ----------
    Ducoffe and Precioso, "Adversarial active learning for deep networks: a margin based approach", 2018.
    """

    name: ClassVar[str] = "deepfool"
    summary: ClassVar[str] = "nearest to a decision boundary of the fused head (DeepFool)"
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "head"})

    def score(self, pool: PoolOutputs, context: QueryContext) -> Any:
        """Minus the l2 distance of the fused features to the nearest other class.

        If no other class can be reached (see :func:`~rlmba.kernels.deepfool_distance`), the distance
        is infinite. Such samples come last, with the smallest finite float64 as their score.

        Raises
        ------
        UsageError
            If the context has no head.
        ShapeError
            If the head does not fit the pool.
        """
        weight = match_kind(fused_head(self.name, pool, context).weight, pool.fused_logits)
        distances = to_host(kernels.deepfool_distance(pool.fused_logits, weight).distances)
        return np.maximum(-distances, np.finfo(np.float64).min)
