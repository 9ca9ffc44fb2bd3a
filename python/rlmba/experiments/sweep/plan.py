"""The list of a comparison's runs, checked before any of them starts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

from rlmba.config import flat
from rlmba.errors import UsageError
from rlmba.experiments.sweep.ablations import ABLATIONS, BASELINES
from rlmba.experiments.sweep.problems import PlanProblems
from rlmba.experiments.sweep.schema import DatasetEntry, SweepConfig, load_sweep
from rlmba.experiments.sweep.variants import (
    LoadedDatasets,
    PlannedRun,
    Variant,
    dataset_name,
    measured_against,
)
from rlmba.tracking import require_trackers

__all__ = ["SweepPlan", "make_plan"]

_PROTOCOL = (
    "rounds",
    "batch_size",
    "initial_labels",
    "budgets",
    "epochs",
    "validation_fraction",
)
_NAME = re.compile(r"[\w+.-]*\w[\w+.-]*")


@dataclass(frozen=True)
class SweepPlan:
    """All runs of a comparison.

    Attributes
    ----------
    config : SweepConfig
        With explicit strategies, including those that were added because others need them.
    runs : tuple of PlannedRun
        In execution order: all rounds 0, then the runs by seed, so that figures of all strategies are
        available early.
    fingerprints : mapping of data set to str
        Checksums of the data.
    notes : tuple of str
        What was added to the request.
    """

    config: SweepConfig
    runs: tuple[PlannedRun, ...]
    fingerprints: Mapping[str, str]
    notes: tuple[str, ...] = ()


def make_plan(config: SweepConfig, output: Path) -> SweepPlan:
    """List the runs of a comparison and check each of them against its data set.

    Parameters
    ----------
    config : SweepConfig
    output : path
        The comparison's folder, which will contain the runs; nothing is written yet.

    Raises
    ------
    UsageError
        With one line per problem that names the affected runs: an unknown key, strategy, option or data
        set, a budget larger than the pool, two runs with the same name.
    DataError
        If a data set cannot be used.
    """
    config, notes = _complete(config)
    _check_names(config)
    datasets = LoadedDatasets()
    problems = PlanProblems()
    output = output.absolute()
    variants = [
        Variant(output, d, s, fusion, predictor)
        for d in config.datasets
        for fusion in config.fusions
        for predictor, s in [
            ("fused", None),
            *product(config.predictors, config.strategies),
        ]
    ]
    rounds0: dict[tuple[str, str, int], PlannedRun] = {}
    runs: list[PlannedRun] = []
    for variant in variants:
        with problems.of(variant.path):
            base = variant.load(config)
            require_trackers(base.tracking)
            dataset = datasets.load(base, variant.dataset_name)
        if problems.found_in(variant.path):
            continue
        for seed in config.seeds:
            start = (variant.dataset_name, variant.fusion, seed)
            with problems.of(f"{variant.path}/seed{seed}"):
                run = variant.planned_run(base, dataset, seed, rounds0.get(start))
                if variant.strategy is None:
                    rounds0[start] = run
                runs.append(run)
    for run, message in _unlike_baselines(runs):
        problems.add(run.name, message)
    problems.report()
    order = {seed: i for i, seed in enumerate(config.seeds)}
    runs.sort(key=lambda run: (not run.is_round0, order[run.config.seed]))
    return SweepPlan(
        config, tuple(runs), datasets.fingerprints, (*notes, *_with_round0_of_their_own(runs))
    )


def _complete(config: SweepConfig) -> tuple[SweepConfig, tuple[str, ...]]:
    """Add the ablations if requested, and the baselines of relative rewards."""
    strategies = list(config.strategies)
    notes = []

    def add(names: Sequence[str]) -> str:
        missing = [n for n in names if n not in {s.name for s in strategies}]
        if missing:
            strategies.extend(load_sweep({"strategies": missing}).strategies)
        return ", ".join(missing)

    if config.ablations:
        if added := add(["rlmba"]):
            notes.append(f"added {added}: the ablations are variants of it")
        add(list(ABLATIONS))
    common = flat(config.settings)
    for d in config.datasets:
        common |= flat(d.settings)
    against = {
        s.name: measured_against(common | flat(s.settings) | flat(config.overrides))
        for s in strategies
        if s.name not in BASELINES
    }
    relative = [name for name, baselines in against.items() if baselines and name not in baselines]
    if added := add(list(dict.fromkeys(chain.from_iterable(against.values())))):
        notes.append(
            f"added {added}: the reward of {', '.join(relative)} is relative to their curves"
        )
    if not strategies:
        raise UsageError(
            "strategies: expected at least one, got none; give --strategies random,badge,rlmba-x or "
            "--ablations. `rlmba strategies` lists all strategies"
        )
    update = {"strategies": strategies, "ablations": False, "datasets": _absolute(config.datasets)}
    return config.model_copy(update=update), tuple(notes)


def _with_round0_of_their_own(runs: Sequence[PlannedRun]) -> Iterator[str]:
    labels = dict.fromkeys(j.label for j in runs if not j.is_round0 and j.config.round0 is None)
    if labels:
        yield (
            f"{', '.join(labels)}: these train their own round 0, because their settings change the model"
        )


def _absolute(entries: Sequence[DatasetEntry]) -> list[DatasetEntry]:
    keys = ("data", "data_root")
    return [
        e.model_copy(update={k: p.resolve() for k in keys if (p := getattr(e, k)) is not None})
        for e in entries
    ]


def _check_names(config: SweepConfig) -> None:
    axes: dict[str, list[str]] = {
        "data sets": [dataset_name(d) for d in config.datasets],
        "strategies": [s.name for s in config.strategies],
        "fusions": list(config.fusions),
        "predictors": list(config.predictors),
        "seeds": [str(s) for s in config.seeds],
    }
    for what, names in axes.items():
        twice = [n for n, count in Counter(names).items() if count > 1]
        if twice:
            key = {"data sets": "name", "strategies": "label"}.get(what)
            advice = f"give one of them a different `{key}`" if key else "leave one of them out"
            raise UsageError(
                f"{what}: {twice[0]!r} appears twice, so that runs would share a folder; {advice}"
            )
        for name in names:
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{what}: {name!r} becomes a folder name; expected only letters, digits and _ + . -"
                )


def _unlike_baselines(runs: Sequence[PlannedRun]) -> Iterator[tuple[PlannedRun, str]]:
    """Find runs with a relative reward whose baselines follow a different protocol."""
    by_name = {run.name: run for run in runs}
    for run in runs:
        for baseline in (by_name[n] for n in run.needs if n in by_name):
            if baseline.is_round0:
                continue
            for key in _PROTOCOL:
                ours, theirs = getattr(run.config, key), getattr(baseline.config, key)
                if ours != theirs:
                    message = (
                        f"its relative reward is measured against {baseline.label}, which has "
                        f"{key}={theirs}, but this run has {key}={ours}; give both the same value"
                    )
                    yield run, message
