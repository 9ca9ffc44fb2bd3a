"""Tables 1 and 2 of the paper, the area under the budget curve, and labels saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from rlmba.experiments import paper, statistics
from rlmba.experiments.content import Cell, TableData
from rlmba.experiments.curves import Group
from rlmba.experiments.scope import Scope, StrategyVariant
from rlmba.experiments.tables.cells import NONE, best, number, spread, text
from rlmba.types import MULTIMODAL

__all__ = ["areas", "labels_saved", "table1", "table2"]


_PAPER = f"paper: as printed there, at {paper.BUDGET:,} labels, with its own networks and training"


@dataclass(frozen=True)
class _Column:
    """A column of a table that has a row for each strategy.

    Its best cells are bold: the largest values, the smallest, or none (""). ``dataset`` is the data set
    that the column is about.
    """

    heading: str
    cell: Callable[[StrategyVariant], Cell]
    dataset: str | None = None
    bold: str = ""


def _table(
    scope: Scope, name: str, title: str, columns: Sequence[_Column], notes: Sequence[str]
) -> TableData:
    rows = [tuple(column.cell(row) for column in columns) for row in scope.rows]
    bold = [
        best(rows, [k], largest=column.bold == "largest")
        for k, column in enumerate(columns)
        if column.bold
    ]
    return scope.table(
        name,
        title,
        [column.heading for column in columns],
        rows,
        scope.notes(*notes),
        bold=frozenset().union(*bold),
        column_datasets=[column.dataset for column in columns],
    )


def _strategy(scope: Scope) -> _Column:
    return _Column("strategy", lambda row: text(scope.name(row)))


def _seeds(scope: Scope) -> _Column:
    def cell(row: StrategyVariant) -> Cell:
        counts = sorted(
            {len(g.seeds) for g in scope.groups if StrategyVariant(g.strategy, g.variant) == row}
        )
        if len(counts) == 1:
            return text(counts[0])
        return Cell(f"{counts[0]} to {counts[-1]}", float(counts[0]))

    return _Column("seeds", cell)


def table1(scope: Scope) -> TableData:
    """Table 1: Top-1 of the fused head at a budget, one column per data set, and the paper's numbers.

    Ablations with a label are shown in :func:`table2` instead.
    """
    return _at_budget(scope.main, "table1", "Table 1: Top-1 at a budget", ablation=False)


def table2(scope: Scope) -> TableData | None:
    """Table 2: the ablations, with ``bmmal`` above them; None if no variant has run."""
    title = "Table 2: ablations, Top-1 at a budget"
    chosen = scope.ablations
    return None if chosen is None else _at_budget(chosen, "table2", title, ablation=True)


def _at_budget(scope: Scope, name: str, title: str, *, ablation: bool) -> TableData:
    """Top-1 at the budget, with a second column for each data set that the paper has numbers of."""

    def ours(dataset: str, row: StrategyVariant) -> Cell:
        group = scope.find(row, dataset)
        at = None if group is None else scope.column_of(group)
        return spread(None if group is None or at is None else group.top1[MULTIMODAL][:, at])

    def printed(dataset: str, row: StrategyVariant) -> Cell:
        known = not row.variant
        return number(paper.top1_of(dataset, row.strategy, ablation=ablation) if known else None)

    columns = [
        _strategy(scope),
        _Column("fusion", lambda _: text(scope.fusion)),
        _Column("predictor", lambda _: text(scope.predictor)),
        _seeds(scope),
    ]
    notes = ["Top-1 of the fused head, mean ± s.d. over seeds; bold: the highest mean of a column."]
    for dataset in scope.datasets:
        budget = scope.budget_of(dataset)
        heading = f"{dataset} at {'no shared budget' if budget is None else budget}"
        columns.append(_Column(heading, partial(ours, dataset), dataset, "largest"))
        if any(printed(dataset, row) != NONE for row in scope.rows):
            columns.append(_Column(f"{dataset} paper", partial(printed, dataset), dataset))
            notes[1:] = [_PAPER]
    if shares := _largest_classes(scope):
        notes.append(
            f"Share of the largest class, which is the Top-1 without any features: {shares}."
        )
    return _table(scope, name, title, columns, notes)


def _largest_classes(scope: Scope) -> str:
    """Share of the largest class at the budget, by data set where it is known: "cub10 0.100, ..."."""
    found: dict[str, list[float]] = {}
    for group in scope.groups:
        at = scope.column_of(group)
        if at is not None:
            found.setdefault(group.dataset, []).extend(group.majority[:, at])
    means = {dataset: float(np.mean(values)) for dataset, values in found.items()}
    return ", ".join(f"{d} {mean:.3f}" for d, mean in means.items() if not np.isnan(mean))


def areas(scope: Scope) -> TableData:
    """Area under the budget curve: as the mean over rounds, and as DeepAL+ computes and rounds it."""

    def mean(dataset: str, row: StrategyVariant) -> Cell:
        return spread(_area(scope.find(row, dataset), "mean"))

    def as_deepal(dataset: str, row: StrategyVariant) -> Cell:
        areas = _area(scope.find(row, dataset), "deepal")
        if areas is None:
            return NONE
        mean, sd = statistics.deepal_summary(areas)
        return Cell(f"{mean:.4f} ± {sd:.4f}" if len(areas) > 1 else f"{mean:.3f}", mean)

    columns = [_strategy(scope), _seeds(scope)]
    for dataset in scope.datasets:
        columns += [
            _Column(f"{dataset} AUBC", partial(mean, dataset), dataset, "largest"),
            _Column(f"{dataset} DeepAL+", partial(as_deepal, dataset), dataset),
        ]
    note = (
        "AUBC: mean over rounds of the fused head's Top-1, round 0 included; mean ± s.d. over seeds; "
        "bold: the highest mean. DeepAL+: the definition of that toolkit, the area by trapezoids over the "
        "labels queried, each run rounded to three decimals; its s.d. divides by the number of seeds."
    )
    return _table(scope, "aubc", "Area under the budget curve", columns, [note])


def _area(group: Group | None, rule: statistics.AubcRule) -> np.ndarray | None:
    if group is None or np.isnan(group.top1[MULTIMODAL]).any():
        return None
    return statistics.aubc(group.labels, group.top1[MULTIMODAL], rule=rule)


def labels_saved(scope: Scope, reference: str = "random") -> TableData | None:
    """Labels at which each mean curve first reaches the reference's final accuracy.

    None if no data set has the reference.
    """
    finals = {
        dataset: final
        for dataset in scope.datasets
        if (final := _final(scope, reference, dataset)) is not None
    }
    if not finals:
        return None

    def needed(dataset: str, row: StrategyVariant) -> float | None:
        group = scope.find(row, dataset)
        if group is None or np.isnan(group.top1[MULTIMODAL]).any():
            return None
        mean = group.top1[MULTIMODAL].mean(axis=0, keepdims=True)
        return float(statistics.labels_to_reach(group.labels, mean, finals[dataset][1])[0])

    def labels(dataset: str, row: StrategyVariant) -> Cell:
        return number(needed(dataset, row), ".0f")

    def share(dataset: str, row: StrategyVariant) -> Cell:
        n = needed(dataset, row)
        return number(None if n is None else n / finals[dataset][0], ".0%")

    columns = [_strategy(scope)]
    for dataset in finals:
        columns += [
            _Column(f"{dataset} labels", partial(labels, dataset), dataset, "smallest"),
            _Column(f"{dataset} share", partial(share, dataset), dataset),
        ]
    targets = "; ".join(f"{d}: {top1:.4f} at {budget}" for d, (budget, top1) in finals.items())
    note = (
        "Labels at which the mean curve over seeds first reaches the final mean Top-1 of "
        f"{reference} ({targets}), interpolated linearly between rounds; share: fraction of the budget of "
        f"{reference}; —: not reached."
    )
    title = f"Labels needed to reach the final accuracy of {reference}"
    return _table(scope, "labels", title, columns, [note])


def _final(scope: Scope, reference: str, dataset: str) -> tuple[int, float] | None:
    """Return the reference's budget and its mean Top-1 there."""
    group = scope.find(StrategyVariant(reference, ""), dataset)
    at = None if group is None else scope.column_of(group)
    if group is None or at is None:
        return None
    top1 = float(group.top1[MULTIMODAL][:, at].mean())
    return None if np.isnan(top1) else (int(group.labels[at]), top1)
