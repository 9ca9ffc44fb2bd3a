"""Runs of BMMAL's code as groups, beside ours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlmba.errors import UsageError
from rlmba.experiments.bmmal.folder import CODE, FIGURES, BmmalRun, is_bmmal_run, read_bmmal_run
from rlmba.experiments.curves import group_runs
from rlmba.experiments.group import STAGES, Array, Group
from rlmba.types import MULTIMODAL

__all__ = ["group_bmmal", "read_groups"]


def group_bmmal(runs: Sequence[BmmalRun], *, datasets: Sequence[str] = ()) -> list[Group]:
    """Group runs of BMMAL's code that differ by their seeds alone.

    Parameters
    ----------
    runs : sequence of BmmalRun
    datasets : sequence of str
        Names of data sets that are reported beside. Where just one of them is a run's data set read
        from a folder (``food101:images`` for ``food101``), the run is counted to it.

    Returns
    -------
    list of Group
        Ordered by data set, then as first met. ``top1`` is what BMMAL calls Top-1, the mean over classes,
        as ``top1_macro``; a note says so, and what else differs. ``options`` is empty: under which
        conditions they ran is not known.

    Raises
    ------
    UsageError
        If two runs of one group have the same seed.
    """
    buckets: dict[tuple[Any, ...], list[BmmalRun]] = {}
    for run in runs:
        key = (_beside(run.dataset, datasets), run.strategy, run.variant, run.fusion)
        buckets.setdefault((*key, run.labels, tuple(run.figures)), []).append(run)
    groups = []
    for (dataset, *names, labels, _), members in buckets.items():
        others = {key[4] for key in buckets if [key[0], *key[1:4]] == [dataset, *names]}
        grid = f", labels {labels[0]} to {labels[-1]} in {len(labels)} rounds"
        groups.append(_group(dataset, members, grid if len(others) > 1 else ""))
    return sorted(groups, key=lambda group: group.dataset)


def read_groups(paths: Sequence[Path], *, strict: bool = False) -> list[Group]:
    """Groups of run folders, ours and those of BMMAL's code.

    Parameters
    ----------
    paths : sequence of path
    strict : bool
        As in :func:`~rlmba.experiments.group_runs`, of our runs.

    Returns
    -------
    list of Group
        Ordered by data set, then ours first, each as first met.

    Raises
    ------
    RunFolderError
        If a folder is neither, or damaged.
    UsageError
        If there is none, a seed is there twice, or BMMAL's folder does not tell what it is of.
    """
    from rlmba.runfolder.store import read_run

    foreign = [path for path in map(Path, paths) if is_bmmal_run(path)]
    own = [path for path in map(Path, paths) if path not in foreign]
    groups = (
        group_runs([read_run(path) for path in own], strict=strict) if own or not foreign else []
    )
    others = [read_bmmal_run(path) for path in foreign]
    groups += group_bmmal(others, datasets=[group.dataset for group in groups])
    return sorted(groups, key=lambda group: group.dataset)


def _group(dataset: str, members: list[BmmalRun], grid: str) -> Group:
    members = sorted(members, key=lambda run: run.seed)
    for run, following in itertools.pairwise(members):
        if run.seed == following.seed:
            raise UsageError(
                f"seed {run.seed} of {run.strategy} on {dataset} by {CODE} is there twice, in {run.path} "
                f"and {following.path}: a mean would count it double; leave one out"
            )
    first = members[0]
    where = f"{first.strategy} on {dataset} under {first.fusion} fusion, {CODE}"
    differs = (
        f"{dataset}, {CODE}: Top-1 is the mean over classes (macro), ECE over 32 bins, contributions are "
        "mean shares of single test samples; compare the macro Top-1 of others"
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


def _beside(dataset: str, others: Sequence[str]) -> str:
    same = {name for name in others if name.split(":", 1)[0] == dataset}
    return same.pop() if len(same) == 1 else dataset
