"""A queue of tasks for worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from rlmba.errors import UsageError
from rlmba.workers import Died, Raised, Task, WorkerPool, Workers

__all__ = ["TaskQueue"]

_MOST_DEATHS = 100


class TaskQueue:
    """Runs tasks in worker processes; a process that dies costs the task it had, and is replaced.

    Use as a context manager: leaving it ends the processes at once, whatever they are doing.

    Parameters
    ----------
    workers : int or WorkerPool
        Largest number of processes at a time; at most one for each task is started. Or a pool of processes.
    tasks : iterable of Task
        In the order to start them.
    """

    def __init__(self, workers: int | WorkerPool, tasks: Iterable[Task] = ()) -> None:
        if isinstance(workers, int):
            if workers < 1:
                raise UsageError(f"workers: expected at least 1, got {workers}")
            workers = Workers(workers)
        self._workers = workers
        self._waiting = deque(tasks)
        self._deaths = 0

    def __enter__(self) -> TaskQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.close()

    @property
    def in_flight(self) -> int:
        """Number of ticks of the tasks that are running."""
        return self._workers.ticks

    def submit(self, tasks: Iterable[Task]) -> None:
        """Add tasks in front of those that are waiting."""
        self._waiting.extendleft(reversed(list(tasks)))

    def outcomes(self) -> Iterator[tuple[Task, Any] | None]:
        """Results of the tasks as they end, until none is left.

        Yields
        ------
        (task, result or Died), or None
            None after a tick. The worker of a task that died is gone.

        Raises
        ------
        UsageError
            If processes cannot start, or do nothing but die.
        Exception
            Whatever a task raised.
        """
        while self._waiting or self._workers.running:
            while self._waiting and self._workers.running < self._workers.limit:
                self._workers.start(self._waiting.popleft())
            ended = self._workers.wait()
            for task, result in ended:
                if isinstance(result, Raised):
                    raise result.error
                self._count_deaths(result)
                yield task, result
            if not ended:
                yield None

    def _count_deaths(self, result: Any) -> None:
        if not isinstance(result, Died):
            self._deaths = 0
            return
        if not result.started:
            raise UsageError(
                f"worker processes cannot start ({result}): a script must call this below "
                '`if __name__ == "__main__":`, because each of them imports it; otherwise there may be too '
                "little memory for so many workers"
            )
        self._deaths += 1
        if self._deaths == _MOST_DEATHS:
            raise UsageError(
                f"{_MOST_DEATHS} worker processes in a row died ({result}) and none finished anything: a "
                "library that decodes does not work here; see `rlmba doctor`"
            )
