"""Episodes that are actual active-learning runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlmba.config import RunConfig, identity, load_config
from rlmba.errors import UsageError
from rlmba.experiments.policy_training.episodes import Episode
from rlmba.experiments.policy_training.settings import PolicyTraining
from rlmba.learner import TrainedTogether
from rlmba.method.agent import Agent, Collector
from rlmba.strategies import create
from rlmba.strategies.learned import LearnedDraw
from rlmba.types import RoundRecord

__all__ = [
    "RULES",
    "ActiveLearning",
    "agent_of",
    "configurations",
    "name_of",
    "planned",
    "run_all",
    "with_policy",
]

RULES = {"rlmba": "greedy", "rlmba-x": "none", "rlmba-h": "none"}
"""The fixed rule that each strategy's policy modifies, as a value of its option ``policy``."""


def configurations(
    data: Sequence[Path],
    *,
    dataset: str | None,
    strategy: str,
    seed: int | None,
    settings: Sequence[str],
    file: Path | None,
) -> list[RunConfig]:
    """Make the configuration of the runs on each data set.

    Parameters
    ----------
    data : sequence of path
        One file per data set; an empty sequence: the data set is given by ``dataset``.
    dataset : str or None
        None: "features" if there are files, else the default.
    strategy : str
    seed : int or None
    settings : sequence of str
        "KEY=VALUE" for all data sets, "NAME:KEY=VALUE" only for the file NAME.npz; the latter has priority.
    file : path or None
        A YAML file.

    Raises
    ------
    UsageError
        If a setting or NAME is wrong, or the strategy has no policy.
    """
    if strategy not in RULES:
        raise UsageError(
            f"strategy: expected one that has a policy ({', '.join(RULES)}), got {strategy!r}"
        )
    names = [path.stem for path in data]
    own: dict[str, list[str]] = {name: [] for name in names}
    shared = []
    for setting in settings:
        name, colon, rest = setting.partition(":")
        if not colon or "=" in name:
            shared.append(setting)
        elif name in own:
            own[name].append(rest)
        else:
            raise UsageError(
                f"--set {setting!r}: expected one of the data sets {', '.join(names) or 'of --data'} "
                f"before the colon, got {name!r}"
            )
    flags: dict[str, Any] = {
        "dataset": dataset or ("features" if data else None),
        "strategy": strategy,
        "seed": seed,
    }
    sources: Sequence[Path | None] = data or [None]
    return [
        load_config(
            file=file,
            overrides={**flags, "data": path and path.resolve()},
            settings=[*shared, *own.get(path.stem if path else "", [])],
        )
        for path in sources
    ]


def planned(
    configs: Sequence[RunConfig], *, leave_one_out: bool = False, **given: Any
) -> tuple[list[RunConfig], PolicyTraining]:
    """Complete the configurations and the trainer's settings, whose defaults depend on each other.

    If none of the kind of reward, ``siblings`` and ``baseline`` is given, the reward is "siblings",
    measured by NLL. With the reward "siblings", the default is four siblings, which are the baseline.
    The default number of parallel episodes is the smallest multiple of the number of data sets times
    siblings that is at least 8.

    Parameters
    ----------
    configs : sequence of RunConfig
        As :func:`configurations` makes them.
    leave_one_out : bool
        Whether each training lacks one of the data sets.
    **given
        As for :meth:`PolicyTraining.of`; None means not given.

    Raises
    ------
    UsageError
        With one line per problem.
    """
    named = {k: v for k, v in given.items() if v is not None}
    chosen = any("kind" in c.reward.model_fields_set for c in configs)
    if not chosen and named.keys().isdisjoint(("siblings", "baseline")):
        configs = [_judged_by_siblings(c) for c in configs]
    if any(c.reward.kind == "siblings" for c in configs):
        named = {"siblings": 4, "baseline": "siblings", **named}
    family = max(len(configs) - leave_one_out, 1) * max(named.get("siblings", 1), 1)
    named.setdefault("parallel", family * -(-8 // family))
    return list(configs), PolicyTraining.of(**named)


def _judged_by_siblings(config: RunConfig) -> RunConfig:
    measure = config.reward.measure if "measure" in config.reward.model_fields_set else "nll"
    reward = config.reward.model_copy(update={"kind": "siblings", "measure": measure})
    return config.model_copy(update={"reward": reward})


def name_of(config: RunConfig) -> str:
    """The name of a data set: that of its file or folder, if it is read from one."""
    source = config.data or config.data_root
    return config.dataset if source is None else source.stem


def with_policy(config: RunConfig, **options: Any) -> RunConfig:
    """The same configuration with changed options of the strategy."""
    return config.model_copy(update={"strategy_options": {**config.strategy_options, **options}})


def agent_of(config: RunConfig) -> Agent:
    """Make the agent that the strategy of a configuration explores with.

    Raises
    ------
    UsageError
        If an option is wrong.
    """
    options = {**config.strategy_options, "policy": "learned", "explore": True}
    strategy = create(config.strategy, **options)
    if not isinstance(strategy, LearnedDraw) or strategy.agent is None:
        raise AssertionError(f"strategy {config.strategy!r} made no agent under policy 'learned'")
    return strategy.agent


def run_all(
    configs: Sequence[RunConfig], agents: Sequence[Agent] | None = None, *, siblings: int = 1
) -> list[list[RoundRecord]]:
    """Run configurations with the same :func:`~rlmba.learner.together_key` completely, in memory.

    Parameters
    ----------
    configs : sequence of RunConfig [K]
    agents : sequence of Agent [K] or None
        Used instead of the agents that the strategies make.
    siblings : int
        G, a divisor of K. The runs form groups of G consecutive ones. Those of a group start every
        round from the labels and the model of the first, so that they differ only in the last batch.

    Returns
    -------
    list of lists of RoundRecord [K]
        What each run recorded, one record per round.
    """
    together = TrainedTogether.build([_without_siblings(c) for c in configs])
    learners = together.learners
    records: list[list[RoundRecord]] = [[] for _ in learners]
    with together.loader:
        for learner, agent in zip(learners, agents or (), strict=bool(agents)):
            learner.use_agent(agent)
        for number in range(int(learners[0].config.last_round or 0) + 1):
            outcomes = together.round(learners if number else learners[::siblings])
            if number == 0:  # siblings share round 0
                outcomes = [o for o in outcomes for _ in range(siblings)]
            for i, (learner, outcome) in enumerate(zip(learners, outcomes, strict=True)):
                records[i].append(outcome.record)
                if i % siblings:
                    learner.continue_from(learners[i - i % siblings])
    return records


def _without_siblings(config: RunConfig) -> RunConfig:
    """The configuration of one sibling, whose own reward is the absolute one of the same measure."""
    if config.reward.kind != "siblings":
        return config
    reward = config.reward.model_copy(update={"kind": "absolute"})
    return config.model_copy(update={"reward": reward})


class ActiveLearning:
    """Runs on one or several data sets, with equally many of each in every step.

    Episode i uses data set i modulo D. Its seed counts up from the configuration's, by one after every
    D times ``siblings`` episodes. The episodes of a data set are trained together.

    With the reward "siblings", the siblings start every round from the same labels and the same model,
    those of the first of them. Their rewards then differ only by the last batch, and the baseline
    "siblings" compares each batch with the others of the same round.

    Parameters
    ----------
    configs : sequence of RunConfig [D]
        One per data set; all have one strategy with the same options.
    settings : PolicyTraining

    Raises
    ------
    UsageError
        If two data sets have the same name, a step cannot have equally many episodes of each, or the
        reward is "siblings" and the settings have no siblings to compare with.
    """

    def __init__(self, configs: Sequence[RunConfig], settings: PolicyTraining) -> None:
        self.configs = [with_policy(c, policy="learned", explore=True) for c in configs]
        self.names = [name_of(c) for c in configs]
        self.siblings = settings.siblings
        if len(set(self.names)) < len(self.names):
            raise UsageError(
                f"expected data sets with different names, got {', '.join(self.names)}; rename a file"
            )
        if len({(c.strategy, str(c.strategy_options)) for c in configs}) != 1:
            raise UsageError("expected one strategy with the same options on all data sets")
        same_state = any(c.reward.kind == "siblings" for c in configs)
        if same_state and settings.baseline != "siblings":
            raise UsageError(
                'reward.kind "siblings": expected --baseline siblings and --siblings of 2 or more, got '
                f"--baseline {settings.baseline} --siblings {settings.siblings}; add "
                "`--baseline siblings --siblings 4`"
            )
        if same_state and settings.returns != "immediate":
            raise UsageError(
                'reward.kind "siblings": expected --returns immediate, got --returns '
                f"{settings.returns}; the rounds after a batch continue from the first sibling's only"
            )
        family = len(configs) * settings.siblings
        if settings.parallel % family:
            raise UsageError(
                f"parallel: expected a multiple of {family} ({len(configs)} data sets x "
                f"{settings.siblings} siblings), got {settings.parallel}"
            )

    @property
    def facts(self) -> Mapping[str, Any]:
        """The data sets' names and configurations."""
        return {"tasks": self.names, "configs": [identity(c) for c in self.configs]}

    def run(self, agent: Agent, numbers: range) -> list[Episode]:
        """Run episodes; see :class:`~rlmba.experiments.policy_training.PolicyEnvironment`."""
        episodes: dict[int, Episode] = {}
        for d, (name, config) in enumerate(zip(self.names, self.configs, strict=True)):
            mine = [i for i in numbers if i % len(self.configs) == d]
            seeds = [config.seed + i // (len(self.configs) * self.siblings) for i in mine]
            collectors = [Collector(agent, np.random.default_rng([config.seed, i])) for i in mine]
            runs = run_all(
                [config.model_copy(update={"seed": s}) for s in seeds],
                collectors,
                siblings=self.siblings if config.reward.kind == "siblings" else 1,
            )
            for i, seed, collector, records in zip(mine, seeds, collectors, runs, strict=True):
                rewards = np.array([r.raw_reward for r in records[1:]], dtype=np.float64)
                episodes[i] = Episode(name, seed, collector.draws, rewards)
        return [episodes[i] for i in numbers]
