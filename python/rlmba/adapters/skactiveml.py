"""scikit-activeml: a pool-based query strategy for a single annotator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.adapters.common import (
    class_positions,
    dense,
    linear_head,
    reads_logits,
    require_head,
    with_inputs,
)
from rlmba.errors import UsageError
from rlmba.strategies import create
from rlmba.strategies.array_inputs import PROBABILITY_FLOOR
from rlmba.strategies.direct import SelectedSamples, select
from rlmba.types import LinearHead

try:
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy, SkactivemlClassifier
    from skactiveml.exceptions import MappingError
    from skactiveml.utils import MISSING_LABEL, check_equal_missing_label, check_type, is_labeled
    from sklearn.base import clone
    from sklearn.utils import check_array, check_consistent_length
except ImportError as error:
    raise ImportError(
        f'this adapter needs scikit-activeml ({error}); pip install "rlmba[skactiveml]"'
    ) from error

__all__ = ["RlmbaStrategy"]


class _UnmappedError(UsageError, MappingError):
    """Values were given for the rows of X, but the candidates are not rows of X."""


class RlmbaStrategy(SingleAnnotatorPoolQueryStrategy):
    """Any strategy of this package as one of scikit-activeml.

    Parameters
    ----------
    strategy : str, default="rlmba-x"
        A name of :func:`rlmba.strategies.names`, or "module:Class".
    options : dict or None, default=None
        Its options.
    missing_label : scalar or string or np.nan or None, default=np.nan
        The value in ``y`` for an unlabeled sample.
    random_state : None or int or np.random.RandomState, default=None
        The random state to use.

    Notes
    -----
    As in scikit-activeml, a query also works before any sample is labeled. ``gcnal``, which learns from
    labeled samples, then chooses like ``coreset``.
    """

    def __init__(
        self,
        strategy: str = "rlmba-x",
        options: Mapping[str, Any] | None = None,
        missing_label: Any = MISSING_LABEL,
        random_state: Any = None,
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.strategy = strategy
        self.options = options

    def query(  # noqa: PLR0917 - the library's own order of positional arguments
        self,
        X: Any,
        y: Any,
        clf: Any = None,
        fit_clf: bool = True,
        sample_weight: Any = None,
        embeddings: Any = None,
        dropout_logits: Any = None,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Any:
        """Determine for which candidate samples labels are to be queried.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            All samples, labeled and unlabeled.
        y : array-like of shape (n_samples,)
            Labels, ``missing_label`` for unlabeled samples.
        clf : skactiveml.base.SkactivemlClassifier, default=None
            Its ``predict_proba`` gives the probabilities. Needed by strategies that read logits, and
            not used by others. Its ``missing_label`` must be that of this strategy.
        fit_clf : bool, default=True
            Whether a clone of ``clf`` is fitted to ``X`` and ``y`` before it is used.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights for that fit.
        embeddings : array-like of shape (n_samples, d), default=None
            Features that replace ``X`` row by row; not with candidates given as samples.
        dropout_logits : array-like of shape (K, n_samples, C) or (K, n_candidates, C), default=None
            Logits of K stochastic passes over ``X`` or over the candidates, for strategies that need
            them. If candidates are given as samples, the passes must be over the candidates.
        candidates : None or array-like of shape (n_candidates,) or (n_candidates, n_features)
            As in scikit-activeml: all unlabeled samples, indices of unlabeled ones, or samples.
        batch_size : int, default=1
            Number of samples to select. Like all strategies of scikit-activeml, this warns and selects
            all candidates if fewer are left.
        return_utilities : bool, default=False
            Whether to return utilities too.

        Returns
        -------
        query_indices : numpy.ndarray of shape (batch_size,)
            Into ``X``, or into ``candidates`` if these are samples.
        utilities : numpy.ndarray of shape (batch_size, n_samples) or (batch_size, n_candidates)
            Row i is 1 for sample i of the batch, less for those chosen later, in their order, 0 for
            candidates that were not chosen, and nan for samples that are labeled or were chosen before.
            A batch is chosen as a whole, so there are no utilities other than this order.

        Raises
        ------
        UsageError, DataError
            As :func:`rlmba.select`; if ``clf`` has another ``missing_label``.
        TypeError
            If ``clf`` is not a classifier of scikit-activeml, or ``fit_clf`` is not a bool.
        ValueError
            If a candidate index points to a labeled sample, or ``sample_weight`` has another length.
        """
        X, y, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities, reset=True
        )
        samples, mapping = self._transform_candidates(candidates, X, y, allow_only_unlabeled=True)
        self._check_classifier(clf, fit_clf)
        if sample_weight is not None:
            sample_weight = check_array(sample_weight, ensure_2d=False)
            check_consistent_length(sample_weight, y)
        space = X if embeddings is None else dense(embeddings, "embeddings")
        if embeddings is not None and (mapping is None or len(space) != len(X)):
            raise _UnmappedError(
                f"embeddings: expected {len(X)} rows, one for each of X, and candidates as indices; "
                f"got {len(space)} rows and candidates as {'samples' if mapping is None else 'indices'}"
            )
        features = samples if mapping is None else space[mapping]
        batch = self._select(
            features,
            samples,
            (X, y, space),
            (clf, fit_clf, sample_weight),
            _of_candidates(dropout_logits, mapping, len(X), len(samples)),
            batch_size,
        )
        indices = batch.positions if mapping is None else np.asarray(mapping)[batch.positions]
        if not return_utilities:
            return indices
        total = len(samples) if mapping is None else len(X)
        pool = np.arange(total) if mapping is None else mapping
        return indices, _utilities(indices, pool, total)

    def _check_classifier(self, clf: Any, fit_clf: Any) -> None:
        check_type(fit_clf, "fit_clf", bool)
        if clf is None:
            return
        check_type(clf, "clf", SkactivemlClassifier)
        try:
            check_equal_missing_label(clf.missing_label, self.missing_label_)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"clf: expected missing_label={self.missing_label_!r}, as this strategy has, got "
                f"{clf.missing_label!r}; pass the same missing_label to both"
            ) from error

    def _select(  # noqa: PLR0917
        self,
        features: NDArray[Any],
        samples: NDArray[Any],
        known: tuple[Any, Any, Any],
        classifier: tuple[Any, bool, Any],
        dropout_logits: Any,
        n: int,
    ) -> SelectedSamples:
        if not isinstance(self.options, Mapping | None):
            raise UsageError(f"options: expected a mapping or None, got {self.options!r}")
        check_type(self.strategy, "strategy", str)
        chosen = create(self.strategy, **(self.options or {}))
        X, y, space = known
        at = is_labeled(y, self.missing_label_)
        if "labeled" in chosen.needs and not at.any():
            chosen = create("coreset")
        given: dict[str, Any] = {"features": features, "dropout_logits": dropout_logits}
        clf, fit, weight = classifier
        classes = None
        required = chosen.needs & {"logits", "modality_logits"}
        if required or (reads_logits(chosen) and clf is not None and at.any()):
            if clf is None:
                raise UsageError(
                    f"strategy {self.strategy!r} reads logits: pass clf, a classifier of scikit-activeml"
                )
            if fit:
                clf = clone(clf).fit(X, y, *(() if weight is None else (weight,)))
            given["probabilities"] = np.asarray(clf.predict_proba(samples))
            classes = getattr(clf, "classes_", None)
            if "head" in chosen.needs:
                given["head"] = _head(clf, features, given["probabilities"])
                require_head(
                    given["head"],
                    chosen,
                    "clf, for example SklearnClassifier(LogisticRegression()), fitted to the features "
                    "themselves, without embeddings",
                )
        if at.any():
            given["labeled"] = space[at]
            given["labels"] = class_positions(
                y[at], np.unique(y[at]) if classes is None else classes
            )
        rng = np.random.default_rng(self.random_state_.randint(2**31))
        return select(chosen, n=n, rng=rng, **with_inputs(chosen, given))


def _of_candidates(passes: Any, mapping: Any, total: int, candidates: int) -> Any:
    """Reduce stochastic passes over all of X to those over the candidates."""
    shape = np.shape(passes)
    if len(shape) != 3 or shape[1] != total or total == candidates:
        return passes
    if mapping is None:
        raise _UnmappedError(
            f"dropout_logits: expected passes over the {candidates} candidates, which are given as samples, "
            f"got passes over {total} samples; give candidates as indices"
        )
    return passes[:, mapping] if hasattr(passes, "shape") else np.asarray(passes)[:, mapping]


def _head(clf: Any, features: NDArray[Any], probabilities: NDArray[Any]) -> LinearHead | None:
    """The linear layer of a classifier, or a constant one if there were no labels to fit it to."""
    if getattr(clf, "is_fitted_", True):
        return linear_head(clf, features, probabilities)
    bias = np.log(np.maximum(probabilities[0], PROBABILITY_FLOOR))
    return LinearHead(np.zeros((len(bias), features.shape[1])), bias)


def _utilities(
    indices: NDArray[np.int64], pool: NDArray[np.int64], total: int
) -> NDArray[np.float64]:
    n = len(indices)
    utilities = np.full((n, total), np.nan)
    utilities[:, pool] = 0.0
    for i in range(n):
        utilities[i, indices[i:]] = 1.0 - np.arange(n - i) / n
        utilities[i, indices[:i]] = np.nan
    return utilities
