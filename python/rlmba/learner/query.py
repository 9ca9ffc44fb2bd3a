"""Choose a batch: predict the pool and the labeled samples, and ask the strategy."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlmba.config import RunConfig
from rlmba.errors import DataError, RlmbaWarning
from rlmba.learner.inputs import InputFeatures, prepared
from rlmba.learner.model import LearnerView, Model
from rlmba.learner.randomness import stream
from rlmba.method.herding import first_batch
from rlmba.progress import Announce
from rlmba.runfolder.pending import PendingRound
from rlmba.types import PoolOutputs, QueryContext

__all__ = [
    "LEAST_BATCH",
    "Announce",
    "Clock",
    "NothingToAsk",
    "batch_size",
    "cold_start",
    "first_samples",
    "initial_size",
    "missing_validation",
    "query",
    "readable_only",
    "validation_size",
]


LEAST_BATCH = 10
"""Minimum number of samples in a batch, unless the configuration gives its size."""
LEAST_VALIDATION = 20
"""Minimum number of labels in the validation set; with 20, accuracies differ in steps of 5 points."""


class Clock:
    """Seconds by stage; announces each stage as it begins.

    Parameters
    ----------
    announce : callable
    seconds : mapping of str to float
        Those of the round so far.
    """

    STAGES = ("predict", "select", "train", "validate", "policy")

    def __init__(self, announce: Announce, seconds: Mapping[str, float] | None = None) -> None:
        self._announce = announce
        self.seconds = {**dict.fromkeys(self.STAGES, 0.0), **(seconds or {})}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block as ``stage``."""
        self._announce(stage)
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start


@dataclass(frozen=True)
class NothingToAsk:
    """Why there is no batch; ``ready`` tells that the labels are enough to train on at once."""

    why: str
    ready: bool = False


def batch_size(config: RunConfig, classes: int, number: int, labeled: int) -> int:
    """Samples of the batch of a round.

    Parameters
    ----------
    config : RunConfig
    classes : int
        Number of known classes.
    number : int
        The round. With ``budgets``, its batch reaches the count of that round, or the next count that
        is larger than ``labeled``; without, it has ``batch_size`` samples, or two for each class and at
        least ten.
    labeled : int
        Number of labels outside the validation set.

    Returns
    -------
    int
        0 if the last count of ``budgets`` is reached.
    """
    if counts := config.counts(classes):
        return next((n - labeled for n in counts[min(number, len(counts) - 1) :] if n > labeled), 0)
    return config.batch_size or max(2 * classes, LEAST_BATCH)


def initial_size(config: RunConfig, classes: int) -> int:
    """Labels to start from outside the validation set: ``initial_labels`` or the first of ``budgets``.

    Without them, two for each class and at least ten.
    """
    if counts := config.counts(classes):
        return counts[0]
    return config.initial_labels or max(2 * classes, LEAST_BATCH)


def validation_size(config: RunConfig, classes: int) -> int:
    """Labels of the validation set: ``project.validation_labels``, or two for each class and 20 at least."""
    return config.project.validation_labels or max(2 * classes, LEAST_VALIDATION)


def missing_validation(config: RunConfig, classes: int, have: int, unlabeled: int) -> int:
    """Samples that a validation set of ``have`` lacks; at most a fifth of the unlabeled ones."""
    return max(0, min(validation_size(config, classes) - have, unlabeled // 5))


def query(learner: LearnerView, n: int, clock: Clock) -> PendingRound:
    """Let the strategy choose ``n`` samples of the pool, in a round after the first.

    Raises
    ------
    DataError
        If fewer samples of the pool can be read.
    """
    strategy = learner.strategy
    with clock("predict"):
        outputs, context = _pool_and_context(learner, n)
    with clock("select"):
        selection = strategy.query(outputs, context, n)
    drawn = selection.seconds.get("policy", 0.0)
    clock.seconds["select"] -= drawn
    clock.seconds["policy"] += drawn
    return PendingRound(
        round=learner.round,
        ids=[str(i) for i in outputs.ids[selection.positions]],
        scores=[float(s) for s in selection.scores.tolist()],
        seconds=clock.seconds,
        select_seconds=dict(selection.seconds),
        backends=dict(selection.backends),
    )


def _pool_and_context(learner: LearnerView, n: int) -> tuple[PoolOutputs, QueryContext]:
    """Predict the pool and the labeled set with the current model, under the coming round's fusion."""
    model, pool, state = learner.model, learner.labels.pool, learner.state
    strategy, seed, number = learner.strategy, learner.config.seed, learner.round
    outputs = model.predict(pool.unlabeled, keep_on_device=strategy.on_device)
    asked, known = pool.unlabeled, pool.labeled
    if (readable := outputs.readable) is not None:
        outputs, asked = outputs.take(readable), asked[readable]
    if len(outputs) < n:
        raise DataError(
            f"round {number}: expected {n} samples to choose, only {len(outputs)} of the pool's "
            f"{len(pool.unlabeled)} can be read; repair their files, or start again with fewer rounds"
        )
    if strategy.dropout_passes:
        draw = int(stream(seed, "dropout", number).integers(2**63))
        passes = model.dropout_logits(outputs, strategy.dropout_passes, seed=draw)
        outputs = replace(outputs, dropout_logits=passes)
    labeled, labels = model.predict(known), pool.labels
    if (readable := labeled.readable) is not None:
        labeled, labels, known = labeled.take(readable), labels[readable], known[readable]
    if "input_features" in strategy.needs:
        outputs, labeled = _with_inputs(model, (outputs, asked), (labeled, known))
    context = QueryContext(
        rng=stream(seed, "query", number),
        round=number,
        weights=state.weights,
        temperatures=state.temperatures,
        fused_temperature=state.fused_temperature,
        contributions=state.delta,
        labeled_features=labeled.fused_features,
        labels=labels,
        labeled_modalities=labeled.features,
        labeled_present=labeled.present,
        labeled_input_features=labeled.input_features,
        head=model.head(),
        fusion_weights=model.fusion_weights,
        validation=state.validation,
        training=state.training,
    )
    return outputs, context


def _with_inputs(
    model: Model, *given: tuple[PoolOutputs, NDArray[np.int64]]
) -> tuple[PoolOutputs, ...]:
    """Outputs of samples at dataset positions, with their input features."""
    positions = np.concatenate([at for _, at in given])
    inputs = model.input_features(positions)
    if inputs is None:
        warnings.warn(
            "the strategy compares samples by input features, and this model has none: the features of "
            "its outputs are used; pass features={modality: array [N, d]} to ActiveLearner.from_model",
            RlmbaWarning,
            stacklevel=2,
        )
        inputs = _from_outputs(positions, [outputs.host() for outputs, _ in given])
    return tuple(replace(outputs, input_features=inputs.at(at).features) for outputs, at in given)


def _from_outputs(positions: NDArray[np.int64], outputs: Sequence[PoolOutputs]) -> InputFeatures:
    names = outputs[0].modalities
    features = {m: np.concatenate([o.features[m] for o in outputs]) for m in names}
    present = np.concatenate(
        [
            np.ones((len(o), len(names)), np.bool_) if o.present is None else o.present
            for o in outputs
        ]
    )
    return prepared(positions, features, present)


def cold_start(learner: LearnerView, n: int | None, clock: Clock) -> PendingRound | NothingToAsk:
    """What round 0 lacks: samples that cover the others (herding), and a validation set.

    Parameters
    ----------
    learner : LearnerView
        More samples may be set aside for its validation set.
    n : int or None
        Samples outside the validation set, where some are needed; None: as many as are needed to start.
    clock : Clock
    """
    config, labels = learner.config, learner.labels
    classes = len(labels.classes)
    rng = stream(config.seed, "validation", learner.answered)
    wanted = labels.unlabeled_validation
    have = len(labels.pool.validation) + len(wanted)
    missing = missing_validation(config, classes, have, len(labels.pool.unlabeled))
    if missing and labels.source.validation_positions is None:
        drawn = labels.pool.ids_at(np.sort(rng.permutation(len(labels.pool.unlabeled))[:missing]))
        learner.set_aside([str(i) for i in drawn])
        wanted = [*wanted, *(str(i) for i in drawn)]
    pool = labels.pool
    need = max(0, initial_size(config, classes) - len(pool.labeled))
    if need == 0 and labels.labeled_classes < 2:
        need = batch_size(config, classes, 0, len(pool.labeled)) or LEAST_BATCH
    need = min(n if need and n else need, len(pool.unlabeled))
    if need == 0 and not wanted:
        ready = labels.labeled_classes >= 2 and bool(len(pool.validation))
        enough = (
            "what is labeled is enough to start from"
            if ready
            else f"no sample is left to ask for, and {len(pool.labeled)} labels of "
            f"{labels.labeled_classes} classes are not enough to train on"
        )
        return NothingToAsk(enough, ready)
    with clock("select"):
        chosen = first_samples(learner.model, pool.unlabeled, pool.labeled, need) if need else None
        if chosen is None:
            ids, scores = _random(learner, rng, need)
        else:
            ids, scores = [str(i) for i in pool.ids_at(chosen[0])], chosen[1].tolist()
    return PendingRound(0, [*ids, *wanted], wanted, scores, clock.seconds)


def first_samples(
    model: Model,
    unlabeled: NDArray[np.int64],
    labeled: NDArray[np.int64],
    n: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Choose samples that cover the others, without a trained model.

    Parameters
    ----------
    model : Model
    unlabeled : int64 array [N]
        Dataset positions to choose from. Samples without a readable modality are not chosen.
    labeled : int64 array [L]
        Dataset positions that have labels already.
    n : int
        Number of samples to choose; fewer are chosen if fewer can be read.

    Returns
    -------
    (int64 array [n], float64 array [n]) or None
        Indices into ``unlabeled`` in chosen order, and their gains in coverage
        (:func:`rlmba.method.herding.first_batch`); None if the model has no input features.
    """
    inputs = model.input_features(unlabeled)
    if inputs is None:
        return None
    readable = inputs.readable
    inputs = inputs.rows(readable)
    covered = model.input_features(labeled) if len(labeled) else None
    if covered is not None:
        covered = covered.rows(covered.readable)
    found = first_batch(
        inputs.features,
        min(n, len(readable)),
        labeled=None if covered is None else covered.features,
    )
    return readable[found.indices], found.gains


def _random(
    learner: LearnerView, rng: np.random.Generator, need: int
) -> tuple[list[str], list[float]]:
    pool = learner.labels.pool
    drawn = rng.permutation(len(pool.unlabeled))[:need]
    return [str(i) for i in pool.ids_at(drawn)], [0.0] * len(drawn)


def readable_only(
    outputs: PoolOutputs, labels: NDArray[np.int64]
) -> tuple[PoolOutputs, NDArray[np.int64]]:
    """Without samples none of whose files could be read: a model says nothing of them."""
    readable = outputs.readable
    return (outputs, labels) if readable is None else (outputs.take(readable), labels[readable])
