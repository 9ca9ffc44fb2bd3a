"""One round, from top to bottom."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError
from rlmba.learner.randomness import fit_seed, stream
from rlmba.learner.session import LoopState, Session
from rlmba.method import amcb
from rlmba.strategies import Feedback
from rlmba.training import (
    adaptive_fusion_weights,
    dropout_logits,
    evaluate,
    fit_temperatures,
    shapley_contributions,
)
from rlmba.types import (
    Evaluation,
    LinearHead,
    PoolOutputs,
    QueryContext,
    RoundRecord,
    Selection,
    TrainingDiagnostics,
)

__all__ = [
    "Clock",
    "RoundOutcome",
    "RoundUnderWay",
    "choose",
    "conclude",
    "query",
    "run_round",
    "train",
]


@dataclass(frozen=True)
class RoundOutcome:
    """A round's record and the samples it labeled: ids, labels, scores, in the order chosen."""

    record: RoundRecord
    ids: list[str]
    labels: list[int]
    scores: list[float]


@dataclass
class Clock:
    """Seconds by stage; announces each stage as it begins."""

    announce: Callable[[str], None]
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(
            ("predict", "select", "train", "validate", "policy"), 0.0
        )
    )

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what is done within as ``stage``."""
        self.announce(stage)
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start


@dataclass
class RoundUnderWay:
    """A round whose samples are chosen, and whose training comes next once they are labeled.

    ``outputs`` and ``context`` are what the samples were chosen by, None in round 0.
    """

    number: int
    clock: Clock
    previous: LoopState
    selection: Selection
    ids: list[str]
    scores: list[float]
    labels: list[int] = field(default_factory=list)
    outputs: PoolOutputs | None = None
    context: QueryContext | None = None


def run_round(
    session: Session, number: int, announce: Callable[[str], None] = lambda _: None
) -> RoundOutcome:
    """Query, annotate, fit, evaluate, learn (Algorithm 1); round 0 has nothing to query.

    Parameters
    ----------
    session : Session
        Advanced by one round.
    number : int
        t, the round's number.
    announce : callable
        Told the name of each stage as it begins.
    """
    under_way = query(session, number, announce)
    with under_way.clock("train"):
        diagnostics = train(session, number)
    return conclude(session, under_way, diagnostics)


def query(
    session: Session, number: int, announce: Callable[[str], None] = lambda _: None
) -> RoundUnderWay:
    """Choose samples and take their labels from the data set, which is the oracle of experiments."""
    s = session
    under_way = choose(s, number, announce)
    if number == 0:
        under_way.labels = s.pool.labels.tolist()
        return under_way
    chosen = s.pool.unlabeled[s.pool.pool_positions(under_way.ids)]
    under_way.labels = s.dataset.labels[chosen].tolist()
    s.pool.label(under_way.ids, under_way.labels)
    under_way.outputs = under_way.context = None
    return under_way


def choose(
    session: Session, number: int, announce: Callable[[str], None] = lambda _: None
) -> RoundUnderWay:
    """Choose samples; in round 0 those that the run starts from."""
    s = session
    clock = Clock(announce)
    s.network.model.set_fusion_weights(s.state.fusion_weights)
    if number == 0:
        s.start()
        selection = Selection(np.empty(0, dtype=np.int64), np.empty(0))
        ids = [str(i) for i in s.pool.initial_ids]
        return RoundUnderWay(0, clock, s.state, selection, ids, [0.0] * len(ids))
    with clock("predict"):
        outputs, context = _look(s, number)
    with clock("select"):
        selection = s.strategy.query(outputs, context, int(s.config.batch_size or 0))
    drawn = selection.seconds.get("policy", 0.0)
    clock.seconds["select"] -= drawn
    clock.seconds["policy"] += drawn
    ids = [str(i) for i in outputs.ids[selection.positions]]
    scores = selection.scores.tolist()
    return RoundUnderWay(
        number, clock, s.state, selection, ids, scores, outputs=outputs, context=context
    )


def train(session: Session, number: int) -> TrainingDiagnostics:
    """Train the network on all labels; in round 0 take a trained one over where there is one."""
    s = session
    if number == 0 and s.round0 is not None:
        diagnostics = s.round0.take(s.network.model)
        s.network.share()
        return diagnostics
    identity = {**s.identity(), "round": number, "fusion_weights": s.state.fusion_weights.tolist()}
    return s.network.fit(
        s.pool.labeled,
        s.pool.labels,
        (s.pool.validation, s.dataset.labels[s.pool.validation]),
        seed=fit_seed(s.config.seed, number),
        checkpoint=None if s.training_file is None else (s.training_file, identity),
    )


def conclude(
    session: Session, under_way: RoundUnderWay, diagnostics: TrainingDiagnostics
) -> RoundOutcome:
    """Evaluate the trained network, reward the strategy, and work out the coming round's weights."""
    s, clock, previous = session, under_way.clock, under_way.previous
    number, selection = under_way.number, under_way.selection
    with clock("validate"):
        measured = _measure(s, diagnostics)
    s.state = measured.state

    reward: dict[str, float | None] = {"raw_reward": None, "reward": None, "advantage": None}
    learned: dict[str, float] = {}
    if number > 0:
        with clock("policy"):
            before = previous.validation.mm.top1 if previous.validation else 0.0
            labels = len(s.pool.labeled)
            raw = s.reward.raw(measured.validation.mm.top1, before, labels)
            smooth = s.reward.smooth(raw)
            start = s.reward.at_start(before, labels - len(under_way.ids))
            with s.blamed():
                learned = dict(s.strategy.learn(Feedback(smooth, number, labels, start)))
        reward = {"raw_reward": raw, "reward": smooth, "advantage": learned.pop("advantage", None)}

    record = RoundRecord(
        round=number,
        labels=len(s.pool.labeled),
        selected=len(under_way.ids),
        validation=measured.validation,
        test=measured.test,
        weights=s.by_name(previous.weights),
        fusion_weights=s.by_name(previous.fusion_weights),
        delta=s.by_name(measured.state.delta),
        contributions=measured.contributions,
        temperatures=measured.temperatures,
        training=diagnostics,
        seconds=clock.seconds,
        select_seconds=dict(selection.seconds),
        backends=dict(selection.backends),
        policy=learned,
        **reward,
    )
    return RoundOutcome(record, under_way.ids, under_way.labels, under_way.scores)


def _look(s: Session, number: int) -> tuple[PoolOutputs, QueryContext]:
    """Predict the pool and the labeled set with the current model, under the coming round's fusion."""
    model = s.network.model
    outputs = s.network.predict(s.pool.unlabeled, keep=s.strategy.on_device)
    wanted = int(s.config.batch_size or 0)
    if (readable := outputs.readable) is not None:
        outputs = outputs.take(readable)
    if len(outputs) < wanted:
        raise DataError(
            f"round {number}: expected {wanted} samples to choose, only {len(outputs)} of the pool's "
            f"{len(s.pool.unlabeled)} can be read; repair their files, or run anew with fewer rounds"
        )
    if s.strategy.dropout_passes:
        passes = dropout_logits(
            model,
            outputs.fused_features,
            s.strategy.dropout_passes,
            batch_size=s.config.training.predict_batch_size,
            seed=int(stream(s.config.seed, "dropout", number).integers(2**63)),
        )
        outputs = replace(outputs, dropout_logits=passes)
    labeled, labels = _readable(s.network.predict(s.pool.labeled), s.pool.labels)
    context = QueryContext(
        rng=stream(s.config.seed, "query", number),
        round=number,
        weights=s.state.weights,
        temperatures=s.state.temperatures,
        contributions=s.state.delta,
        labeled_features=labeled.fused_features,
        labels=labels,
        labeled_modalities=labeled.features,
        labeled_present=labeled.present,
        head=LinearHead(*_fused_head(s)),
        fusion_weights=model.fusion_weights.cpu().numpy().astype(np.float64),
        validation=s.state.validation,
        training=s.state.training,
    )
    return outputs, context


def _readable(
    outputs: PoolOutputs, labels: NDArray[np.int64]
) -> tuple[PoolOutputs, NDArray[np.int64]]:
    """Without samples none of whose files could be read: there is nothing to judge them by."""
    readable = outputs.readable
    return (outputs, labels) if readable is None else (outputs.take(readable), labels[readable])


@dataclass(frozen=True)
class _Measured:
    state: LoopState
    validation: Evaluation
    test: Evaluation | None
    contributions: dict[str, float]
    temperatures: dict[str, float]


def _measure(s: Session, diagnostics: TrainingDiagnostics) -> _Measured:
    """Evaluate on V and test, fit temperatures on V, and work out the coming round's weights."""
    config = s.config
    positions = s.pool.validation
    on_v, truth = _readable(s.network.predict(positions), s.dataset.labels[positions])
    temperatures = fit_temperatures(on_v, truth)

    def judge(
        outputs: PoolOutputs, labels: NDArray[np.int64], per_class: bool = False
    ) -> Evaluation:
        return evaluate(
            outputs,
            labels,
            predictor=config.predictor,
            temperatures=temperatures,
            per_class=per_class,
        )

    validation = judge(on_v, truth)
    test = None
    if len(s.pool.test):
        positions = s.pool.test
        outputs = s.network.predict(positions)
        test = judge(*_readable(outputs, s.dataset.labels[positions]), per_class=True)

    delta = amcb.contribution_gaps(validation)
    m = len(s.modalities)
    weights = np.full(m, 1.0 / m)
    if config.amcb.enabled:
        weights = amcb.balance_weights(delta, tau=config.amcb.tau, floor=config.amcb.floor)
    state = LoopState(
        weights=weights,
        fusion_weights=_fusion_weights(s, weights, on_v, truth),
        temperatures=np.array([temperatures[name] for name in s.modalities]),
        delta=delta,
        validation=validation,
        training=diagnostics,
    )
    contributions = shapley_contributions(
        on_v,
        truth,
        *_fused_head(s),
        s.network.model.fusion_weights.cpu().numpy(),
        rng=stream(config.seed, "shapley", len(s.pool.labeled)),
    )
    return _Measured(state, validation, test, contributions, temperatures)


def _fused_head(s: Session) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weight [C, D] and bias [C] of the fused head."""
    head = s.network.model.fused_head
    return head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()


def _fusion_weights(
    s: Session, weights: NDArray[np.float64], on_v: PoolOutputs, truth: NDArray[Any]
) -> NDArray[np.float64]:
    """Weights of the coming round's fusion, by the configured rule."""
    if s.config.fusion == "amcb":
        return weights
    if s.config.fusion == "adaptive":
        weight, bias = _fused_head(s)
        return adaptive_fusion_weights(
            list(on_v.features.values()),
            truth,
            weight,
            bias,
            penalty=s.config.adaptive_penalty,
            present=on_v.present,
        )
    m = len(s.modalities)
    return np.full(m, 1.0 / m)
