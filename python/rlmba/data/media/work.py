"""Worker processes that may die without taking the work with them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from types import TracebackType
from typing import Any, Protocol

from rlmba.errors import UsageError

__all__ = ["Died", "Pool", "Task", "default_workers"]

_MOST_DEATHS = 100


class Task(Protocol):
    """A piece of work that can be pickled."""

    def run(self, tick: Callable[[], None]) -> Any:
        """Do it in a worker process and return a result that can be pickled.

        ``tick`` tells the parent that one more sample is done.
        """


@dataclass(frozen=True)
class Died:
    """The worker process ended in the middle of a task; ``code`` as :class:`multiprocessing.Process`."""

    code: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


class _Worker:
    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # threads of the parent stay out of it
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_serve, args=(end,), daemon=True)
        self.process.start()
        end.close()  # else the end of the process would not be the end of the pipe
        self.ready = False
        self.task: Task | None = None
        self.ticks = 0

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Pool:
    """Runs tasks in worker processes; a process that dies costs the task it had, and is replaced.

    Use as a context manager: leaving it ends the processes at once, whatever they are doing. They
    also end by themselves when the parent does, however it ends.

    Parameters
    ----------
    workers : int
        Most processes at a time; no more are started than there are tasks.
    tasks : iterable of Task
        In the order to start them.
    """

    def __init__(self, workers: int, tasks: Iterable[Task] = ()) -> None:
        if workers < 1:
            raise UsageError(f"workers: expected at least 1, got {workers}")
        self._limit = workers
        self._waiting = deque(tasks)
        self._workers: list[_Worker] = []
        self._deaths = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []

    @property
    def in_flight(self) -> int:
        """Ticks of the tasks that are running."""
        return sum(w.ticks for w in self._workers)

    def submit(self, tasks: Iterable[Task]) -> None:
        """Add tasks before those that wait."""
        self._waiting.extendleft(reversed(list(tasks)))

    def outcomes(self) -> Iterator[tuple[Task, Any] | None]:
        """What becomes of the tasks, as they end, until none is left.

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
        while True:
            self._start()
            self._hand_out()
            if not self._waiting and not any(w.task for w in self._workers):
                return
            for pipe in connection.wait([w.pipe for w in self._workers]):
                worker = next(w for w in self._workers if w.pipe is pipe)
                yield from self._receive(worker)

    def _start(self) -> None:
        idle = sum(w.task is None for w in self._workers)
        room = self._limit - len(self._workers)
        for _ in range(min(room, len(self._waiting) - idle)):
            self._workers.append(_Worker())

    def _hand_out(self) -> None:
        for worker in self._workers:
            if not (worker.ready and worker.task is None and self._waiting):
                continue
            task = self._waiting.popleft()
            try:
                worker.pipe.send(task)
            except OSError:  # it died idle: outcomes() will read the end of its pipe
                self._waiting.appendleft(task)
                worker.ready = False
            else:
                worker.task = task

    def _receive(self, worker: _Worker) -> Iterator[tuple[Task, Any] | None]:
        try:
            what, value = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if what == "ready":
            worker.ready = True
        elif what == "tick":
            worker.ticks += 1
            yield None
        elif what == "failed":
            raise value
        else:
            self._deaths = 0
            task, worker.task, worker.ticks = worker.task, None, 0
            assert task is not None
            yield task, value

    def _bury(self, worker: _Worker) -> Iterator[tuple[Task, Any]]:
        worker.process.join()
        code = worker.process.exitcode or 0
        worker.close()
        self._workers.remove(worker)
        self._deaths += 1
        if self._deaths == _MOST_DEATHS:
            raise UsageError(
                f"{_MOST_DEATHS} worker processes in a row died ({Died(code)}) and none finished anything: "
                "a library that decodes does not work here; see `rlmba doctor`"
            )
        if worker.task is not None:
            yield worker.task, Died(code)
        elif not worker.ready:
            raise UsageError(
                f"worker processes cannot start ({Died(code)}): a script must call this below "
                '`if __name__ == "__main__":`, because each of them imports it; else there may be too '
                "little memory for so many workers"
            )


def default_workers() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _serve(pipe: connection.Connection) -> None:
    """Life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends us
    threading.Thread(target=_follow_parent, daemon=True).start()
    pipe.send(("ready", None))
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        try:
            task: Task = pickle.loads(data)
            message = ("done", task.run(lambda: pipe.send(("tick", None))))
        except Exception as error:  # it is raised again in the parent
            message = ("failed", _portable(error))
        pipe.send(message)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does, its text goes home
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
