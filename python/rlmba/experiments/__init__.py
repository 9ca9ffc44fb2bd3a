"""Reading finished and running runs: curves, tables, figures, reports."""

from __future__ import annotations

from rlmba.experiments.curves import Group, group_runs
from rlmba.experiments.report import Report, make_report

__all__ = ["Group", "Report", "group_runs", "make_report"]
