"""Print results on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlmba.cli.screen import console
from rlmba.markup import visible

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["show"]


class _Result(Protocol):
    """A report, or another result that is made of tables."""

    @property
    def paths(self) -> Sequence[Path]:
        """The files and folders to name."""

    def tables(self) -> list[Table]:
        """The tables for a terminal."""


def show(made: _Result) -> None:
    """Print the tables of a result, then the paths that it wrote, one per line."""
    screen = console()
    for table in made.tables():
        screen.print(table)
    for path in made.paths:
        screen.print(visible(str(path)), soft_wrap=True)
