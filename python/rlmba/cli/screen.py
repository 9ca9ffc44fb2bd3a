"""Output of the commands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rlmba.markup import visible

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "say"]


def say(text: str, *, stderr: bool = False) -> None:
    """Print lines with control characters escaped."""
    print(visible(text), file=sys.stderr if stderr else sys.stdout, flush=True)


def console(*, stderr: bool = False) -> Console:
    """Make a console that prints text literally, without markup, emoji codes and highlighting.

    Tables printed to a pipe keep their full width.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
