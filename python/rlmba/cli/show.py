"""Printing a report on standard output."""

from __future__ import annotations

import sys

from rich.console import Console

from rlmba.experiments import Report
from rlmba.experiments.policy_training import LeaveOneOut
from rlmba.experiments.selection import Bench

__all__ = ["show"]


def show(made: Report | Bench | LeaveOneOut) -> None:
    """Print tables, then the path of every file it wrote, a line each."""
    # A pipe has no width: leave the tables as wide as they are.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for table in made.tables():
        console.print(table)
    for path in made.paths:
        console.print(str(path), soft_wrap=True, highlight=False, markup=False)
