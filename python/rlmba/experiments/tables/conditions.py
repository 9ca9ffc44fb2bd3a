"""The effect of the fusion and the predictor: each strategy compared with itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlmba.experiments import statistics
from rlmba.experiments.content import Cell, Subject, TableData
from rlmba.experiments.curves import Array, Group
from rlmba.experiments.scope import ORDER, Scope
from rlmba.experiments.tables.cells import number, p_value, text

__all__ = ["conditions"]

_PLAIN = ("uniform", "fused")
_ALPHA = 0.05


def conditions(scopes: Sequence[Scope]) -> TableData | None:
    """Paired differences of a strategy's AUBC from its own with uniform fusion and the fused predictor.

    None if no strategy ran with these and with another fusion or predictor, on common seeds and numbers of
    labels.
    """
    plain = {_place(g): g for s in scopes if (s.fusion, s.predictor) == _PLAIN for g in s.groups}
    found: list[tuple[Scope, str, list[Array]]] = []
    for scope in scopes:
        if (scope.fusion, scope.predictor) == _PLAIN:
            continue
        by_strategy: dict[str, list[Array]] = {}
        for group in scope.groups:
            if (reference := plain.get(_place(group))) is not None:
                by_strategy.setdefault(group.strategy, []).append(_difference(group, reference))
        ordered = sorted(by_strategy, key=lambda s: ORDER.index(s) if s in ORDER else len(ORDER))
        found += [(scope, s, by_strategy[s]) for s in ordered]
    found = [(scope, s, [d for d in each if len(d)]) for scope, s, each in found]
    found = [entry for entry in found if entry[2]]
    if not found:
        return None
    tests = []
    for _, _, each in found:
        pairs = np.concatenate(each)
        tests.append(statistics.paired(pairs, np.zeros_like(pairs)))
    corrected = statistics.holm([t.p for t in tests])
    rows: list[tuple[Cell, ...]] = []
    bold = set()
    for (scope, strategy, each), test, p in zip(found, tests, corrected, strict=True):
        if p is not None and p < _ALPHA:
            bold.add((len(rows), 5))
        means = [float(d.mean()) for d in each]
        rows.append(
            (
                text(scope.fusion), text(scope.predictor), text(strategy), text(len(each)),
                text(test.n), number(test.difference, "+.4f"), number(min(means), "+.4f"),
                number(max(means), "+.4f"), p_value(test.p), p_value(p),
            )
        )  # fmt: skip
    return TableData(
        key="conditions",
        title="Each strategy with another fusion or predictor, against uniform fusion and the fused head",
        columns=(
            "under fusion", "under predictor", "strategy", "data sets", "pairs", "AUBC difference",
            "lowest data set", "highest data set", "p", "Holm",
        ),
        rows=tuple(rows),
        notes=(
            (
                "Differences between runs of the same strategy and seed; pairs of all data sets "
                "together, two-sided paired t test; Holm: corrected over all rows. Lowest and highest: "
                "means of single data sets."
            ),
            "They show the effect of a fusion or predictor on a strategy, not which strategy is better.",
        ),
        bold=frozenset(bold),
        row_subjects=tuple(Subject(fusion=scope.fusion) for scope, _, _ in found),
    )  # fmt: skip


def _place(group: Group) -> tuple[str, str, str]:
    return group.dataset, group.strategy, group.variant


def _difference(group: Group, plain: Group) -> Array:
    """Differences of AUBC on the common seeds [S]; empty if the numbers of labels differ."""
    if group.on != plain.on or not np.array_equal(group.labels, plain.labels):
        return np.empty(0)
    mine = dict(zip(group.seeds, group.aubc, strict=True))
    other = dict(zip(plain.seeds, plain.aubc, strict=True))
    shared = sorted(set(mine) & set(other))
    return np.array([mine[s] - other[s] for s in shared], dtype=np.float64)
