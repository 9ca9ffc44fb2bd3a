"""Worker processes that may die without taking the work with them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

__all__ = [
    "Died",
    "Raised",
    "Task",
    "WorkerPool",
    "Workers",
    "cores",
    "portable",
    "worker_environment",
]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Task(Protocol):
    """A piece of work that can be pickled."""

    def run(self, tick: Callable[[], None]) -> Any:
        """Do the work in a worker process and return a result that can be pickled.

        ``tick`` tells the parent process that one more step is done.
        """


@dataclass(frozen=True)
class Died:
    """The worker process ended during a task.

    Attributes
    ----------
    code : int
        Its exit code, as in :class:`multiprocessing.Process`.
    slot : int
        The number of the process, from 0.
    started : bool
        Whether the process had finished starting.
    reason : str
        Why it ended, if more is known than the exit code.
    """

    code: int
    slot: int
    started: bool
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


@dataclass(frozen=True)
class Raised:
    """The task raised an exception."""

    error: Exception


class WorkerPool(Protocol):
    """Processes that run tasks: :class:`Workers`, or another class with the same methods."""

    limit: int

    @property
    def running(self) -> int:
        """Number of tasks that have started and have not ended; at most ``limit``."""

    @property
    def ticks(self) -> int:
        """Number of ticks of the tasks that are running."""

    def start(self, task: Task) -> None:
        """Give a task to a process; requires ``running < limit``."""

    def wait(self, seconds: float | None = None) -> list[tuple[Task, Any]]:
        """Wait until something happens, and return the tasks that have ended with their results."""

    def close(self) -> None:
        """End all processes, whatever they are doing."""


class _Worker:
    def __init__(self, slot: int, setup: Callable[[int], None] | None) -> None:
        context = multiprocessing.get_context("spawn")  # the parent's threads are not copied
        self.slot = slot
        self.pipe, end = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(end, slot, setup), name=f"rlmba-worker-{slot}"
        )
        self.process.start()
        end.close()  # otherwise the pipe would stay open when the process ends
        self.ready = False
        self.task: Task | None = None
        self.ticks = 0


class Workers:
    """Spawned processes, each of which runs many tasks, one at a time.

    A process that dies costs the task it had; a new one takes its place. Processes start when there is a
    task for them, ignore Ctrl-C, which is meant for the parent, and end when the parent does, however
    that ends. Use as a context manager, or call :meth:`close`.

    Parameters
    ----------
    limit : int
        Largest number of processes at a time, >= 1.
    environment : callable or None
        Environment variables that the process of a slot starts with, in addition to the parent's.
    setup : callable or None
        Called with the slot in each new process, before its first task. Must be picklable.
    patience : float
        Seconds that processes get to end on SIGTERM; after that, or at once if it is 0, they are killed.
    """

    def __init__(
        self,
        limit: int,
        *,
        environment: Callable[[int], Mapping[str, str]] | None = None,
        setup: Callable[[int], None] | None = None,
        patience: float = 0.0,
    ) -> None:
        self.limit = limit
        self._environment = environment
        self._setup = setup
        self._patience = patience
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> int:
        """Number of tasks that have started and have not ended; at most ``limit``."""
        return sum(w.task is not None for w in self._workers)

    @property
    def ticks(self) -> int:
        """Number of ticks of the tasks that are running."""
        return sum(w.ticks for w in self._workers)

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the workers."""
        return frozenset(w.process.pid for w in self._workers if w.process.pid is not None)

    def start(self, task: Task) -> None:
        """Give a task to an idle process or to a new one; requires ``running < limit``."""
        for worker in [w for w in self._workers if w.task is None]:
            worker.task = task
            try:
                worker.pipe.send(task)
            except OSError:  # it died while it was idle
                self._bury(worker)
            else:
                return
        slot = min(set(range(self.limit)) - {w.slot for w in self._workers})
        with _inherited(self._environment(slot) if self._environment else {}):
            worker = _Worker(slot, self._setup)
        worker.task = task  # sent once the process says that it is ready
        self._workers.append(worker)

    def wait(self, seconds: float | None = None) -> list[tuple[Task, Any]]:
        """Wait until something happens, and return the tasks that have ended.

        Parameters
        ----------
        seconds : float or None
            Longest time to wait; None: no limit.

        Returns
        -------
        list of (Task, result)
            The result is what the task returned, :class:`Raised`, or :class:`Died`. Empty after a tick,
            when a process has started, when time is up, or if no task is running.
        """
        busy = [w for w in self._workers if w.task is not None]
        if not busy:
            return []
        connection.wait([x for w in busy for x in (w.pipe, w.process.sentinel)], seconds)
        return [ended for w in busy if (ended := self._receive(w)) is not None]

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for worker in self._workers:
            if not self._patience:
                worker.process.kill()
            elif worker.task is not None:
                worker.process.terminate()
            worker.pipe.close()  # an idle process leaves when its pipe is closed
        deadline = time.monotonic() + self._patience
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()

    def _receive(self, worker: _Worker) -> tuple[Task, Any] | None:
        try:
            while worker.pipe.poll():
                what, value = worker.pipe.recv()
                if what == "ready":
                    worker.ready = True
                    worker.pipe.send(worker.task)
                elif what == "tick":
                    worker.ticks += 1
                else:
                    task, worker.task, worker.ticks = worker.task, None, 0
                    assert task is not None
                    return task, value
            if worker.process.is_alive():
                return None
        except (EOFError, OSError):
            pass
        return self._bury(worker)

    def _bury(self, worker: _Worker) -> tuple[Task, Died]:
        assert worker.task is not None
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        return worker.task, Died(worker.process.exitcode or 0, worker.slot, worker.ready)


def cores() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_environment(slot: int, threads: int) -> dict[str, str]:
    """Environment variables of one of several processes: its threads, and its GPU if there are several."""
    variables = dict.fromkeys(_THREADS, str(threads))
    if gpu := _gpu(slot):
        variables["CUDA_VISIBLE_DEVICES"] = gpu
    return variables


def _gpu(slot: int) -> str | None:
    """The GPU of a process; None if there are not several GPUs to divide."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < 2:
        return None
    given = [d for d in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
    return (given or [str(i) for i in range(count)])[slot % count]


@contextlib.contextmanager
def _inherited(variables: Mapping[str, str]) -> Iterator[None]:
    """Set what a new process inherits: environment variables, and that Ctrl-C is ignored.

    Ctrl-C may come before the process can ignore it by itself.
    """
    before = {key: os.environ.get(key) for key in variables}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
        if main:
            signal.signal(signal.SIGINT, handler)


def _serve(
    pipe: connection.Connection[Any, Any], slot: int, setup: Callable[[int], None] | None
) -> None:
    """Run tasks in a worker process until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if setup is not None:
        setup(slot)
    with contextlib.suppress(EOFError, OSError):  # the pipe was closed
        pipe.send(("ready", None))
        while True:
            data = pipe.recv_bytes()
            try:
                task: Task = pickle.loads(data)
                result = task.run(lambda: pipe.send(("tick", None)))
            except Exception as error:
                result = Raised(portable(error))
            pipe.send(("ended", result))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def portable(error: Exception) -> Exception:
    """Return the error itself if it can be pickled, otherwise one with the same message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
