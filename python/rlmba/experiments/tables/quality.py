"""Fairness between modalities, calibration, and other figures of the fused head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rlmba.experiments.content import Cell, TableData
from rlmba.experiments.curves import Group
from rlmba.experiments.scope import Scope, StrategyVariant
from rlmba.experiments.tables.cells import NONE, best, spread, text
from rlmba.types import MULTIMODAL

__all__ = ["calibration", "fairness"]

# Column heading, figure of HeadMetrics, digits, whether larger values are better.
_CALIBRATION = (
    ("ECE", "ece", 4, False),
    ("NLL", "nll", 3, False),
    ("F1", "f1", 4, True),
    ("AUROC", "auroc", 4, True),
    ("macro Top-1", "top1_macro", 4, True),
)


def _each(scope: Scope) -> Iterator[tuple[StrategyVariant, Group, int]]:
    """Iterate over the groups that have the budget of their data set, with the round of the budget."""
    for row, group in scope.members():
        at = scope.column_of(group)
        if at is not None:
            yield row, group, at


def _best_a_dataset(
    rows: Sequence[tuple[Cell, ...]], column: int, *, largest: bool
) -> set[tuple[int, int]]:
    found = set()
    for dataset in dict.fromkeys(row[0].text for row in rows):
        places = [r for r, row in enumerate(rows) if row[0].text == dataset]
        among = best([rows[r] for r in places], [column], largest=largest)
        found |= {(places[r], k) for r, k in among}
    return found


def fairness(scope: Scope) -> TableData | None:
    """Fairness between modalities: gap and minimum of their Top-1, balance of their contributions.

    None if no group has two modalities.
    """
    chosen = [entry for entry in _each(scope) if len(entry[1].modalities) > 1]
    if not chosen:
        return None
    rows = []
    for row, group, at in chosen:
        heads = {m: group.comparable_top1(m)[:, at] for m in group.modalities}
        means = {m: float(np.nan_to_num(top1.mean(), nan=np.inf)) for m, top1 in heads.items()}
        weakest = min(means, key=means.__getitem__)
        rows.append(
            (
                text(group.dataset), text(scope.name(row)), text(int(group.labels[at])),
                spread(group.fairness_gap[:, at]), spread(_over_rounds(group.fairness_gap)),
                text(weakest), spread(group.top1[weakest][:, at]),
                spread(group.balance[:, at]), spread(_over_rounds(group.balance)),
            )
        )  # fmt: skip
    bold = _best_a_dataset(rows, 3, largest=False) | _best_a_dataset(rows, 4, largest=False)
    for column in (6, 7, 8):
        bold |= _best_a_dataset(rows, column, largest=True)
    return scope.table(
        "fairness",
        "Modality fairness",
        [
            "data set", "strategy", "labels", "gap", "gap, all rounds", "weakest", "its Top-1",
            "balance", "balance, all rounds",
        ],
        rows,
        scope.notes(
            "Gap: largest minus smallest Top-1 of the modalities' own heads. If samples lack a modality, the "
            "advantage of the fused head on the samples that have it is subtracted. Balance: entropy of the "
            "normalized Shapley contributions divided by ln M; 1 if all contribute equally. At the budget, "
            "and as means over the rounds that have a value; mean ± s.d. over seeds.",
        ),
        bold=bold,
        row_datasets=[group.dataset for _, group, _ in chosen],
    )  # fmt: skip


def _over_rounds(values: np.ndarray) -> np.ndarray | None:
    known = ~np.isnan(values).any(axis=0)
    return values[:, known].mean(axis=1) if known.any() else None


def calibration(scope: Scope) -> TableData | None:
    """Calibration of the fused head at the budget, with F1, AUROC and macro Top-1 if known."""
    chosen = list(_each(scope))
    shown = [
        entry
        for entry in _CALIBRATION
        if any(not np.isnan(_at(group, entry[1], at)).all() for _, group, at in chosen)
    ]
    if not chosen or not shown:
        return None
    rows = [
        (
            text(group.dataset),
            text(scope.name(row)),
            text(int(group.labels[at])),
            *(_cell(_at(group, name, at), digits) for _, name, digits, _ in shown),
        )
        for row, group, at in chosen
    ]
    bold: set[tuple[int, int]] = set()
    for column, (_, _, _, more_is_better) in enumerate(shown, start=3):
        bold |= _best_a_dataset(rows, column, largest=more_is_better)
    return scope.table(
        "calibration",
        "Calibration and other figures of the fused head",
        ["data set", "strategy", "labels", *(heading for heading, *_ in shown)],
        rows,
        scope.notes(
            "ECE: expected calibration error (L1, equal-width bins). NLL: mean negative "
            "log-likelihood in nats. F1 and AUROC: macro averages. At the budget, mean ± s.d. over "
            "seeds; —: unknown.",
        ),
        bold=bold,
        row_datasets=[group.dataset for _, group, _ in chosen],
    )


def _at(group: Group, name: str, at: int) -> np.ndarray:
    return group.metrics[MULTIMODAL][name][:, at]


def _cell(values: np.ndarray, digits: int) -> Cell:
    return NONE if np.isnan(values).any() else spread(values, digits)
