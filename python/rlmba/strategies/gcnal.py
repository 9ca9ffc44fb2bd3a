"""GCNAL: a graph network learns to tell labeled from unlabeled samples, and guides the choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.kernels.sequential_gcn import check_options
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Gcnal"]

_VARIANTS = ("core", "uncertain")
_EMBEDDINGS = ("hidden+logit", "hidden")


@dataclass(kw_only=True)
class Gcnal(Strategy):
    """Sequential graph network over the fused features of all samples, labeled and unlabeled.

    A two-layer network on the graph of cosine affinities is trained to tell labeled samples from
    unlabeled ones (:func:`rlmba.kernels.sequential_gcn`). "core" (CoreGCN) then runs a greedy k-center
    on its ``embedding`` with the labeled samples as the first centers. "uncertain" (UncertainGCN) takes
    the samples whose score, the predicted probability of being labeled, is nearest to ``margin``.

    Parameters
    ----------
    variant : {"core", "uncertain"}
        How the trained network is used.
    embedding : {"hidden+logit", "hidden"}
        The space in which "core" measures distances: the hidden features with the output before the
        sigmoid as one more column (129 columns at the default width), as published, or the hidden
        features alone.
    epochs, hidden, dropout, learning_rate, weight_decay, unlabeled_weight, affinity
        Of the network and its training: see :func:`rlmba.kernels.sequential_gcn`.
    margin : float
        The score that "uncertain" looks for, within [0, 1].

    Raises
    ------
    UsageError
        If an option is out of its range; from :meth:`query`, if ``labeled_features`` are missing or
        empty.
    ShapeError, DataError
        From :meth:`query`, if their width differs from that of the pool's fused features or they
        contain NaN or infinity; DataError also if the training diverges.

    References
    ----------
    Caramalau, Bhattarai and Kim, "Sequential graph convolutional network for active learning",
    CVPR 2021.
    """

    name: ClassVar[str] = "gcnal"
    summary: ClassVar[str] = "k-center on a graph network trained to tell labeled from unlabeled"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "labeled"})

    variant: str = "core"
    embedding: str = "hidden+logit"
    epochs: int = 200
    hidden: int = 128
    dropout: float = 0.3
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    unlabeled_weight: float = 1.2
    margin: float = 0.1
    affinity: str = "auto"

    def __post_init__(self) -> None:
        if self.variant not in _VARIANTS:
            raise UsageError(f"gcnal: variant: expected one of {_VARIANTS}, got {self.variant!r}")
        if self.embedding not in _EMBEDDINGS:
            raise UsageError(
                f"gcnal: embedding: expected one of {_EMBEDDINGS}, got {self.embedding!r}"
            )
        if not (math.isfinite(self.margin) and 0 <= self.margin <= 1):
            raise UsageError(f"gcnal: margin: expected a number within [0, 1], got {self.margin}")
        try:
            check_options(**self._training)
        except UsageError as error:
            raise UsageError(f"gcnal: {error}") from None

    @property
    def _training(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "unlabeled_weight": self.unlabeled_weight,
            "affinity": self.affinity,
        }

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are the distances when each sample was chosen, or ``-|score - margin|``; ties by position.

        Dropout is drawn by position, so permuting the pool gives another draw from the same law.
        """
        with stages("graph"):
            labeled = context.labeled_for(pool)
            if labeled is None:
                raise UsageError(
                    "gcnal: expected QueryContext.labeled_features with at least one row, got none; "
                    "pass the fused features of the labeled samples"
                )
            features = np.concatenate([pool.fused_features, labeled])
            known = np.arange(len(features)) >= len(pool)
            network = kernels.sequential_gcn(features, known, rng=context.rng, **self._training)
        if self.variant == "uncertain":
            with stages("top_k"):
                best = kernels.top_k(-np.abs(network.scores[: len(pool)] - self.margin), n)
            return Choice(best.indices, best.values)
        with stages("k_center"):
            seen = network.hidden
            if self.embedding == "hidden+logit":
                seen = np.column_stack([seen, network.logits])
            result = kernels.k_center(seen[: len(pool)], n, labeled=seen[len(pool) :])
        return Choice(result.indices, result.distances)
