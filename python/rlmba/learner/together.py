"""Run experiments with equal networks round by round, training their networks together."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from rlmba.annotators.oracle import DatasetOracle
from rlmba.config import RunConfig, identity
from rlmba.errors import UsageError
from rlmba.learner.active_learner import ActiveLearner
from rlmba.learner.experiment import Observer, RunResult, ask_oracle, open_experiment
from rlmba.learner.frozen import load_data
from rlmba.learner.labels import Labels
from rlmba.learner.learner_state import Outcome
from rlmba.learner.network import Network, build_network
from rlmba.learner.randomness import fit_seed
from rlmba.learner.round0 import merge_convex_fusions
from rlmba.learner.settings import load_fitting, resolve
from rlmba.training import (
    LabeledSamples,
    Loader,
    ProcessGroup,
    can_stack,
    fit_stacked,
    needs_own_training,
    worker_deaths,
)
from rlmba.types import TrainingDiagnostics

__all__ = ["TrainedTogether", "run_together", "together_key"]

# Settings that may differ between the runs: none of them affects the network or its training.
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
    """Key of the runs that :func:`run_together` can usefully combine.

    Returns
    -------
    str or None
        Runs with equal keys have the same data set, network and protocol. They may differ in seed,
        number of rounds, strategy and its options, predictor, or kind of convex fusion. None if the
        run should be executed alone.
    """
    if config.tracking or needs_own_training(config.training):
        return None
    values = merge_convex_fusions({k: v for k, v in identity(config).items() if k not in _APART})
    return json.dumps(values, sort_keys=True, default=str)


@dataclass
class TrainedTogether:
    """Learners that advance round by round; their networks are trained together where possible.

    Attributes
    ----------
    learners : list of ActiveLearner [K]
    loader : Loader
        Loader of the data set, which all learners share.
    group : ProcessGroup
    """

    learners: list[ActiveLearner]
    loader: Loader
    group: ProcessGroup

    @classmethod
    def build(cls, configs: Sequence[RunConfig]) -> TrainedTogether:
        """Load the data once and prepare every run, before round 0.

        Parameters
        ----------
        configs : sequence of RunConfig [K]
            Configurations with the same :func:`together_key`, resolved or not.

        Raises
        ------
        UsageError
            If there are none, their keys differ, or one of them cannot be satisfied.
        """
        if not configs or len({together_key(c) for c in configs}) != 1:
            raise UsageError(
                "expected one or more runs with the same data set, network and protocol to train together, "
                f"got {len(configs)} that differ; run them one by one"
            )
        first = configs[0]
        group = ProcessGroup.open(first.device, first.training.precision)
        if group.size > 1:
            raise UsageError(
                "expected a single process to train runs together, got one of several launched processes; "
                "start it without a launcher"
            )
        dataset = load_data(first, group, source=load_fitting(first))
        loader = Loader(
            dataset,
            group.device,
            workers=first.training.workers,
            prefetch=first.training.prefetch,
        )
        learners = []
        for config in configs:
            resolved, pool = resolve(config, dataset)
            network = build_network(resolved, dataset, group, loader)
            learners.append(ActiveLearner(resolved, Labels.of_pool(dataset, pool), network))
        return cls(learners, loader, group)

    def round(self, learners: Sequence[ActiveLearner] | None = None) -> list[Outcome]:
        """Advance every learner, or some of them, by one round; they must be at the same round.

        Raises
        ------
        Exception
            The first error of any learner.
        """
        outcomes = self.advance(self.learners if learners is None else learners)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return [o for o in outcomes if isinstance(o, Outcome)]

    def advance(self, learners: Sequence[ActiveLearner]) -> list[Outcome | Exception]:
        """Advance some learners, all at the same round; an error of one does not affect the others."""
        asked = [_attempt(_ask, learner) for learner in learners]
        going = [
            learner
            for learner, error in zip(learners, asked, strict=True)
            if not isinstance(error, Exception)
        ]
        trained = iter(self._train(going))
        outcomes: list[Outcome | Exception] = []
        for learner, error in zip(learners, asked, strict=True):
            result = error if isinstance(error, Exception) else next(trained)
            if isinstance(result, Exception):
                outcomes.append(result)
            elif result is not None:
                outcomes.append(_attempt(learner.conclude, *result))
        return outcomes

    def _train(
        self, learners: Sequence[ActiveLearner]
    ) -> list[tuple[TrainingDiagnostics, float] | Exception]:
        """Train each learner's network; its diagnostics and seconds, or its error."""
        sizes = {len(learner.labels.pool.labeled) for learner in learners}
        taken = any(learner.takes_round0_over for learner in learners)
        networks = [n for learner in learners if isinstance(n := learner.model, Network)]
        if len(learners) < 2 or len(sizes) > 1 or taken or not self._stackable(learners[0]):
            return [_attempt(_trained_alone, learner) for learner in learners]
        start = time.perf_counter()
        for learner in learners:
            learner.begin_training()
        for network in networks:
            network.rewind()
        samples = [
            LabeledSamples(pool.labeled, pool.labels, fit_seed(learner.config.seed, learner.round))
            for learner in learners
            for pool in [learner.labels.pool]
        ]
        config = learners[0].config
        twins = _twins(learners, samples)
        distinct = list(dict.fromkeys(twins))
        results = fit_stacked(
            [networks[k].model for k in distinct],
            self.loader,
            [samples[k] for k in distinct],
            config.training,
            epochs=config.epochs,
            group=self.group,
        )
        result_of = dict(zip(distinct, results, strict=True))
        for network, k in zip(networks, twins, strict=True):
            if network is not networks[k]:
                network.model.load_state_dict(networks[k].model.state_dict())
        share = (time.perf_counter() - start) / len(learners)
        found = [result_of[k] for k in twins]
        return [r if isinstance(r, Exception) else (r, share) for r in found]

    def _stackable(self, learner: ActiveLearner) -> bool:
        network = learner.model
        return isinstance(network, Network) and can_stack(
            network.model, learner.labels.dataset, learner.config.training
        )


def _twins(learners: Sequence[ActiveLearner], samples: Sequence[LabeledSamples]) -> list[int]:
    """For each learner, the first one whose training is the same.

    Runs that differ only in the predictor train the same networks while their selections are the same.
    """
    first: dict[tuple[object, ...], int] = {}
    found = []
    for k, (learner, s) in enumerate(zip(learners, samples, strict=True)):
        weights = learner.model.fusion_weights.tobytes()
        earlier = k if learner.config.training.warm_start else None
        key = (s.seed, s.positions.tobytes(), s.labels.tobytes(), weights, earlier)
        found.append(first.setdefault(key, k))
    return found


def _ask(learner: ActiveLearner) -> None:
    """Propose the next round's batch and add its true labels."""
    oracle = DatasetOracle(learner.labels.dataset)
    if (ticket := ask_oracle(learner, oracle)) is not None:
        learner.add_answers(oracle.collect(ticket))


def _trained_alone(learner: ActiveLearner) -> tuple[TrainingDiagnostics, float]:
    start = time.perf_counter()
    return learner.train(), time.perf_counter() - start


def run_together(
    configs: Sequence[RunConfig],
    outputs: Sequence[Path],
    *,
    resume: bool = False,
    observers: Sequence[Observer | None] | None = None,
) -> list[RunResult | Exception]:
    """Run several configurations at the same time, each in its own run folder.

    Every run queries, trains and records as :func:`~rlmba.learner.run` does. Small networks over data
    in memory are trained with stacked parameters; their results are equal up to rounding.

    Parameters
    ----------
    configs : sequence of RunConfig [K]
        Configurations with the same :func:`together_key`.
    outputs : sequence of path [K]
    resume : bool
        Continue the runs that exist.
    observers : sequence of Observer or None [K]

    Returns
    -------
    list of RunResult or Exception [K]
        The result of each run, or the exception that ended it; an exception does not affect the
        other runs.

    Raises
    ------
    UsageError
        If the keys differ, or a configuration cannot be satisfied; nothing is written then.
    DataError
        If the data cannot be used; nothing is written then.
    """
    together = TrainedTogether.build(configs)
    watching = list(observers or [None] * len(configs))
    results: list[RunResult | Exception | None] = [None] * len(configs)
    running: dict[int, ActiveLearner] = {}
    with contextlib.ExitStack() as stack, together.loader, worker_deaths(together.loader):
        for k, (learner, output) in enumerate(zip(together.learners, outputs, strict=True)):
            try:
                stack.enter_context(open_experiment(learner, Path(output), resume=resume))
            except Exception as error:
                results[k] = error
                continue
            running[k] = learner
            if (observer := watching[k]) is not None:
                observer.begin(learner.config, learner.round)
        while left := [k for k, s in running.items() if results[k] is None and not _done(s)]:
            number = min(running[k].round for k in left)
            members = [k for k in left if running[k].round == number]
            outcomes = together.advance([running[k] for k in members])
            for k, outcome in zip(members, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    results[k] = outcome
                elif (observer := watching[k]) is not None:
                    observer.round(outcome.record)
        for k, learner in running.items():
            results[k] = results[k] or RunResult(Path(outputs[k]), learner.config, learner.records)
    return [r for r in results if r is not None]


def _done(learner: ActiveLearner) -> bool:
    return learner.round > int(learner.config.last_round or 0)


def _attempt(function: Callable[_P, _R], *arguments: _P.args, **named: _P.kwargs) -> _R | Exception:
    """A function's result, or the error that it raised."""
    try:
        return function(*arguments, **named)
    except Exception as error:
        return error
