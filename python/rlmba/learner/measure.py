"""Measure a trained model on the validation and the test set, and set the coming round's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.learner.model import LearnerView
from rlmba.learner.query import readable_only
from rlmba.learner.randomness import stream
from rlmba.learner.state import RoundState
from rlmba.method import amcb
from rlmba.training import (
    adaptive_fusion_weights,
    evaluate,
    fit_temperatures,
    shapley_contributions,
)
from rlmba.types import MULTIMODAL, Evaluation, LinearHead, PoolOutputs, TrainingDiagnostics

__all__ = ["Measured", "measure"]


@dataclass(frozen=True)
class Measured:
    """A trained model's figures, and the state that the next round starts from.

    Parameters
    ----------
    state : RoundState
    validation : Evaluation
    test : Evaluation or None
        None without a test set.
    contributions : mapping of modality to float
        Shapley values on the validation set; empty for a model of the user's own.
    temperatures : mapping of head to float
        Fitted on the validation set.
    """

    state: RoundState
    validation: Evaluation
    test: Evaluation | None
    contributions: dict[str, float]
    temperatures: dict[str, float]


def measure(learner: LearnerView, diagnostics: TrainingDiagnostics) -> Measured:
    """Evaluate on the validation and test sets, fit temperatures, and work out AMCB's weights (Eq 1-2)."""
    config, model, pool = learner.config, learner.model, learner.labels.pool
    truth = learner.labels.dataset.labels
    outputs, labels = readable_only(model.predict(pool.validation), truth[pool.validation])
    head = model.head()
    temperatures = fit_temperatures(outputs, labels, fused_head=head is not None)

    def judge(said: PoolOutputs, of: NDArray[np.int64], per_class: bool = False) -> Evaluation:
        return evaluate(
            said,
            of,
            predictor=config.predictor,
            temperatures=temperatures,
            per_class=per_class,
        )

    validation = judge(outputs, labels)
    test = None
    if len(pool.test):
        test = judge(*readable_only(model.predict(pool.test), truth[pool.test]), per_class=True)

    delta = amcb.contribution_gaps(validation)
    m = len(learner.modalities)
    weights = np.full(m, 1.0 / m)
    if config.amcb.enabled:
        weights = amcb.balance_weights(delta, tau=config.amcb.tau, floor=config.amcb.floor)
    state = RoundState(
        weights=weights,
        fusion_weights=_fusion_weights(learner, weights, head, outputs, labels),
        temperatures=np.array([temperatures[name] for name in learner.modalities]),
        delta=delta,
        fused_temperature=temperatures[MULTIMODAL],
        validation=validation,
        training=diagnostics,
    )
    contributions = {}
    if head is not None and not model.fixed_fusion:
        contributions = shapley_contributions(
            outputs,
            labels,
            head.weight,
            head.bias,
            model.fusion_weights.astype(np.float32),
            rng=stream(config.seed, "shapley", len(pool.labeled)),
        )
    return Measured(state, validation, test, contributions, temperatures)


def _fusion_weights(
    learner: LearnerView,
    weights: NDArray[np.float64],
    head: LinearHead | None,
    outputs: PoolOutputs,
    labels: NDArray[Any],
) -> NDArray[np.float64]:
    """Weights of the coming round's fusion, by the configured rule."""
    fusion = "uniform" if learner.model.fixed_fusion else learner.config.fusion
    if fusion == "amcb":
        return weights
    if fusion == "adaptive" and head is not None:
        return adaptive_fusion_weights(
            list(outputs.features.values()),
            labels,
            head.weight,
            head.bias,
            penalty=learner.config.adaptive_penalty,
            present=outputs.present,
        )
    m = len(learner.modalities)
    return np.full(m, 1.0 / m)
