"""All tables of a report, in reading order."""

from __future__ import annotations

from collections.abc import Sequence

from rlmba.experiments.content import TableData
from rlmba.experiments.scope import Scope
from rlmba.experiments.tables import accuracy, comparisons, conditions, quality, seconds

__all__ = ["scope_tables"]


def scope_tables(scopes: Sequence[Scope]) -> list[TableData]:
    """Make all tables that the groups have figures for, kind by kind and, within a kind, scope by scope."""
    makers = (
        accuracy.table1,
        accuracy.table2,
        seconds.table3,
        accuracy.areas,
        accuracy.labels_saved,
        comparisons.verdicts,
        comparisons.rank_table,
        comparisons.win_table,
        quality.fairness,
        quality.calibration,
    )
    made = [make(scope) for make in makers for scope in scopes]
    tests = [
        comparisons.against(among, reference)
        for scope in scopes
        for reference, among in comparisons.contests(scope)
    ]
    every = (*made, conditions.conditions(scopes), *tests)
    return [table for table in every if table is not None]
