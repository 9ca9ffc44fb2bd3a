"""Printing a report on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmba.cli.screen import console
from rlmba.markup import visible

if TYPE_CHECKING:
    from rlmba.experiments import Report
    from rlmba.experiments.policy_training import LeaveOneOut
    from rlmba.experiments.selection import Bench

__all__ = ["show"]


def show(made: Report | Bench | LeaveOneOut) -> None:
    """Print tables, then the path of every file it wrote, a line each."""
    screen = console()
    for table in made.tables():
        screen.print(table)
    for path in made.paths:
        screen.print(visible(str(path)), soft_wrap=True)
