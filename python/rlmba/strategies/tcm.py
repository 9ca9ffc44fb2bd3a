"""TCM: TypiClust while labels are few, margins afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlmba.errors import UsageError
from rlmba.strategies.base import Choice, Stages
from rlmba.strategies.typiclust import TypiClust
from rlmba.strategies.uncertainty import Margin
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Tcm"]


@dataclass(kw_only=True)
class Tcm(TypiClust):
    """TypiClust up to a number of labels, then the smallest margins.

    Parameters
    ----------
    labels_per_class : float
        TypiClust chooses as long as the labeled samples are fewer than this number times the number of
        classes. The paper switches after a number of rounds that depends on the budget; this option
        states it in labels, because rounds differ in size.
    **options
        Those of :class:`~rlmba.strategies.typiclust.TypiClust`.

    Raises
    ------
    UsageError
        If an option is out of its range.

    References
    ----------
    Doucet, Estermann, Aczel and Wattenhofer, "Bridging diversity and uncertainty in active learning with
    self-supervised pre-training", workshop on practical ML for limited resources, ICLR 2024.
    """

    name: ClassVar[str] = "tcm"
    summary: ClassVar[str] = "TypiClust while labels are few, then the smallest margins (TCM)"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits"})

    labels_per_class: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.labels_per_class >= 0:
            raise UsageError(
                f"{self.name}: expected labels_per_class >= 0, got {self.labels_per_class}"
            )

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are typicalities before the switch, 1 - (p_(1) - p_(2)) after it."""
        if context.n_labeled < self.labels_per_class * pool.n_classes:
            return super().choose(pool, context, n, stages)
        return Margin().choose(pool, context, n, stages)
