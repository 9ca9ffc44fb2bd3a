"""GALAXY: bisection between labeled samples of different classes, in the order of each class's margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from rlmba.kernels.common.arrays import require_finite
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.strategies.geometry import fused_head, labeled_classes
from rlmba.strategies.random import uniform_by_id
from rlmba.strategies.uncertainty import margin_difficulty
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Galaxy", "bisect"]

_TIE = 1e-8
_CACHE_BYTES = 2**28


def bisect(ranks: NDArray[np.int64], member: NDArray[np.bool_], size: int) -> int | None:
    """The next place to query on a line of samples, some of which have labels.

    Of all stretches of unlabeled samples between two labeled ones, of which one is a member of the
    class and the other is not, the shortest is bisected. If there is none, the unlabeled sample
    nearest to two adjacent labeled ones that differ is taken.

    Parameters
    ----------
    ranks : int64 array [L]
        Places of the labeled samples, ascending, L >= 1.
    member : bool array [L]
        Whether each of them belongs to the class.
    size : int
        Places on the line, > L.

    Returns
    -------
    int or None
        A place without a label, ties to the lower one; None if all labeled samples agree.
    """
    between = np.diff(ranks) - 1
    cut = member[1:] != member[:-1]
    stretches = np.flatnonzero(cut & (between > 0))
    if len(stretches):
        i = stretches[between[stretches].argmin()]
        return int(ranks[i] + ranks[i + 1]) // 2
    cuts = np.flatnonzero(cut)
    if not len(cuts):
        return None
    starts = np.flatnonzero(np.r_[True, between > 0])  # of runs of adjacent labeled samples
    run = np.searchsorted(starts, cuts, side="right") - 1
    below = ranks[starts[run]] - 1
    above = ranks[np.r_[starts[1:], len(ranks)][run] - 1] + 1
    places = np.concatenate([below, above])
    distances = np.concatenate([ranks[cuts] - below, above - ranks[cuts + 1]])
    inside = (places >= 0) & (places < size)
    places, distances = places[inside], distances[inside]
    return int(places[np.lexsort((places, distances))[0]])


@dataclass(kw_only=True)
class Galaxy(Strategy):
    """Balanced queries near class boundaries, for classes of very different size.

    For each class, the labeled samples and the pool are ordered by p_k - max_j p_j of the fused softmax:
    samples that are predicted as k come first, the most confident one at the front. Two classes have one
    order, by p_0. Each pick draws a class uniformly and takes the next sample of :func:`bisect` in its
    order, or a uniform one of the pool if all labeled samples agree about that class.

    The published algorithm asks for one label at a time and uses each answer for the next pick. A batch
    has no answers before it ends, so a picked sample counts as its predicted class.

    Raises
    ------
    UsageError
        From :meth:`query`, if the head, labeled samples or their classes are missing.
    ShapeError, DataError
        From :meth:`query`, if the head or the features of labeled samples do not fit the pool, or are
        not finite.

    References
    ----------
    Zhang, Katz-Samuels and Nowak, "GALAXY: graph-based active learning at the extreme", ICML 2022.
    """

    name: ClassVar[str] = "galaxy"
    summary: ClassVar[str] = "bisection between differing labels by one class's margin (GALAXY)"
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "head", "labeled", "labels"})

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are 1 - (p_(1) - p_(2)); ties of an order go by position.

        Raises
        ------
        NonFiniteError
            If fused logits contain NaN or infinity.
        """
        with stages("score"):
            head = fused_head(self.name, pool, context)
            labeled, classes = labeled_classes(self.name, pool, context)
            require_finite(pool.fused_logits, "fused_logits")
            theirs = labeled @ head.weight.T + head.bias
            p = softmax(np.concatenate([pool.fused_logits, theirs]).astype(np.float64), axis=1)
        with stages("bisect"):
            keys = uniform_by_id(pool.ids, int(context.rng.integers(2**63)))
            positions = _picks(p, classes, n, context.rng, keys)
        return Choice(positions, margin_difficulty(pool.fused_logits[positions]))


def _picks(
    p: NDArray[np.float64],
    labels: NDArray[np.int64],
    n: int,
    rng: np.random.Generator,
    keys: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Pool positions [n]; ``p`` [N + L, C] holds the pool first, then the samples with ``labels``.

    The unlabeled sample with the largest of ``keys`` [N] is picked where no labels differ.
    """
    size, n_classes = p.shape
    pool = size - len(labels)
    classes = p.argmax(axis=1)
    classes[pool:] = labels
    known = [*range(pool, size)]
    order_of = _orders(p)
    for _ in range(n):
        k = int(rng.integers(n_classes)) if n_classes > 2 else 0
        order, rank = order_of(k)
        ranks = np.sort(rank[known])
        place = bisect(ranks, classes[order[ranks]] == k, size)
        if place is None:
            left = np.setdiff1d(np.arange(pool), known)
            pick = int(left[keys[left].argmax()])
        else:
            pick = int(order[place])
        known.append(pick)
    return np.array(known[len(labels) :], dtype=np.int64)


def _orders(p: NDArray[np.float64]) -> Callable[[int], tuple[NDArray[Any], NDArray[Any]]]:
    """The order of a class and each sample's place in it; the last used ones are kept."""
    largest = p.max(axis=1)

    @lru_cache(maxsize=max(1, _CACHE_BYTES // (16 * len(p))))
    def order_of(k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        # Samples that are predicted as k differ by the second term alone.
        key = p[:, k] - (1 - _TIE) * largest if p.shape[1] > 2 else p[:, 0]
        order = np.argsort(-key, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return order, rank

    return order_of
