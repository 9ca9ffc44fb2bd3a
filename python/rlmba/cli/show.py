"""Print results on standard output."""

from __future__ import annotations

from rlmba.cli.screen import console
from rlmba.experiments import WrittenReport
from rlmba.experiments.policy_training import LeaveOneOut
from rlmba.experiments.selection_times import SelectionTimes
from rlmba.markup import visible

__all__ = ["show"]


def show(made: WrittenReport | SelectionTimes | LeaveOneOut) -> None:
    """Print the tables of a result, then the paths that it wrote, one per line."""
    screen = console()
    for table in made.tables():
        screen.print(table)
    for path in made.paths:
        screen.print(visible(str(path)), soft_wrap=True)
