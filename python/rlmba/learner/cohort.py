"""Several runs of one network, round by round, trained together."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from rlmba.config import RunConfig, identity
from rlmba.errors import UsageError
from rlmba.learner.frozen import load_data
from rlmba.learner.randomness import fit_seed
from rlmba.learner.round import RoundOutcome, RoundUnderWay, conclude, query, train
from rlmba.learner.round0 import one_convex
from rlmba.learner.run import Observer, RunResult, keep, opened
from rlmba.learner.session import Session, build_network, resolve
from rlmba.runfolder.store import RunStore
from rlmba.training import (
    Loader,
    Mesh,
    Samples,
    fit_together,
    go_together,
    trains_alone,
    worker_deaths,
)
from rlmba.types import TrainingDiagnostics

__all__ = ["Cohort", "run_together", "together_key"]

# What runs of a cohort may differ in: nothing of it decides the network or how it is trained.
_APART = (
    "seed",
    "strategy",
    "strategy_options",
    "amcb",
    "reward",
    "predictor",
    "adaptive_penalty",
    "rounds",
)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def together_key(config: RunConfig) -> str | None:
    """What runs must have in common to go through :func:`run_together` to advantage.

    Returns
    -------
    str or None
        Runs of equal keys learn one data set with one network under one protocol and differ in seed,
        strategy, its options, or convex fusion. None: this run goes best alone.
    """
    if config.tensorboard or trains_alone(config.training):
        return None
    values = one_convex({k: v for k, v in identity(config).items() if k not in _APART})
    return json.dumps(values, sort_keys=True, default=str)


@dataclass
class Cohort:
    """Sessions that advance round by round, their networks trained together where they can be.

    Attributes
    ----------
    sessions : list of Session [K]
        A session's strategy may be replaced before its first round.
    loader : Loader
        Of the data set that all of them share.
    mesh : Mesh
    """

    sessions: list[Session]
    loader: Loader
    mesh: Mesh

    @classmethod
    def build(cls, configs: Sequence[RunConfig]) -> Cohort:
        """Load the data once and set every run up, before round 0.

        Parameters
        ----------
        configs : sequence of RunConfig [K]
            Of one :func:`together_key`, resolved or not.

        Raises
        ------
        UsageError
            If there is none, their keys differ, or one cannot be met.
        """
        if not configs or len({together_key(c) for c in configs}) != 1:
            raise UsageError(
                "cohort: expected one or more runs of one data set, network and protocol, got "
                f"{len(configs)} of different ones; run them apart"
            )
        first = configs[0]
        mesh = Mesh.open(first.device, first.training.precision)
        if mesh.size > 1:
            raise UsageError(
                "cohort: expected a process of its own, got one of several launched together; start "
                "it without a launcher"
            )
        dataset = load_data(first, mesh)
        loader = Loader(
            dataset,
            mesh.device,
            workers=first.training.workers,
            prefetch=first.training.prefetch,
        )
        sessions = []
        for config in configs:
            resolved, pool = resolve(config, dataset)
            network = build_network(resolved, dataset, mesh, loader)
            sessions.append(Session.build(resolved, dataset, pool, network))
        return cls(sessions, loader, mesh)

    def round(self, number: int) -> list[RoundOutcome]:
        """Advance every session by one round.

        Raises
        ------
        Exception
            The first error of any session.
        """
        outcomes = self.advance(number, self.sessions)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return [o for o in outcomes if isinstance(o, RoundOutcome)]

    def advance(
        self,
        number: int,
        sessions: Sequence[Session],
        announce: Callable[[str], None] = lambda _: None,
    ) -> list[RoundOutcome | Exception]:
        """Advance some sessions by one round; the error of one leaves the others unharmed."""
        begun = [_attempt(query, s, number, announce) for s in sessions]
        going = [
            (s, b) for s, b in zip(sessions, begun, strict=True) if isinstance(b, RoundUnderWay)
        ]
        trained = iter(self._train(number, going))
        outcomes: list[RoundOutcome | Exception] = []
        for s, b in zip(sessions, begun, strict=True):
            result = b if isinstance(b, Exception) else next(trained)
            if isinstance(result, Exception):
                outcomes.append(result)
            elif isinstance(b, RoundUnderWay):
                outcomes.append(_attempt(conclude, s, b, result))
        return outcomes

    def _train(
        self, number: int, going: Sequence[tuple[Session, RoundUnderWay]]
    ) -> list[TrainingDiagnostics | Exception]:
        sessions = [s for s, _ in going]
        sizes = {len(s.pool.labeled) for s in sessions}
        taken = number == 0 and any(s.round0 is not None for s in sessions)
        if len(sessions) < 2 or len(sizes) > 1 or taken or not self._stackable(sessions[0]):
            trained: list[TrainingDiagnostics | Exception] = []
            for session, under_way in going:
                with under_way.clock("train"):
                    trained.append(_attempt(train, session, number))
            return trained
        start = time.perf_counter()
        for session in sessions:
            session.network.rewind()
        samples = [
            Samples(s.pool.labeled, s.pool.labels, fit_seed(s.config.seed, number))
            for s in sessions
        ]
        config = sessions[0].config
        results = fit_together(
            [s.network.model for s in sessions],
            self.loader,
            samples,
            config.training,
            epochs=config.epochs,
            mesh=self.mesh,
        )
        share = (time.perf_counter() - start) / len(going)
        for _, under_way in going:
            under_way.clock.seconds["train"] += share
        return list(results)

    def _stackable(self, session: Session) -> bool:
        return go_together(session.network.model, session.dataset, session.config.training)


def run_together(
    configs: Sequence[RunConfig],
    outputs: Sequence[Path],
    *,
    resume: bool = False,
    observers: Sequence[Observer | None] | None = None,
) -> list[RunResult | Exception]:
    """Run several configurations at once, each into its own run folder.

    Every run chooses, trains and records as :func:`~rlmba.learner.run` does it; small networks over data
    in memory are trained with stacked parameters, which gives each run the same figures to rounding.

    Parameters
    ----------
    configs : sequence of RunConfig [K]
        Of one :func:`together_key`.
    outputs : sequence of path [K]
    resume : bool
        Go on with the runs that are there.
    observers : sequence of Observer or None [K]

    Returns
    -------
    list of RunResult or Exception [K]
        What ended a run; the others are unharmed by it.

    Raises
    ------
    UsageError
        If the keys differ, or a configuration cannot be met; nothing is written then.
    DataError
        If the data cannot be used; nothing is written then.
    """
    cohort = Cohort.build(configs)
    watching = list(observers or [None] * len(configs))
    results: list[RunResult | Exception | None] = [None] * len(configs)
    stores: dict[int, RunStore] = {}
    with contextlib.ExitStack() as stack, cohort.loader, worker_deaths(cohort.loader):
        for k, (session, output) in enumerate(zip(cohort.sessions, outputs, strict=True)):
            try:
                store = stack.enter_context(opened(session, Path(output), resume=resume))
            except Exception as error:
                results[k] = error
                continue
            stores[k] = store
            if (observer := watching[k]) is not None:
                observer.begin(session.config, len(store.records))
        while left := [k for k, s in stores.items() if results[k] is None and not _done(s)]:
            number = min(len(stores[k].records) for k in left)
            members = [k for k in left if len(stores[k].records) == number]
            outcomes = cohort.advance(number, [cohort.sessions[k] for k in members])
            for k, outcome in zip(members, outcomes, strict=True):
                if isinstance(outcome, RoundOutcome):
                    results[k] = _attempt(keep, stores[k], cohort.sessions[k], outcome)
                else:
                    results[k] = outcome
                if results[k] is None and (observer := watching[k]) is not None:
                    observer.round(stores[k].records[-1])
        for k, store in stores.items():
            results[k] = results[k] or RunResult(store.path, store.config, store.records)
    return [r for r in results if r is not None]


def _done(store: RunStore) -> bool:
    return len(store.records) > int(store.config.rounds or 0)


def _attempt(function: Callable[_P, _R], *arguments: _P.args, **named: _P.kwargs) -> _R | Exception:
    """What a function returns, or the error that it raises."""
    try:
        return function(*arguments, **named)
    except Exception as error:
        return error
