"""baal: a heuristic for strategies that score samples, and rankings for those that compose a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.adapters.common import split
from rlmba.errors import ShapeError, UsageError
from rlmba.kernels.common.random import Rng
from rlmba.strategies import Strategy, create
from rlmba.strategies.array_inputs import PROBABILITY_FLOOR
from rlmba.strategies.direct import select

try:
    from baal.active.heuristics import AbstractHeuristic
    from baal.utils.array_utils import to_prob
except ImportError as error:
    raise ImportError(f'this adapter needs baal ({error}); pip install "rlmba[baal]"') from error

__all__ = ["RlmbaHeuristic", "ranking"]

_FROM_PREDICTIONS = {"logits", "modality_logits", "dropout"}


class RlmbaHeuristic(AbstractHeuristic):
    """A strategy that scores each sample by its predictions alone, as one of baal's heuristics.

    This works for ``entropy``, ``margin``, ``bald`` and any other strategy that needs no features. The
    last axis holds stochastic passes: they serve as dropout passes, and their mean as the fused softmax.

    Parameters
    ----------
    strategy : str
        A name of :func:`rlmba.strategies.names`, or "module:Class".
    reduction : str or callable
        As in baal: how scores are reduced to one per sample, if predictions have more axes than class
        and pass.
    **options
        The strategy's options.

    Raises
    ------
    UsageError
        If the strategy needs more than predictions: use :func:`ranking` for it.
    """

    def __init__(
        self, strategy: str = "entropy", *, reduction: Any = "none", **options: Any
    ) -> None:
        super().__init__(reverse=True, reduction=reduction)
        self.strategy = create(strategy, **options)
        beyond = sorted(self.strategy.needs - _FROM_PREDICTIONS)
        if beyond or not self.strategy.needs:
            raise UsageError(
                f"strategy {strategy!r} does not score by predictions (it needs {beyond or 'none'}); "
                "give rlmba.adapters.baal.ranking(...) to baal's Precomputed(reverse=True)"
            )

    def compute_score(
        self, predictions: Any, target_predictions: Any = None
    ) -> NDArray[np.float64]:
        """Scores [N, ...] of predictions [N, C, ..., K]; [N, C] is one pass.

        As in baal, predictions are logits if they have numbers outside 0 to 1, or rows that do not sum
        to one.

        Raises
        ------
        ShapeError
            If there are fewer than two axes.
        NonFiniteError
            For NaN and infinity. (baal's own heuristics replace them by 0 with a warning.)
        """
        del target_predictions
        p = np.asarray(predictions)
        if p.ndim < 2:
            raise ShapeError(f"predictions: expected [N, C, ..., K] or [N, C], got shape {p.shape}")
        p = to_prob(p[..., None] if p.ndim == 2 else p)
        classes, passes = p.shape[1], p.shape[-1]
        # [N, C, ..., K] to [N, ..., C, K]: each position of a sample is scored as a separate sample.
        places = np.moveaxis(p, 1, -2)
        rows = places.reshape(-1, classes, passes)
        logs = np.log(np.maximum(rows, PROBABILITY_FLOOR))
        n = len(rows)
        batch = select(
            self.strategy,
            n=n,
            rng=0,
            logits=np.log(np.maximum(rows.mean(axis=-1), PROBABILITY_FLOOR)),
            dropout_logits=np.ascontiguousarray(np.moveaxis(logs, -1, 0)),
        )
        scores = np.empty(n)
        scores[batch.positions] = batch.scores
        return scores.reshape(places.shape[:-2])


def ranking(
    strategy: str | Strategy, n: int, *, rng: Rng = None, **arguments: Any
) -> NDArray[np.float64]:
    """Rank a pool by any strategy, for baal's ``Precomputed(reverse=True)``.

    Parameters
    ----------
    strategy : str or Strategy
        A name of :func:`rlmba.strategies.names`, "module:Class", or an instance.
    n : int
        ``query_size``: how many samples of the ranking will be labeled.
    rng : int, numpy.random.Generator, torch.Generator or None
        As in :func:`rlmba.select`.
    **arguments
        Of :func:`rlmba.select` - features, logits, labeled, ... - and the strategy's options.

    Returns
    -------
    float64 array [N]
        n for the sample chosen first, then n - 1 and so on down to 1 for the last, and 0 for all
        others. The largest are labeled first, hence ``reverse=True``.

    Raises
    ------
    UsageError, DataError
        As :func:`rlmba.select`.
    """
    chosen, given = split(strategy, arguments)
    batch = select(chosen, n=n, rng=rng, **given)
    scores = np.zeros(_pool_size(given))
    scores[batch.positions] = np.arange(len(batch), 0, -1)
    return scores


def _pool_size(given: dict[str, Any]) -> int:
    """The number of samples in arguments that :func:`rlmba.select` has accepted."""
    for name in ("features", "logits", "probabilities", "input_features", "ids"):
        array = given.get(name)
        if array is not None:
            return len(next(iter(array.values())) if isinstance(array, Mapping) else array)
    return int(np.shape(given["dropout_logits"])[1])
