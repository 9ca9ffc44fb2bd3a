"""Problems of a plan, and the runs that have them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rlmba.errors import RlmbaError, UsageError

__all__ = ["PlanProblems"]


class PlanProblems:
    """Collects problems; a problem of several runs becomes one line."""

    def __init__(self) -> None:
        self._runs: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def of(self, run: str) -> Iterator[None]:
        """Collect an error raised in the context as a problem of a run, and continue."""
        try:
            yield
        except (RlmbaError, ImportError) as error:  # plug-in strategies may raise the latter
            self.add(run, str(error))

    def add(self, run: str, message: str) -> None:
        """Add a problem of a run."""
        self._runs.setdefault(message, []).append(run)

    def found_in(self, run: str) -> bool:
        """Whether a run has a problem."""
        return any(run in runs for runs in self._runs.values())

    def report(self) -> None:
        """Raise a UsageError with one line per problem, if there are any."""
        lines = []
        for message, (first, *others) in self._runs.items():
            more = f" and {len(others)} more" if others else ""
            lines.append(f"{first}{more}: {message}")
        if lines:
            raise UsageError("\n".join(lines))
