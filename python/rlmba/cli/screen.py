"""The console that commands print with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rlmba.markup import visible

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "say"]


def say(text: str, *, stderr: bool = False) -> None:
    """Print lines, control characters as their escapes."""
    print(visible(text), file=sys.stderr if stderr else sys.stdout, flush=True)


def console(*, stderr: bool = False) -> Console:
    """Console that prints texts as they are: no markup, no emoji codes, no colors of its own choice.

    A pipe has no width: tables then stay as wide as they are.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
