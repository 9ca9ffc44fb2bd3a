"""Choose a batch: predict the pool and the labeled samples, and ask the strategy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rlmba.config import RunConfig
from rlmba.errors import DataError
from rlmba.learner.model import LearnerView
from rlmba.learner.randomness import stream
from rlmba.runfolder.pending import PendingRound
from rlmba.strategies import create
from rlmba.types import PoolOutputs, QueryContext

__all__ = [
    "LEAST_BATCH",
    "Announce",
    "Clock",
    "NothingToAsk",
    "batch_size",
    "cold_start",
    "initial_size",
    "missing_validation",
    "query",
    "readable_only",
    "validation_size",
]

Announce = Callable[[str], None]
"""Called with the name of each stage as it begins."""

LEAST_BATCH = 10
"""Samples of a batch at least, unless the configuration gives its size."""
LEAST_VALIDATION = 20
"""Labels of the validation set at least: with 20, accuracies differ in steps of 5 points."""


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
    if (readable := outputs.readable) is not None:
        outputs = outputs.take(readable)
    if len(outputs) < n:
        raise DataError(
            f"round {number}: expected {n} samples to choose, only {len(outputs)} of the pool's "
            f"{len(pool.unlabeled)} can be read; repair their files, or start again with fewer rounds"
        )
    if strategy.dropout_passes:
        draw = int(stream(seed, "dropout", number).integers(2**63))
        passes = model.dropout_logits(outputs, strategy.dropout_passes, seed=draw)
        outputs = replace(outputs, dropout_logits=passes)
    labeled, labels = readable_only(model.predict(pool.labeled), pool.labels)
    context = QueryContext(
        rng=stream(seed, "query", number),
        round=number,
        weights=state.weights,
        temperatures=state.temperatures,
        contributions=state.delta,
        labeled_features=labeled.fused_features,
        labels=labels,
        labeled_modalities=labeled.features,
        labeled_present=labeled.present,
        head=model.head(),
        fusion_weights=model.fusion_weights,
        validation=state.validation,
        training=state.training,
    )
    return outputs, context


def cold_start(learner: LearnerView, n: int | None, clock: Clock) -> PendingRound | NothingToAsk:
    """What round 0 lacks: samples that cover the others (k-center on features), and a validation set.

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
    with clock("predict"):
        outputs, context = _untrained(learner, rng)
    with clock("select"):
        ids, scores = _covering(outputs, context, need) if outputs else _random(learner, rng, need)
    return PendingRound(0, [*ids, *wanted], wanted, scores, clock.seconds)


def _untrained(
    learner: LearnerView, rng: np.random.Generator
) -> tuple[PoolOutputs | None, QueryContext]:
    """The pool and the labeled samples as the untrained model sees them."""
    model, pool = learner.model, learner.labels.pool
    context = QueryContext(rng=rng, fusion_weights=learner.state.fusion_weights)
    outputs = model.predict_untrained(pool.unlabeled)
    if outputs is None:
        return None, context
    if (readable := outputs.readable) is not None:
        outputs = outputs.take(readable)
    labeled = model.predict_untrained(pool.labeled) if len(pool.labeled) else None
    if labeled is not None:
        labeled, _ = readable_only(labeled, pool.labels)
        context = replace(
            context,
            labeled_features=labeled.fused_features,
            labeled_modalities=labeled.features,
            labeled_present=labeled.present,
        )
    return outputs, context


def _covering(
    outputs: PoolOutputs, context: QueryContext, need: int
) -> tuple[list[str], list[float]]:
    """Ids of samples that cover the pool (k-center on fused features), and how far each was."""
    cover = create("coreset").query(outputs.host(), context, min(need, len(outputs)))
    scores = [float(d) if np.isfinite(d) else 0.0 for d in cover.scores]
    return [str(i) for i in outputs.ids[cover.positions]], scores


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
