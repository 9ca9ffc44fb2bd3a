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
    """Table 3: mean wall time per round of each stage, and the paper's figures for Food101."""
    in_paper = [
        stage
        for stage in STAGES
        if any(paper.seconds_of(g.dataset, g.strategy, stage) is not None for g in scope.groups)
    ]
    rows = []
    for row, group in scope.members():
        means = {stage: seconds(group, stage) for stage in STAGES}
        printed = [
            None if row.variant else paper.seconds_of(group.dataset, row.strategy, stage)
            for stage in in_paper
        ]
        rows.append(
            (
                text(group.dataset), text(scope.name(row)),
                *(number(means[stage], ".3g") for stage in STAGES),
                number(sum(means.values()), ".3g"),
                *(number(value, ".2f") for value in printed),
            )
        )  # fmt: skip
    return scope.table(
        "table3",
        "Table 3: seconds per round",
        [
            "data set", "strategy", *(_SHORT[stage] for stage in STAGES), "total",
            *(f"paper {_SHORT[stage]}" for stage in in_paper),
        ],
        rows,
        scope.notes(
            "Wall time of the prediction of the pool, selection, training, validation and the policy: "
            "means over rounds with a query, and over seeds.",
            *(["paper: as printed there, on one workstation GPU."] if in_paper else []),
        ),
        row_datasets=[group.dataset for _, group in scope.members()],
    )  # fmt: skip
