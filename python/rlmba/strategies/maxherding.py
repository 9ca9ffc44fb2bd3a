"""MaxHerding: samples that cover the pool best by a Gaussian kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.strategies.base import Choice, Stages
from rlmba.strategies.geometry import UnitSpace, unit_features
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["MaxHerding"]


@dataclass(kw_only=True)
class MaxHerding(UnitSpace):
    """Greedy maximization of generalized coverage.

    A sample covers another to the degree exp(-||x - x'||^2 / radius^2), for features scaled to unit
    length. Each pick adds most to the sum over the pool of the largest degree to which a labeled or
    picked sample covers it.

    Parameters
    ----------
    radius : float
        > 0; the kernel's radius sigma.
    **options
        Those of :class:`~rlmba.strategies.geometry.UnitSpace`.

    Raises
    ------
    UsageError
        If an option is out of its range.

    References
    ----------
    Bae, Noh and Sutherland, "Generalized coverage for more robust low-budget active learning",
    ECCV 2024.
    """

    name: ClassVar[str] = "maxherding"
    summary: ClassVar[str] = "covers the pool by a Gaussian kernel (MaxHerding)"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    radius: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.radius > 0:
            raise UsageError(f"maxherding: expected radius > 0, got {self.radius}")

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are the gains in coverage; ties by pool position. There is no randomness.

        Raises
        ------
        NonFiniteError
            If features contain NaN or infinity.
        ShapeError, DataError
            If the features of labeled samples do not fit the pool, or are not finite.
        """
        with stages("herding"):
            features, labeled = unit_features(self.space, pool, context)
            found = kernels.herding(features, n, labeled=labeled, radius=self.radius)
        return Choice(found.indices, found.gains)
