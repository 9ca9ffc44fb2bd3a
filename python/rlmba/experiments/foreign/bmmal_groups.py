"""Runs of BMMAL's code as groups of a report."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlmba.errors import UsageError
from rlmba.experiments.foreign.bmmal import CODE, FIGURES, BmmalRun
from rlmba.experiments.group import STAGES, Array, Group
from rlmba.types import MULTIMODAL

__all__ = ["group_bmmal"]


def group_bmmal(runs: Sequence[BmmalRun], *, datasets: Sequence[str] = ()) -> list[Group]:
    """Group runs of BMMAL's code that differ only by their seeds.

    Parameters
    ----------
    runs : sequence of BmmalRun
    datasets : sequence of str
        Names of the other data sets in the report. If exactly one of them is the run's data set read
        from a folder (``food101:images`` for ``food101``), the run is shown under that name.

    Returns
    -------
    list of Group
        Ordered by data set, then by first appearance. ``top1`` equals ``top1_macro``, because BMMAL's
        Top-1 is the mean over classes; a note names this and the other differences. ``options`` is empty,
        because the conditions of these runs are unknown.

    Raises
    ------
    UsageError
        If two runs of one group have the same seed.
    """
    buckets: dict[tuple[Any, ...], list[BmmalRun]] = {}
    for run in runs:
        key = (_known_name(run.dataset, datasets), run.strategy, run.variant, run.fusion)
        buckets.setdefault((*key, run.labels, tuple(run.figures)), []).append(run)
    groups = []
    for (dataset, *names, labels, _), members in buckets.items():
        others = {key[4] for key in buckets if [key[0], *key[1:4]] == [dataset, *names]}
        grid = f", labels {labels[0]} to {labels[-1]} in {len(labels)} rounds"
        groups.append(_group(dataset, members, grid if len(others) > 1 else ""))
    return sorted(groups, key=lambda group: group.dataset)


def _group(dataset: str, members: list[BmmalRun], grid: str) -> Group:
    members = sorted(members, key=lambda run: run.seed)
    for run, following in itertools.pairwise(members):
        if run.seed == following.seed:
            raise UsageError(
                f"seed {run.seed} of {run.strategy} on {dataset} by {CODE} was found twice, in "
                f"{run.path} and {following.path}; leave one of them out"
            )
    first = members[0]
    where = f"{first.strategy} on {dataset} under {first.fusion} fusion, {CODE}"
    differs = (
        f"{dataset}, {CODE}: Top-1 is the mean over classes (macro), ECE has 32 bins, and contributions are "
        "averages of each test sample's shares; compare with the macro Top-1 of other runs"
    )
    notes = [differs]
    notes += [
        f"{where}: seed {run.seed} is not finished, round {run.unfinished} has no figures yet"
        for run in members
        if run.unfinished is not None
    ]

    def stack(values: Sequence[tuple[float, ...]]) -> Array:
        return np.array(values, dtype=np.float64)

    shape = len(members), len(first.labels)
    modalities = [head for head in first.figures if head != MULTIMODAL]
    unknown = {m: np.full(shape, np.nan) for m in modalities}
    metrics = {
        head: {name: stack([run.figures[head][name] for run in members]) for name in FIGURES}
        for head in first.figures
    }
    seconds = {stage: np.full(len(members), np.nan) for stage in STAGES}
    seconds["select"] = np.array([_mean(run.seconds) for run in members])
    return Group(
        dataset=dataset,
        strategy=first.strategy,
        fusion=first.fusion,
        predictor="fused",
        variant=first.variant + grid,
        on="test",
        seeds=tuple(run.seed for run in members),
        labels=np.array(first.labels, dtype=np.int64),
        top1={head: metrics[head]["top1_macro"] for head in metrics},
        top1_macro={head: metrics[head]["top1_macro"] for head in metrics},
        contributions={m: stack([run.contributions[m] for run in members]) for m in modalities},
        weights=unknown,
        fusion_weights=unknown,
        seconds=seconds,
        metrics=metrics,
        notes=tuple(notes),
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _known_name(dataset: str, others: Sequence[str]) -> str:
    same = {name for name in others if name.split(":", 1)[0] == dataset}
    return same.pop() if len(same) == 1 else dataset
