"""Evaluate whether a policy that was trained on some data sets helps on another one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlmba.config import RunConfig
from rlmba.errors import DataError, UsageError
from rlmba.experiments.content import Cell, TableData
from rlmba.experiments.policy_training.runs import (
    RULES,
    ActiveLearning,
    agent_of,
    name_of,
    run_all,
    with_policy,
)
from rlmba.experiments.policy_training.settings import PolicyTraining
from rlmba.experiments.policy_training.trainer import TrainedPolicy, train_policy
from rlmba.experiments.statistics import paired
from rlmba.experiments.tables.render import terminal
from rlmba.progress import announce
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_text
from rlmba.types import RoundRecord

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["LeaveOneOut", "PolicyComparison", "compare_policy", "leave_one_out"]


@dataclass(frozen=True)
class PolicyComparison:
    """A policy compared with the fixed rule that it modifies, on one data set, paired over seeds.

    ``policy`` and ``rule`` hold the mean Top-1 of the fused head over rounds for each seed, measured on
    ``on``. ``difference`` is the mean of policy - rule, and ``p`` the two-sided p value of a paired t
    test: None for one seed, 1 if no pair differs.
    """

    task: str
    strategy: str
    fusion: str
    on: str
    seeds: tuple[int, ...]
    policy: tuple[float, ...]
    rule: tuple[float, ...]
    difference: float
    p: float | None


@dataclass(frozen=True, kw_only=True)
class _ComparisonFile(PolicyComparison):
    """A comparison as it is stored, with the number of training ``steps`` before it."""

    steps: int


@dataclass(frozen=True)
class LeaveOneOut:
    """The comparisons, one for each data set left out, and their files."""

    comparisons: tuple[PolicyComparison, ...]
    paths: tuple[Path, ...]

    def table(self) -> TableData:
        """Make a table with one row per data set and one over all pairs."""
        return _table(self.comparisons)

    def tables(self) -> list[Table]:
        """The table for a terminal."""
        return [terminal(self.table())]


def compare_policy(config: RunConfig, policy: Path, seeds: Sequence[int]) -> PolicyComparison:
    """Run the trained policy greedily and the untrained rule from the same round 0, for each seed.

    Parameters
    ----------
    config : RunConfig
        The data set and protocol; its strategy must be that of the policy.
    policy : path
    seeds : sequence of int [S]

    Raises
    ------
    CheckpointError
        If the file is not a policy of this strategy.
    """
    trained = {"policy": "learned", "policy_file": str(policy), "explore": False}
    rule = {"policy": RULES[config.strategy], "policy_file": None}
    arms = [
        with_policy(config.model_copy(update={"seed": s}), **arm)
        for arm in (trained, rule)
        for s in seeds
    ]
    runs = run_all(arms)
    on = "test" if all(r.test is not None for run in runs for r in run) else "validation"
    aubc = [float(np.mean([_top1(r, on) for r in run])) for run in runs]
    ours, theirs = aubc[: len(seeds)], aubc[len(seeds) :]
    test = paired(ours, theirs)
    return PolicyComparison(
        task=name_of(config),
        strategy=config.strategy,
        fusion=config.fusion,
        on=on,
        seeds=tuple(seeds),
        policy=tuple(ours),
        rule=tuple(theirs),
        difference=test.difference,
        p=test.p,
    )


def leave_one_out(
    configs: Sequence[RunConfig],
    output: Path,
    settings: PolicyTraining,
    *,
    seeds: int = 8,
    resume: bool = False,
    observer: Callable[[str, Mapping[str, Any]], None] = lambda _name, _figures: None,
) -> LeaveOneOut:
    """For each data set, train on the others, then compare on it.

    Trainings are stored in ``output/without-<name>``, comparisons in ``output/<name>.json`` when they are
    complete. With ``resume``, complete ones are reused.

    Parameters
    ----------
    configs : sequence of RunConfig [D]
        D >= 2 data sets, with one strategy.
    output : path
    settings : PolicyTraining
    seeds : int
        Number of seeds S, which count up from the configuration's.
    resume : bool
    observer : callable
        Called with the name of the data set left out and the figures of each training step.

    Raises
    ------
    UsageError
        If there are fewer than two data sets, or ``output`` is not empty and ``resume`` is false.
    """
    if len(configs) < 2 or seeds < 1:
        raise UsageError(
            "leave one out: expected two or more data sets and one or more seeds, got "
            f"{len(configs)} and {seeds}"
        )
    if not resume and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(
            f"{output} is not empty; add --resume to continue, or give another --output"
        )
    names = [name_of(c) for c in configs]
    plans = [([c for c in configs if c is not left], left) for left in configs]
    environments = [ActiveLearning(others, settings) for others, _ in plans]
    if len(set(names)) < len(names):
        raise UsageError(
            f"expected data sets with different names, got {', '.join(names)}; rename a file"
        )
    made: list[PolicyComparison] = []
    for environment, (others, left), name in zip(environments, plans, names, strict=True):
        trained = train_policy(
            environment,
            agent_of(others[0]),
            output / f"without-{name}",
            settings,
            strategy=left.strategy,
            resume=resume,
            observer=lambda figures, name=name: observer(name, figures),  # type: ignore[misc]
        )
        made.append(_compared(left, trained, output / f"{name}.json", seeds))
    paths = [output / f"{name}.json" for name in names]
    return LeaveOneOut(tuple(made), tuple(paths))


def _compared(
    config: RunConfig, trained: TrainedPolicy, file: Path, seeds: int
) -> PolicyComparison:
    """Read the comparison from its file if it belongs to this training and these seeds, else make it."""
    wanted = list(range(config.seed, config.seed + seeds))
    steps = len(trained.history)
    with contextlib.suppress(DataError):  # a damaged file is replaced
        stored = find_json(file, _ComparisonFile, advice="delete it", finite=False)
        if stored is not None and stored.steps == steps and list(stored.seeds) == wanted:
            return PolicyComparison(
                **{f.name: getattr(stored, f.name) for f in fields(PolicyComparison)}
            )
    announce(f"comparing on {name_of(config)}")
    comparison = compare_policy(config, trained.policy, wanted)
    atomic_write_text(file, json.dumps({**asdict(comparison), "steps": steps}, indent=1) + "\n")
    return comparison


def _table(comparisons: Sequence[PolicyComparison]) -> TableData:
    rows = [_row(c.task, c.policy, c.rule, c.difference, c.p) for c in comparisons]
    if len(comparisons) > 1:
        ours = [x for c in comparisons for x in c.policy]
        rule = [x for c in comparisons for x in c.rule]
        test = paired(ours, rule)
        rows.append(_row("all", ours, rule, test.difference, test.p))
    first = comparisons[0]
    note = (
        f"Mean Top-1 over rounds on {first.on}, {first.fusion} fusion; both start from the same round 0; "
        "p: two-sided paired t test, not corrected for the number of rows."
    )
    return TableData(
        key="leave_one_out",
        title=f"{first.strategy}: policy trained on the other data sets, compared with the untrained rule",
        columns=("data set", "pairs", "policy", "rule", "difference", "p"),
        rows=tuple(rows),
        notes=(note,),
    )


def _row(
    name: str, ours: Sequence[float], rule: Sequence[float], difference: float, p: float | None
) -> tuple[Cell, ...]:
    a, b = float(np.mean(ours)), float(np.mean(rule))
    return (
        Cell(name),
        Cell(str(len(ours)), len(ours)),
        Cell(f"{a:.4f}", a),
        Cell(f"{b:.4f}", b),
        Cell(f"{difference:+.4f}", difference),
        Cell("one pair" if p is None else f"{p:.3f}", p),
    )


def _top1(record: RoundRecord, on: str) -> float:
    evaluation = record.test if on == "test" and record.test is not None else record.validation
    return evaluation.mm.top1
