"""scikit-activeml: a pool-based query strategy for a single annotator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.adapters.common import class_positions, dense, linear_head
from rlmba.errors import UsageError
from rlmba.strategies import create
from rlmba.strategies.direct import Batch, select

try:
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy
    from skactiveml.utils import MISSING_LABEL, is_labeled
    from sklearn.base import clone
except ImportError as error:
    raise ImportError(
        f'this adapter needs scikit-activeml ({error}); pip install "rlmba[skactiveml]"'
    ) from error

__all__ = ["RlmbaStrategy"]


class RlmbaStrategy(SingleAnnotatorPoolQueryStrategy):
    """Any strategy of this package as one of scikit-activeml.

    Parameters
    ----------
    strategy : str, default="rlmba-x"
        A registered name.
    options : dict or None, default=None
        Its options.
    missing_label : scalar or string or np.nan or None, default=np.nan
        What stands in ``y`` for an unlabeled sample.
    random_state : None or int or np.random.RandomState, default=None
        The random state to use.
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
            Labels, ``missing_label`` where there is none.
        clf : skactiveml.base.SkactivemlClassifier, default=None
            Its ``predict_proba`` gives the probabilities; needed by strategies that read logits.
        fit_clf : bool, default=True
            Whether a clone of ``clf`` is fitted to ``X`` and ``y`` first.
        sample_weight : array-like of shape (n_samples,), default=None
            For that fit.
        embeddings : array-like of shape (n_samples, d), default=None
            Features in the place of ``X``, row by row; not with candidates given as samples.
        dropout_logits : array-like of shape (K, n_candidates, C), default=None
            Logits of K stochastic passes over the candidates, for strategies that need them.
        candidates : None or array-like of shape (n_candidates,) or (n_candidates, n_features)
            As in scikit-activeml: all unlabeled samples, indices of unlabeled ones, or samples.
        batch_size : int, default=1
            How many; as all of scikit-activeml's strategies this warns and takes all where fewer
            are left.
        return_utilities : bool, default=False
            Whether to return utilities too.

        Returns
        -------
        query_indices : numpy.ndarray of shape (batch_size,)
            Into ``X``, or into ``candidates`` where these are samples.
        utilities : numpy.ndarray of shape (batch_size, n_samples) or (batch_size, n_candidates)
            Row i is 1 for sample i of the batch, less for those chosen later in their order, 0 for
            candidates that were not chosen and nan for samples that could not be: labeled or
            chosen before. A batch is one choice here, so there are no utilities beyond this order.

        Raises
        ------
        UsageError, DataError
            As :func:`rlmba.select`.
        ValueError
            If a candidate index points to a labeled sample.
        """
        X, y, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities, reset=True
        )
        samples, mapping = self._transform_candidates(candidates, X, y, allow_only_unlabeled=True)
        space = X if embeddings is None else dense(embeddings, "embeddings")
        if embeddings is not None and (mapping is None or len(space) != len(X)):
            raise UsageError(
                f"embeddings: expected {len(X)} rows, one for each of X, and candidates as indices; "
                f"got {len(space)} rows and candidates as {'samples' if mapping is None else 'indices'}"
            )
        features = samples if mapping is None else space[mapping]
        batch = self._select(
            features,
            samples,
            (X, y, space),
            (clf, fit_clf, sample_weight),
            dropout_logits,
            batch_size,
        )
        indices = batch.positions if mapping is None else np.asarray(mapping)[batch.positions]
        if not return_utilities:
            return indices
        total = len(samples) if mapping is None else len(X)
        pool = np.arange(total) if mapping is None else mapping
        return indices, _utilities(indices, pool, total)

    def _select(  # noqa: PLR0917
        self,
        features: NDArray[Any],
        samples: NDArray[Any],
        known: tuple[Any, Any, Any],
        classifier: tuple[Any, bool, Any],
        dropout_logits: Any,
        n: int,
    ) -> Batch:
        chosen = create(self.strategy, **dict(self.options or {}))
        X, y, space = known
        at = is_labeled(y, self.missing_label_)
        given: dict[str, Any] = {"features": features, "dropout_logits": dropout_logits}
        clf, fit, weight = classifier
        if clf is not None and fit:
            more = () if weight is None else (weight,)
            clf = clone(clf).fit(X, y, *more)
        if chosen.needs & {"logits", "modality_logits"}:
            if clf is None:
                raise UsageError(
                    f"strategy {self.strategy!r} reads logits: pass clf, a classifier of scikit-activeml"
                )
            given["probabilities"] = np.asarray(clf.predict_proba(samples))
            if "head" in chosen.needs:
                given["head"] = linear_head(clf, features, given["probabilities"])
        if at.any() and space.shape[1] == features.shape[1]:
            given["labeled"] = space[at]
            given["labels"] = class_positions(y[at], getattr(clf, "classes_", None))
        rng = np.random.default_rng(self.random_state_.randint(2**31))
        return select(chosen, n=n, rng=rng, **given)


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
