"""What adapters share: separating options from arguments, and the linear heads of estimators."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from rlmba.errors import UsageError
from rlmba.kernels.common.arrays import is_array, to_host
from rlmba.strategies import Strategy, create
from rlmba.strategies.array_inputs import PROBABILITY_FLOOR
from rlmba.strategies.direct import select
from rlmba.types import LinearHead

__all__ = [
    "READS_FEATURES",
    "class_positions",
    "dense",
    "linear_head",
    "reads_logits",
    "require_head",
    "split",
    "with_inputs",
]

READS_FEATURES = frozenset({"features", "modality_features", "labeled", "head", "input_features"})
"""Needs of strategies that read features; no features are computed for other strategies."""

_ARGUMENTS = frozenset(
    name
    for name, p in inspect.signature(select).parameters.items()
    if p.kind is not inspect.Parameter.VAR_KEYWORD
)
_CHECKED_ROWS = 200


def split(strategy: str | Strategy, given: Mapping[str, Any]) -> tuple[Strategy, dict[str, Any]]:
    """Make a strategy, and separate the arguments of ``rlmba.select`` from its options.

    Parameters
    ----------
    strategy : str or Strategy
    given : mapping
        Arguments of :func:`rlmba.select` and, with a name, the strategy's options.

    Raises
    ------
    UsageError
        If something is neither.
    """
    arguments = {k: v for k, v in given.items() if k in _ARGUMENTS}
    options = {k: v for k, v in given.items() if k not in _ARGUMENTS}
    if isinstance(strategy, str):
        return create(strategy, **options), arguments
    if options:
        raise UsageError(
            f"expected only arguments of rlmba.select with an instance of a strategy, got {sorted(options)}; "
            "pass the strategy's name to set its options"
        )
    return strategy, arguments


def reads_logits(strategy: Strategy) -> bool:
    """Whether a strategy reads logits if there are any."""
    return bool((strategy.needs | strategy.optional) & {"logits", "modality_logits"})


def with_inputs(strategy: Strategy, given: Mapping[str, Any]) -> dict[str, Any]:
    """Add input features to arguments of ``rlmba.select`` whose features are what the classifier reads.

    The arguments are returned unchanged if the strategy needs no input features, or if some were given.
    """
    if "input_features" not in strategy.needs or given.get("input_features") is not None:
        return dict(given)
    inputs = {"input_features": given.get("features")}
    labeled = given.get("labeled")
    if labeled is not None and np.ndim(labeled) == 2:
        inputs["labeled_input_features"] = labeled
    return {**given, **inputs}


def dense(X: Any, what: str) -> NDArray[Any]:
    """Samples as features [N, D].

    Raises
    ------
    UsageError
        If they are sparse, do not have two axes, or have masked values. The caller must then pass
        their features.
    """
    if np.ma.is_masked(X):
        raise UsageError(
            f"{what}: expected features of every sample, got a masked array with masked values; fill "
            "them or omit those samples"
        )
    if hasattr(X, "toarray"):
        raise UsageError(
            f"{what}: expected dense features, got a sparse {type(X).__name__}; pass features=, for "
            "example a truncated SVD of it"
        )
    a = to_host(X, what) if is_array(X) else np.asarray(X)
    if a.ndim != 2 or a.dtype.kind not in "fiub":
        raise UsageError(
            f"{what}: expected features [N, D], got dtype {a.dtype} and shape {a.shape}; "
            "pass features=, embeddings [N, D] of the samples"
        )
    return a


def class_positions(labels: Any, classes: Any) -> NDArray[np.int64] | None:
    """Labels as positions in ``classes``; None if there are no classes or a label is not among them."""
    known = np.asarray([] if classes is None else classes)
    values = np.asarray(labels)
    if known.ndim != 1 or values.ndim != 1 or not known.size:
        return None
    order = np.argsort(known)
    at = order[np.minimum(np.searchsorted(known, values, sorter=order), len(known) - 1)]
    return at.astype(np.int64) if (known[at] == values).all() else None


def linear_head(
    estimator: Any, features: NDArray[Any], probabilities: NDArray[Any]
) -> LinearHead | None:
    """The linear layer of an estimator, if its probabilities are the softmax of that layer.

    It consists of ``coef_`` [C, D] and ``intercept_`` [C], as in scikit-learn's logistic regression. For
    two classes, of which that keeps one row, the other row is 0. A class that the estimator was not
    fitted to, with probabilities of 0, has weight 0. None if the estimator has no such layer, or the
    layer does not reproduce ``probabilities`` from ``features``, as in one-against-rest classifiers.
    """
    for inner in ("estimator_", "estimator"):
        if not hasattr(estimator, "coef_") and hasattr(estimator, inner):
            estimator = getattr(estimator, inner)
    weight, bias = getattr(estimator, "coef_", None), getattr(estimator, "intercept_", None)
    if weight is None or bias is None:
        return None
    w, b = np.asarray(weight), np.asarray(bias).reshape(-1)
    classes = probabilities.shape[1]
    seen = np.flatnonzero(probabilities.any(axis=0))
    if len(w) == 1 and len(seen) == 2:
        w, b = np.vstack([np.zeros_like(w), w]), np.concatenate([np.zeros_like(b), b])
    if len(w) == len(b) == len(seen) < classes:
        known_weight, known_bias = w, b
        w = np.zeros((classes, w.shape[1]))
        b = np.full(classes, np.log(PROBABILITY_FLOOR))
        w[seen], b[seen] = known_weight, known_bias
    if w.shape != (classes, features.shape[1]) or b.shape != (len(w),):
        return None
    rows = slice(_CHECKED_ROWS)
    made = softmax(features[rows] @ w.T + b, axis=1)
    return LinearHead(w, b) if np.allclose(made, probabilities[rows], atol=1e-3) else None


def require_head(head: LinearHead | None, strategy: Strategy, wanted: str) -> None:
    """Raise for a classifier without a linear layer over the features; ``wanted`` says what to pass.

    Raises
    ------
    UsageError
        If ``head`` is None.
    """
    if head is None:
        raise UsageError(
            f"strategy {strategy.name!r} needs a classifier whose probabilities are the softmax of a "
            f"linear layer over the features, got none: pass {wanted}"
        )
