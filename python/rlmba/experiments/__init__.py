"""Curves, tables, figures and reports of runs, finished or not."""

from __future__ import annotations

from rlmba.experiments.curves import Group, group_runs
from rlmba.experiments.report import WrittenReport, make_report

__all__ = ["Group", "WrittenReport", "group_runs", "make_report"]
