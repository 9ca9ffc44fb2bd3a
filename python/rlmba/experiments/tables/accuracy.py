"""Tables 1 and 2 of the paper, the area under the budget curve, and labels saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlmba.experiments import paper, statistics
from rlmba.experiments.content import Cell, TableData
from rlmba.experiments.curves import Group
from rlmba.experiments.scope import Row, Scope
from rlmba.experiments.tables.cells import NONE, best, number, spread, text
from rlmba.types import MULTIMODAL

__all__ = ["areas", "labels_saved", "table1", "table2"]

_PAPER = f"paper: as printed there, at {paper.BUDGET:,} labels, with its own networks and training"


def table1(scope: Scope) -> TableData:
    """Table 1: Top-1 of the fused head at a budget, data sets across, the paper's numbers beside.

    Labelled ablations are left to :func:`table2`.
    """
    return _at_budget(scope.main, "table1", "Table 1: Top-1 at a budget", ablation=False)


def table2(scope: Scope) -> TableData | None:
    """Table 2: the ablations, with ``bmmal`` above them; None where no variant has run."""
    title = "Table 2: ablations, Top-1 at a budget"
    chosen = scope.ablations
    return None if chosen is None else _at_budget(chosen, "table2", title, ablation=True)


def _at_budget(scope: Scope, key: str, title: str, *, ablation: bool) -> TableData:
    """Top-1 at the budget, one column a data set and one more where the paper prints numbers."""

    def printed(dataset: str, row: Row) -> float | None:
        return paper.top1_of(dataset, row.strategy, ablation=ablation) if not row.variant else None

    beside = [d for d in scope.datasets if any(printed(d, row) is not None for row in scope.rows)]
    columns = ["strategy", "fusion", "predictor", "seeds"]
    ours: list[int] = []
    for dataset in scope.datasets:
        budget = scope.budget_of(dataset)
        ours.append(len(columns))
        columns.append(f"{dataset} at {'no shared budget' if budget is None else budget}")
        if dataset in beside:
            columns.append(f"{dataset} paper")
    rows = []
    for row in scope.rows:
        cells = [*_names(scope, row), _seeds(scope, row)]
        for dataset in scope.datasets:
            cells.append(spread(_top1(scope, scope.find(row, dataset))))
            if dataset in beside:
                cells.append(number(printed(dataset, row)))
        rows.append(tuple(cells))
    return TableData(
        key=f"{key}_{scope.key}",
        title=f"{title}, {scope.heading}",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=scope.notes(
            "Top-1 of the fused head, mean ± s.d. over seeds; bold: the highest mean of a column.",
            *([_PAPER] if beside else []),
        ),
        bold=best(rows, ours),
    )


def _names(scope: Scope, row: Row) -> list[Cell]:
    return [text(scope.name(row)), text(scope.fusion), text(scope.predictor)]


def _seeds(scope: Scope, row: Row) -> Cell:
    counts = sorted({len(g.seeds) for g in scope.groups if Row(g.strategy, g.variant) == row})
    if len(counts) == 1:
        return text(counts[0])
    return Cell(f"{counts[0]} to {counts[-1]}", float(counts[0]))


def _top1(scope: Scope, group: Group | None) -> np.ndarray | None:
    at = None if group is None else scope.column_of(group)
    return None if group is None or at is None else group.top1[MULTIMODAL][:, at]


def areas(scope: Scope) -> TableData:
    """Area under the budget curve, by the mean over rounds, and as DeepAL+ rounds it beside."""
    columns = ["strategy", "seeds"]
    ours: list[int] = []
    for dataset in scope.datasets:
        ours.append(len(columns))
        columns += [f"{dataset} AUBC", f"{dataset} DeepAL+"]
    rows = []
    for row in scope.rows:
        cells = [text(scope.name(row)), _seeds(scope, row)]
        for dataset in scope.datasets:
            group = scope.find(row, dataset)
            cells.append(spread(_area(group, "mean")))
            cells.append(_as_deepal(group))
        rows.append(tuple(cells))
    return TableData(
        key=f"aubc_{scope.key}",
        title=f"Area under the budget curve, {scope.heading}",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=scope.notes(
            "AUBC: mean over rounds of the fused head's Top-1, round 0 included; mean ± s.d. over "
            "seeds; bold: the highest mean. DeepAL+: as that toolkit has it, the area by trapezoids "
            "over the labels queried, rounded to three decimals a run; its s.d. divides by the seeds.",
        ),
        bold=best(rows, ours),
    )


def _area(group: Group | None, rule: statistics.AubcRule) -> np.ndarray | None:
    if group is None or np.isnan(group.top1[MULTIMODAL]).any():
        return None
    return statistics.aubc(group.labels, group.top1[MULTIMODAL], rule=rule)


def _as_deepal(group: Group | None) -> Cell:
    areas = _area(group, "deepal")
    if areas is None:
        return NONE
    mean, sd = statistics.deepal_summary(areas)
    return Cell(f"{mean:.4f} ± {sd:.4f}" if len(areas) > 1 else f"{mean:.3f}", mean)


def labels_saved(scope: Scope, reference: str = "random") -> TableData | None:
    """Labels at which each mean curve first reaches the reference's final accuracy.

    None where no data set has the reference.
    """
    datasets = [d for d in scope.datasets if _final(scope, reference, d) is not None]
    if not datasets:
        return None
    columns = ["strategy"]
    for dataset in datasets:
        columns += [f"{dataset} labels", f"{dataset} share"]
    rows = [
        (
            text(scope.name(row)),
            *(cell for d in datasets for cell in _saved(scope, row, d, reference)),
        )
        for row in scope.rows
    ]
    targets = []
    for dataset in datasets:
        final = _final(scope, reference, dataset)
        if final is not None:
            targets.append(f"{dataset}: {final[1]:.4f} at {final[0]}")
    return TableData(
        key=f"labels_{scope.key}",
        title=f"Labels needed to reach the final accuracy of {reference}, {scope.heading}",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=scope.notes(
            f"Labels at which the mean curve over seeds first reaches the final mean Top-1 of "
            f"{reference} ({'; '.join(targets)}), between rounds by straight lines; share: of "
            f"{reference}'s budget; —: not reached.",
        ),
        bold=best(rows, range(1, len(columns), 2), largest=False),
    )


def _final(scope: Scope, reference: str, dataset: str) -> tuple[int, float] | None:
    """Return the reference's budget and mean Top-1 there."""
    group = scope.find(Row(reference, ""), dataset)
    at = None if group is None else scope.column_of(group)
    if group is None or at is None:
        return None
    top1 = float(group.top1[MULTIMODAL][:, at].mean())
    return None if np.isnan(top1) else (int(group.labels[at]), top1)


def _saved(scope: Scope, row: Row, dataset: str, reference: str) -> Sequence[Cell]:
    group, final = scope.find(row, dataset), _final(scope, reference, dataset)
    if group is None or final is None or np.isnan(group.top1[MULTIMODAL]).any():
        return NONE, NONE
    budget, target = final
    mean = group.top1[MULTIMODAL].mean(axis=0, keepdims=True)
    needed = float(statistics.labels_to_reach(group.labels, mean, target)[0])
    return number(needed, ".0f"), number(needed / budget, ".0%")
