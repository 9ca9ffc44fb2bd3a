"""modAL: a query function. The library itself is not imported."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.adapters.common import (
    READS_FEATURES,
    class_positions,
    dense,
    linear_head,
    reads_logits,
    split,
    with_inputs,
)
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
    """Select from modAL's pool; pass it to a learner with ``functools.partial``.

    Parameters
    ----------
    classifier : ActiveLearner or Committee
        Fitted. Its ``predict_proba`` gives the probabilities. A committee's ``vote_proba`` serves as
        dropout passes.
    X_pool : array [N, D]
        The unlabeled pool. If it is sparse or does not consist of features, pass ``features``.
    n_instances : int
        Number of samples to select.
    strategy : str or Strategy
        A name of :func:`rlmba.strategies.names`, "module:Class", or an instance.
    **arguments
        Any arguments of :func:`rlmba.select`, which replace the values derived here, and the
        strategy's options. With an int as ``rng``, every query uses the same random numbers; pass a
        generator to get new ones in each query.

    Returns
    -------
    indices : int64 array [n_instances]
        Positions into ``X_pool``, distinct.
    metric : float64 array [n_instances]
        The strategy's scores. A pair is returned because modAL calls a function that returns indices
        alone a second time.

    Raises
    ------
    UsageError, DataError
        As :func:`rlmba.select`. modAL calls the function again after an error, and so raises the
        second error.

    Notes
    -----
    The labeled samples are the learner's ``X_training``, unless ``features`` is passed. Those features
    are in another space, so the caller must then pass ``labeled`` as well.
    """
    chosen, given = split(strategy, arguments)
    needs = chosen.needs
    wants_features = bool(needs & READS_FEATURES)
    own_space = "features" not in given
    if own_space and wants_features:
        given["features"] = dense(X_pool, "X_pool")
    if not {"logits", "probabilities"} & set(given) and reads_logits(chosen):
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
    if own_space:
        given = with_inputs(chosen, given)
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
            "expected a modAL Committee, whose votes serve as dropout passes, got "
            f"{type(classifier).__name__}; or pass dropout_logits=[K, N, C]"
        )
    votes = np.asarray(classifier.vote_proba(X_pool), dtype=np.float64)
    logs = np.log(np.maximum(votes, PROBABILITY_FLOOR))
    return np.ascontiguousarray(np.moveaxis(logs, 1, 0))
