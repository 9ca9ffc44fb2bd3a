"""Table 3: seconds of a round, by stage."""

from __future__ import annotations

from rlmba.experiments import paper
from rlmba.experiments.content import TableData
from rlmba.experiments.curves import STAGES
from rlmba.experiments.scope import Scope
from rlmba.experiments.tables.cells import number, seconds, text

__all__ = ["table3"]

_SHORT = {
    "predict": "Pred", "select": "Sel", "train": "Train", "validate": "Val", "policy": "Policy",
}  # fmt: skip


def table3(scope: Scope) -> TableData:
    """Table 3: mean wall time per round of each stage; the paper's beside it on Food101."""
    beside = [
        stage
        for stage in STAGES
        if any(paper.seconds_of(g.dataset, g.strategy, stage) is not None for g in scope.groups)
    ]
    columns = ["data set", "strategy", *(_SHORT[s] for s in STAGES), "total"]
    columns += [f"paper {_SHORT[s]}" for s in beside]
    rows = []
    for dataset in scope.datasets:
        for row in scope.rows:
            group = scope.find(row, dataset)
            if group is None:
                continue
            means = {stage: seconds(group, stage) for stage in STAGES}
            printed = [
                None if row.variant else paper.seconds_of(dataset, row.strategy, s) for s in beside
            ]
            rows.append(
                (
                    text(dataset), text(scope.name(row)),
                    *(number(means[s], ".3g") for s in STAGES),
                    number(sum(means.values()), ".3g"),
                    *(number(value, ".2f") for value in printed),
                )
            )  # fmt: skip
    return TableData(
        key=f"table3_{scope.key}",
        title=f"Table 3: seconds per round, {scope.heading}",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=scope.notes(
            "Wall time of prediction of the pool, selection, training, validation and the policy: "
            "means over rounds with a query, and over seeds.",
            *(["paper: as printed there, on one workstation GPU."] if beside else []),
        ),
    )
