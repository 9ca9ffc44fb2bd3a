"""ALFA-Mix: samples whose predicted class changes when a little of a labeled class is mixed in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.kernels.common.arrays import require_finite
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.strategies.geometry import LLOYD_STEPS, fused_head, labeled_classes, unit_rows
from rlmba.strategies.rlmba_x import one_per_cluster
from rlmba.types import LinearHead, PoolOutputs, QueryContext

__all__ = ["AlfaMix", "critical_mixing"]


def critical_mixing(
    logits: NDArray[Any], features: NDArray[Any], anchors: NDArray[Any], head: LinearHead
) -> NDArray[np.float64]:
    """The smallest mixing ratio epsilon that changes the predicted class of each sample.

    The published closed form moves the features f by epsilon ||z - f|| / sqrt(D) along the gradient of
    the loss for the predicted class, for the anchor z of each class. The head is linear, so the
    logits change linearly with epsilon. The farthest anchor changes the class first.

    Parameters
    ----------
    logits : float array [N, C]
    features : float array [N, D]
    anchors : float array [A, D]
    head : LinearHead

    Returns
    -------
    float64 array [N]
        >= 0; infinite where no mixing changes the class.
    """
    z = np.asarray(logits, dtype=np.float64)
    weight = np.asarray(head.weight, dtype=np.float64)
    rows = np.arange(len(z))
    predicted = z.argmax(axis=1)
    residual = softmax(z, axis=1)
    residual[rows, predicted] -= 1
    change = residual @ (weight @ weight.T)  # of the logits, along the gradient
    length = np.sqrt(np.maximum((residual * change).sum(axis=1), 0))
    gap = z[rows, predicted][:, None] - z
    gain = change - change[rows, predicted][:, None]
    step = np.full(gap.shape, np.inf)
    np.divide(gap * length[:, None], gain, out=step, where=gain > 0)
    f, a = np.asarray(features, dtype=np.float64), np.asarray(anchors, dtype=np.float64)
    reach = (f * f).sum(axis=1)[:, None] - 2 * (f @ a.T) + (a * a).sum(axis=1)
    farthest = np.sqrt(np.maximum(reach.max(axis=1), 0))
    ratio = np.full(len(z), np.inf)
    np.divide(step.min(axis=1) * np.sqrt(f.shape[1]), farthest, out=ratio, where=farthest > 0)
    return ratio


@dataclass(kw_only=True)
class AlfaMix(Strategy):
    """Clusters of the samples whose prediction is changed by mixing in features of labeled classes.

    The anchor of a class is the mean of its labeled fused features, or that of all labeled features if
    it has none. The mixing ratio grows by ``step`` until more samples than the batch change their
    predicted class, or it reaches 1. These candidates are clustered by k-means on features of unit
    length, and each cluster gives the candidate nearest to its center. If clusters are empty, because
    candidates are equal, the candidates nearest to their centers fill the batch. If there are fewer
    candidates than the batch, the others are drawn uniformly.

    Parameters
    ----------
    step : float
        Growth of the mixing ratio, within (0, 1].

    Raises
    ------
    UsageError
        If an option is out of its range; from :meth:`query`, if the head, labeled samples or their
        classes are missing.
    ShapeError, DataError
        From :meth:`query`, if the head or the features of labeled samples do not fit the pool, or are
        not finite.

    References
    ----------
    Parvaneh, Abbasnejad, Teney, Haffari, van den Hengel and Shi, "Active learning by feature mixing",
    CVPR 2022; the closed form of the mixing ratio.
    """

    name: ClassVar[str] = "alfa-mix"
    summary: ClassVar[str] = "samples that mixing with labeled classes changes (ALFA-Mix)"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits", "head", "labeled", "labels"})

    step: float = 1 / 32

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise UsageError(f"alfa-mix: expected step within (0, 1], got {self.step}")

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are 1 / (1 + the smallest mixing ratio that changes the class).

        The seeding of k-means draws by position, so permuting the pool gives another draw from the
        same law.

        Raises
        ------
        NonFiniteError
            If fused features or logits contain NaN or infinity.
        """
        with stages("mix"):
            head = fused_head(self.name, pool, context)
            labeled, classes = labeled_classes(self.name, pool, context)
            require_finite(pool.fused_logits, "fused_logits")
            features = unit_rows(pool.fused_features)
            anchors = _anchors(labeled, classes)
            ratio = critical_mixing(pool.fused_logits, pool.fused_features, anchors, head)
            candidates = np.flatnonzero(ratio < self._ratio_for(ratio, n))
        with stages("kmeans"):
            k = min(n, len(candidates))
            picks = np.empty(0, dtype=np.int64)
            if k:
                found = kernels.kmeans(
                    features[candidates], k, rng=context.rng, max_iter=LLOYD_STEPS
                )
                nearest = np.argsort(found.distances, kind="stable")
                picks = candidates[nearest[one_per_cluster(found.labels[nearest], k)]]
            others = np.setdiff1d(np.arange(len(pool)), candidates, assume_unique=True)
            drawn = context.rng.permutation(others)[: n - k]
        positions = np.concatenate([picks, drawn])
        return Choice(positions, 1 / (1 + ratio[positions]))

    def _ratio_for(self, ratio: NDArray[np.float64], n: int) -> float:
        """The first multiple of ``step`` below which more than n samples change, 1 at most."""
        if n >= len(ratio):
            return 1.0
        needed = float(np.partition(ratio, n)[n])
        return min(1.0, self.step * (math.floor(min(needed, 1.0) / self.step) + 1))


def _anchors(labeled: NDArray[Any], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean features of each class with labels, and of all labeled samples for those without."""
    means = [labeled[classes == c].mean(axis=0, dtype=np.float64) for c in np.unique(classes)]
    return np.stack([*means, labeled.mean(axis=0, dtype=np.float64)])
