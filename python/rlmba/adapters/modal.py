"""modAL: a query function. modAL itself is not imported."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.adapters.common import READS_FEATURES, class_positions, dense, linear_head, split
from rlmba.errors import UsageError
from rlmba.strategies import Strategy
from rlmba.strategies.array_inputs import PROBABILITY_FLOOR
from rlmba.strategies.direct import select

__all__ = ["query"]


def query(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    *,
    strategy: str | Strategy = "rlmba-x",
    **arguments: Any,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pick from modAL's pool; give it to a learner with ``functools.partial``.

    Parameters
    ----------
    classifier : ActiveLearner or Committee
        Fitted. Its ``predict_proba`` gives the probabilities; a committee's ``vote_proba`` stands for
        dropout passes.
    X_pool : array [N, D]
        The unlabeled pool. Where it is sparse or no features, pass ``features``.
    n_instances : int
        How many.
    strategy : str or Strategy
        A registered name or an instance.
    **arguments
        Anything of :func:`rlmba.select`, which then takes the place of what is derived here, and
        the strategy's options. An int ``rng`` starts every query with the same numbers; pass a
        generator to go on with new ones.

    Returns
    -------
    indices : int64 array [n_instances]
        Positions into ``X_pool``, distinct.
    metric : float64 array [n_instances]
        The strategy's scores. Together a pair, as modAL expects: it calls a function that returns
        indices alone a second time.

    Raises
    ------
    UsageError, DataError
        As :func:`rlmba.select`. modAL calls once more after an error and so raises the second one.

    Notes
    -----
    Labeled samples are the learner's ``X_training`` unless ``features`` is passed: those features
    are in another space, and ``labeled`` must then be given by who made them.
    """
    chosen, given = split(strategy, arguments)
    needs = chosen.needs
    wants_features = bool(needs & READS_FEATURES)
    own_space = "features" not in given
    if own_space and wants_features:
        given["features"] = dense(X_pool, "X_pool")
    if not {"logits", "probabilities"} & set(given) and needs & {"logits", "modality_logits"}:
        given["probabilities"] = np.asarray(classifier.predict_proba(X_pool))
    if "dropout" in needs and "dropout_logits" not in given:
        given["dropout_logits"] = _votes(classifier, X_pool)
    if "head" in needs and "head" not in given and "probabilities" in given and own_space:
        estimator = getattr(classifier, "estimator", classifier)
        given["head"] = linear_head(estimator, given["features"], given["probabilities"])
    if own_space and wants_features and "labeled" not in given:
        given |= _training(classifier)
    if not given.keys() & {"features", "logits", "probabilities", "dropout_logits", "ids"}:
        given["ids"] = np.arange(X_pool.shape[0])
    batch = select(chosen, n=n_instances, **given)
    return batch.positions, batch.scores


def _training(classifier: Any) -> dict[str, Any]:
    X = getattr(classifier, "X_training", None)
    if X is None:
        return {}
    estimator = getattr(classifier, "estimator", classifier)
    labels = class_positions(classifier.y_training, getattr(estimator, "classes_", None))
    labeled = {"labeled": dense(X, "X_training")}
    return labeled if labels is None else labeled | {"labels": labels}


def _votes(classifier: Any, X_pool: Any) -> NDArray[np.float64]:
    if not hasattr(classifier, "vote_proba"):
        raise UsageError(
            "expected a modAL Committee, whose members vote in the place of dropout passes, got "
            f"{type(classifier).__name__}; or pass dropout_logits=[K, N, C]"
        )
    votes = np.asarray(classifier.vote_proba(X_pool), dtype=np.float64)
    logs = np.log(np.maximum(votes, PROBABILITY_FLOOR))
    return np.ascontiguousarray(np.moveaxis(logs, 1, 0))
