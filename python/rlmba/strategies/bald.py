"""BALD: mutual information between the class and the dropout mask of the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.strategies.base import TopScore
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Bald"]


@dataclass(kw_only=True)
class Bald(TopScore):
    """The n samples with the largest mutual information over stochastic passes.

    Parameters
    ----------
    passes : int
        K >= 2, the number of passes through the head that a run makes. Pools from elsewhere may have
        another number of passes.

    References
    ----------
    Houlsby et al., "Bayesian active learning for classification and preference learning", 2011; Gal,
    Islam and Ghahramani, "Deep Bayesian active learning with image data", ICML 2017.
    """

    name: ClassVar[str] = "bald"
    summary: ClassVar[str] = "largest mutual information between class and dropout mask (BALD)"
    needs: ClassVar[frozenset[str]] = frozenset({"dropout"})

    passes: int = 10

    def __post_init__(self) -> None:
        if self.passes < 2:
            raise UsageError(
                f"bald: expected passes >= 2 (a single pass has no disagreement), got {self.passes}"
            )

    @property
    def dropout_passes(self) -> int:
        """K, the option ``passes``."""
        return self.passes

    def score(self, pool: PoolOutputs, context: QueryContext) -> Any:
        """Mutual information in nats.

        Raises
        ------
        UsageError
            If the pool has no logits of stochastic passes, or only those of one pass.
        """
        del context
        if pool.dropout_logits is None or len(pool.dropout_logits) < 2:
            held = "none" if pool.dropout_logits is None else f"{len(pool.dropout_logits)}"
            raise UsageError(
                "bald: expected PoolOutputs.dropout_logits [K, N, C], the fused logits of K >= 2 passes "
                f"with active dropout, got {held}; run the head K times in training mode and pass its "
                "outputs"
            )
        return kernels.bald_score(pool.dropout_logits)
