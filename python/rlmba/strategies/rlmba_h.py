"""RLMBA-H: herding of uncertain samples in the input space, weighted by modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import UsageError
from rlmba.method import herding
from rlmba.method.completing import completed_features
from rlmba.strategies.base import Choice, Stages
from rlmba.strategies.geometry import input_features, unit_rows
from rlmba.strategies.learned import LearnedDraw, policy_inputs
from rlmba.strategies.uncertainty import margin_difficulty, uncertainty
from rlmba.types import MULTIMODAL, PoolOutputs, QueryContext, require_finite_labeled

__all__ = ["RlmbaH"]

_SPACES: Mapping[str, str] = {
    "input": "input_features",
    "modality": "modality_features",
    "fused": "features",
}
_RADII = ("tile", "nearest-labeled")
_UNCERTAINTIES = ("margin", "entropy", "none")
_WEIGHTS = ("fusion", "uniform")


class _Space(NamedTuple):
    """Features of the pool and of labeled samples, and the weights of the modalities."""

    features: Mapping[str, Any]
    labeled: Mapping[str, Any] | None
    weights: NDArray[np.float64]


@dataclass(kw_only=True)
class RlmbaH(LearnedDraw):
    """Samples that cover uncertain samples which no labeled sample covers.

    A sample covers its neighbors to the degree exp(-D / radius^2), where D is the weighted mean of the
    modalities' squared distances. Each pick adds most to sum_x u(x) c(x), where u is the uncertainty of
    the fused softmax and c(x) the largest degree to which a labeled or picked sample covers x. This is
    Uncertainty Herding (Bae et al., 2025) in the input space, with a radius that depends on the number
    of labels, and without a temperature.

    Without a model (no logits and no labeled samples) all samples have equal weight, and the radius is
    0.7 times the tile radius: :func:`rlmba.method.herding.first_batch`.

    Parameters
    ----------
    space : {"input", "modality", "fused"}
        Where distances are measured: the encoders' input, or the model's features by modality or fused,
        as unit rows.
    radius : "tile", "nearest-labeled" or float
        The kernel's radius: the tile radius of L + n balls, the smallest distance between labeled samples
        (as published; the tile radius while there are none), or a number >= 0.
    uncertainty : {"margin", "entropy", "none"}
        u(x) = 1 - (p_(1) - p_(2)) of the fused softmax, its entropy, or 1.
    weights : {"fusion", "uniform"}
        Weights of the modalities in D: those of the fusion, or equal ones.
    trust : float or None
        A Top-1 in [0, 1]. Once the model reaches it on the validation set, labels cover only samples that
        are predicted to be of their class, and gains are multiplied by the uncertainty of the pick
        (:func:`rlmba.method.herding.trusted_batch`). This never happens if the option is None, if
        ``uncertainty`` is "none", or without a validation set, as in :func:`rlmba.select`.
    policy : {"none", "learned"}
        "learned" draws among the first kappa n picks, by a residual over their order. Before it has
        learned anything, and with ``explore=False``, it takes exactly the first n.
    **options
        Those of :class:`~rlmba.strategies.learned.LearnedDraw`.

    Raises
    ------
    UsageError
        If an option is out of its range.

    Notes
    -----
    A missing modality is taken from the nearest sample that has it
    (:func:`rlmba.method.completing.completed_features`). In pools of more than 50,000 samples, only
    50,000 evenly spaced samples count in the sum.

    References
    ----------
    Bae, Oliveira and Sutherland, "Uncertainty herding: one active learning method for all label
    budgets", ICLR 2025.
    """

    name: ClassVar[str] = "rlmba-h"
    summary: ClassVar[str] = "herding: covers uncertain samples in the input space"
    needs: ClassVar[frozenset[str]] = frozenset({"input_features"})
    optional: ClassVar[frozenset[str]] = frozenset({"logits", "labeled", "labels"})
    policies: ClassVar[tuple[str, ...]] = ("none", "learned")
    on_device: ClassVar[bool] = False

    space: str = "input"
    radius: str | float = "tile"
    uncertainty: str = "margin"
    weights: str = "fusion"
    trust: float | None = None
    policy: str = "none"
    sharpness: float = 5.0

    def __post_init__(self) -> None:
        for option, known in (
            ("space", tuple(_SPACES)),
            ("uncertainty", _UNCERTAINTIES),
            ("weights", _WEIGHTS),
        ):
            if (value := getattr(self, option)) not in known:
                raise UsageError(
                    f"rlmba-h: {option}: expected one of {', '.join(known)}, got {value!r}"
                )
        r = self.radius
        if r not in _RADII if isinstance(r, str) else not r >= 0:
            raise UsageError(
                f"rlmba-h: radius: expected one of {_RADII} or a number >= 0, got {r!r}"
            )
        if self.trust is not None and not 0 <= self.trust <= 1:
            raise UsageError(
                f"rlmba-h: trust: expected a number in [0, 1] or None, got {self.trust}"
            )
        super().__post_init__()
        needs = {_SPACES[self.space]}
        if self.agent is not None:
            needs |= {"logits", "modality_logits"}
        self.needs = frozenset(needs)  # type: ignore[misc]

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are the gains; ties by pool position.

        Only a policy that explores is random.

        Raises
        ------
        UsageError
            If the features of the space are missing.
        NonFiniteError
            If features or logits contain NaN or infinity.
        ShapeError, DataError
            If the features of labeled samples do not fit the pool, or are not finite.
        """
        space = self._space(pool, context)
        scored = bool(pool.n_classes)
        if not scored and space.labeled is None:
            with stages("herding"):
                first = herding.first_batch(space.features, n)
            return Choice(first.indices, first.gains)
        with stages("score"):
            u = None
            if scored and self.uncertainty != "none":
                u = uncertainty(self.uncertainty, pool.fused_logits)
        count = n if self.agent is None else min(self.kappa * n, len(pool))
        with stages("herding"):
            positions, gains = self._picks(pool, context, space, u, count=count, size=n)
        picks = np.arange(n)
        if self.agent is not None:
            with stages("policy"):
                inputs = policy_inputs(
                    pool,
                    context,
                    margin_difficulty(pool.fused_logits),
                    positions,
                    order=np.arange(count),
                    distances=gains,
                )
                picks = self.agent.draw(*inputs, n, rng=context.rng)
        return Choice(positions[picks], gains[picks])

    def _picks(
        self,
        pool: PoolOutputs,
        context: QueryContext,
        space: _Space,
        u: NDArray[np.float64] | None,
        *,
        count: int,
        size: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Positions and gains of ``count`` picks, from which a batch of ``size`` is drawn."""
        radius = self._radius(space)
        if u is not None and space.labeled is not None and self._trusts(context):
            return herding.trusted_batch(
                space.features,
                count,
                weights=space.weights,
                utility=u,
                labeled=space.labeled,
                labels=np.asarray(context.labels),
                predicted=pool.fused_logits.argmax(axis=1),
                radius=radius,
                size=size,
            )
        found = herding.later_batch(
            space.features,
            count,
            weights=space.weights,
            utility=u,
            labeled=space.labeled,
            radius=radius,
            size=size,
        )
        return found.indices, found.gains

    def _trusts(self, context: QueryContext) -> bool:
        if self.trust is None or context.validation is None or context.labels is None:
            return False
        return context.validation.mm.top1 >= self.trust

    def _radius(self, space: _Space) -> float | None:
        if not isinstance(self.radius, str):
            return float(self.radius)
        if self.radius == "tile" or space.labeled is None:
            return None
        return herding.nearest_labeled(space.labeled, weights=space.weights)

    def _space(self, pool: PoolOutputs, context: QueryContext) -> _Space:
        m = len(pool.modalities)
        weights = np.full(m, 1 / m)
        if self.weights == "fusion":
            weights = context.fusion_weights_for(pool)
        if self.space == "fused":
            labeled = context.labeled_for(pool)
            given = None if labeled is None else {MULTIMODAL: unit_rows(labeled)}
            return _Space({MULTIMODAL: unit_rows(pool.fused_features)}, given, np.ones(1))
        if self.space == "modality":
            return _Space(*_modality_features(pool, context), weights)
        return _Space(*input_features(pool, context), weights)


def _modality_features(
    pool: PoolOutputs, context: QueryContext
) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """Unit rows by modality of the pool and of the labeled samples, completed."""
    labeled, there = context.labeled_modalities_for(pool), context.labeled_present
    if labeled is None and context.labeled_features is not None:
        raise UsageError(
            "rlmba-h: space 'modality': expected the features of labeled samples by modality, got fused "
            "ones; pass labeled={modality: [L, d], ...}"
        )
    n, m = len(pool), len(pool.modalities)
    size = 0 if labeled is None else len(next(iter(labeled.values())))
    features = {a: unit_rows(f) for a, f in pool.features.items()}
    if labeled is None or not size:
        return completed_features(features, pool.present), None
    for name, f in labeled.items():
        require_finite_labeled(f"QueryContext.labeled_modalities[{name!r}]", f)
    known = {a: unit_rows(labeled[a]) for a in features}
    if pool.present is None and there is None:
        return features, known
    present = [
        np.ones((rows, m), np.bool_) if mask is None else mask
        for rows, mask in ((n, pool.present), (size, there))
    ]
    made = completed_features(
        {a: np.concatenate([f, known[a]]) for a, f in features.items()}, np.concatenate(present)
    )
    return {a: f[:n] for a, f in made.items()}, {a: f[n:] for a, f in made.items()}
