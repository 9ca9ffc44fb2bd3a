"""Uncertainty Herding: samples that cover what the calibrated model is uncertain about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.method.herding import nearest_labeled
from rlmba.strategies.base import Choice, Stages, Strategy
from rlmba.strategies.geometry import unit_features
from rlmba.strategies.uncertainty import UNCERTAINTIES, uncertainty
from rlmba.types import MULTIMODAL, PoolOutputs, QueryContext

__all__ = ["UHerding"]

_RADIUS = 1.0
"""The kernel's radius while no two labeled samples differ."""


@dataclass(kw_only=True)
class UHerding(Strategy):
    """Greedy maximization of coverage weighted by uncertainty, with parameters that adapt.

    A sample covers another to the degree exp(-||x - x'||^2 / sigma^2), for fused features scaled to unit
    length. sigma is the smallest positive distance between two labeled samples, so that the choice
    changes from coverage to uncertainty as labels are added. Each pick adds most to sum_x u(x) c(x),
    where c(x) is the largest degree to which a labeled or picked sample covers x, and u the uncertainty
    of softmax(fused logits / T). Before any label, u = 1 and sigma = 1, as in
    :class:`~rlmba.strategies.maxherding.MaxHerding`.

    Parameters
    ----------
    uncertainty : {"margin", "entropy", "confidence"}
        u(x) = 1 - (p_(1) - p_(2)), the entropy, or 1 - p_(1).
    temperature : float or None
        T > 0. None: that of the fused head, fitted on the validation set by its likelihood. The paper
        fits it on a part of the labeled samples, by the expected calibration error.

    Raises
    ------
    UsageError
        If an option is out of its range.

    References
    ----------
    Bae, Oliveira and Sutherland, "Uncertainty herding: one active learning method for all label
    budgets", ICLR 2025.
    """

    name: ClassVar[str] = "uherding"
    summary: ClassVar[str] = "covers what the calibrated model is uncertain about (UHerding)"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits"})
    optional: ClassVar[frozenset[str]] = frozenset({"labeled"})

    uncertainty: str = "margin"
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.uncertainty not in UNCERTAINTIES:
            raise UsageError(
                f"uherding: uncertainty: expected one of {UNCERTAINTIES}, got {self.uncertainty!r}"
            )
        t = self.temperature
        if t is not None and not (t > 0 and math.isfinite(t)):
            raise UsageError(f"uherding: expected temperature > 0 or None, got {t}")

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are the gains in weighted coverage; ties by pool position. There is no randomness.

        Raises
        ------
        NonFiniteError
            If fused features or logits contain NaN or infinity.
        ShapeError, DataError
            If the features of labeled samples do not fit the pool, or are not finite.
        """
        with stages("score"):
            features, labeled = unit_features("fused", pool, context)
            utility, radius = None, None
            if labeled is not None:
                utility = self._uncertainty(pool, context)
                radius = nearest_labeled({MULTIMODAL: labeled}, weights=np.ones(1))
        with stages("herding"):
            found = kernels.herding(
                features, n, labeled=labeled, utility=utility, radius=radius or _RADIUS
            )
        return Choice(found.indices, found.gains)

    def _uncertainty(self, pool: PoolOutputs, context: QueryContext) -> NDArray[np.float64]:
        t = context.fused_temperature if self.temperature is None else self.temperature
        if not (t > 0 and math.isfinite(t)):
            raise UsageError(f"QueryContext.fused_temperature: expected a number > 0, got {t}")
        # In float64, because a quotient can overflow in float32.
        return uncertainty(self.uncertainty, np.asarray(pool.fused_logits, dtype=np.float64) / t)
