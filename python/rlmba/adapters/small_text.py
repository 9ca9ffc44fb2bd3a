"""small-text: an embedding-based query strategy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.adapters.common import (
    READS_FEATURES,
    dense,
    linear_head,
    reads_logits,
    require_head,
    with_inputs,
)
from rlmba.errors import UsageError
from rlmba.kernels.common.random import Rng
from rlmba.strategies import create
from rlmba.strategies.direct import select

try:
    from small_text import EmbeddingBasedQueryStrategy
except ImportError as error:
    raise ImportError(
        f'this adapter needs small-text ({error}); pip install "rlmba[small-text]"'
    ) from error

__all__ = ["RlmbaStrategy"]


class RlmbaStrategy(EmbeddingBasedQueryStrategy):
    """Any strategy of this package as one of small-text.

    Embeddings come from the classifier's ``embed``, or are given with the query. Probabilities are those
    that ``embed`` returns, or otherwise ``predict_proba`` of the unlabeled texts. The classifier is not
    asked for embeddings or probabilities that the strategy does not read.

    Parameters
    ----------
    strategy : str
        A name of :func:`rlmba.strategies.names`, or "module:Class".
    rng : int, numpy.random.Generator, torch.Generator or None
        Randomness of all queries; an int seeds one generator for all of them.
    **options
        The strategy's options.
    """

    def __init__(self, strategy: str = "rlmba-x", *, rng: Rng = None, **options: Any) -> None:
        self.strategy = create(strategy, **options)
        self.rng = np.random.default_rng(rng) if isinstance(rng, int) else rng

    def query(  # noqa: PLR0917 - the library's own order of positional arguments
        self,
        clf: Any,
        dataset: Any,
        indices_unlabeled: Any,
        indices_labeled: Any,
        y: Any,
        n: int = 10,
        pbar: Any = "tqdm",
        embeddings: Any = None,
        embed_kwargs: Any = None,
    ) -> NDArray[np.int64]:
        """Select ``n`` texts; positions into ``dataset``.

        Parameters
        ----------
        embeddings : array [N, D], optional
            One row for each text of ``dataset``, in its order, including labeled and ignored texts.
            (small-text itself expects the unlabeled rows followed by the labeled ones.)

        Other parameters are those of small-text.

        Raises
        ------
        UsageError
            If ``embeddings`` has another number of rows, labels are multi-label, or as
            :func:`rlmba.select`.
        """
        if embeddings is None and not self._reads_features():
            embeddings = np.empty((len(indices_unlabeled) + len(indices_labeled), 0))
        elif embeddings is not None:
            embeddings = dense(embeddings, "embeddings")
            if len(embeddings) != len(dataset):
                raise UsageError(
                    f"embeddings: expected {len(dataset)} rows, one for each text of the dataset, "
                    f"got {len(embeddings)}"
                )
            embeddings = embeddings[
                np.concatenate([indices_unlabeled, indices_labeled]).astype(int)
            ]
        chosen = super().query(
            clf,
            dataset,
            indices_unlabeled,
            indices_labeled,
            y,
            n=n,
            pbar=pbar,
            embeddings=embeddings,
            embed_kwargs=embed_kwargs or {},
        )
        return np.asarray(chosen, dtype=np.int64)

    def sample(  # noqa: PLR0917
        self,
        clf: Any,
        dataset: Any,
        indices_unlabeled: Any,
        indices_labeled: Any,
        y: Any,
        n: int,
        embeddings: Any,
        embeddings_proba: Any = None,
    ) -> NDArray[np.int64]:
        """Select by embeddings; all indices are positions into ``dataset`` and ``embeddings``."""
        if hasattr(y, "toarray"):
            raise UsageError("expected one label per text, got multi-label y (a sparse matrix)")
        features = np.asarray(embeddings)[indices_unlabeled]
        given: dict[str, Any] = {"ids": np.arange(len(features))}
        if self._reads_features():
            given["features"] = features
        if reads_logits(self.strategy):
            if embeddings_proba is None:
                p = clf.predict_proba(dataset[indices_unlabeled])
            else:
                p = np.asarray(embeddings_proba)[indices_unlabeled]
            given["probabilities"] = np.asarray(p)
            if "head" in self.strategy.needs:
                model = getattr(clf, "model", clf)
                given["head"] = linear_head(model, features, given["probabilities"])
                require_head(
                    given["head"],
                    self.strategy,
                    "embeddings that the classifier's linear layer is on",
                )
        if len(indices_labeled) and "features" in given:
            given["labeled"] = np.asarray(embeddings)[indices_labeled]
            if y is not None:
                given["labels"] = np.asarray(y, dtype=np.int64)
        batch = select(self.strategy, n=n, rng=self.rng, **with_inputs(self.strategy, given))
        return np.asarray(indices_unlabeled)[batch.positions]

    def _reads_features(self) -> bool:
        return bool(self.strategy.needs & READS_FEATURES)

    def __str__(self) -> str:
        return f"RlmbaStrategy({self.strategy.name!r})"
