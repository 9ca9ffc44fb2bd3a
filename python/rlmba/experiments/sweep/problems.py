"""What is wrong with a plan, by the runs it is wrong of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rlmba.errors import RlmbaError, UsageError

__all__ = ["PlanProblems"]


class PlanProblems:
    """What is wrong with which runs; the same of many is one line."""

    def __init__(self) -> None:
        self._runs: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def of(self, run: str) -> Iterator[None]:
        """Take down what is raised within as a problem of a run, and go on."""
        try:
            yield
        except (RlmbaError, ImportError) as error:  # the latter from other packages' strategies
            self.add(run, str(error))

    def add(self, run: str, message: str) -> None:
        """Take down a problem of a run."""
        self._runs.setdefault(message, []).append(run)

    def found_in(self, run: str) -> bool:
        """Whether a run has any."""
        return any(run in runs for runs in self._runs.values())

    def report(self) -> None:
        """Raise a UsageError with a line for each problem, if there are any."""
        lines = []
        for message, (first, *others) in self._runs.items():
            more = f" and {len(others)} more" if others else ""
            lines.append(f"{first}{more}: {message}")
        if lines:
            raise UsageError("\n".join(lines))
