"""Units of a comparison in processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from rlmba.errors import StorageError, UsageError
from rlmba.experiments.sweep.variants import Job
from rlmba.experiments.sweep.work import Ended, LoopRunner, Runner, Unit, execute
from rlmba.storage import make_folder, open_own

__all__ = ["LocalProcesses", "cores", "fitting_jobs"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PROCESS = 1.1e9
"""Bytes a process takes before it has data: Python, torch, a small network's work."""
_PATIENCE = 5.0
"""Seconds that processes are given to end by themselves."""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def fitting_jobs(jobs: Sequence[Job]) -> int:
    """How many processes fit: by cores and free memory; one a GPU, and one for networks over media.

    Memory is a guess: what a process takes with a small network, and three times its data file.
    """
    import torch

    configs = [job.config for job in jobs]
    if torch.cuda.is_available() and any(c.device != "cpu" for c in configs):
        return torch.cuda.device_count()
    if any(c.data_root is not None and not c.model.frozen for c in configs):
        return 1
    data = max((c.data.stat().st_size for c in configs if c.data is not None), default=0)
    return max(1, min(len(jobs), cores(), int(_free_memory() / (_PROCESS + 3 * data))))


def _free_memory() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    return float("inf")


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: connection.Connection[Any, Any]
    slot: int
    unit: Unit | None = None


class LocalProcesses:
    """An :class:`~rlmba.experiments.sweep.work.Executor` of processes, each kept for many units.

    They are started when there is something to do, ignore Ctrl-C, which is for the process that
    started them, and end with it, however it ends.

    Parameters
    ----------
    slots : int
        Processes at a time, >= 1.
    logs : path
        Folder for what they print.
    runner : Runner
    threads : int or None
        Of each; None: the cores shared evenly, or ``OMP_NUM_THREADS`` where it is set.

    Raises
    ------
    UsageError
        If ``slots`` is below 1.
    """

    def __init__(
        self,
        slots: int,
        logs: Path,
        *,
        runner: Runner | None = None,
        threads: int | None = None,
    ) -> None:
        if slots < 1:
            raise UsageError(f"jobs: expected at least 1 process, got {slots}")
        given = os.environ.get("OMP_NUM_THREADS", "")
        shared = int(given) if given.isdecimal() and int(given) else max(1, cores() // slots)
        self.slots = slots
        self.threads = threads or shared
        self.where = f"{slots} process{'es' * (slots > 1)} of {self.threads} thread" + "s" * (
            self.threads > 1
        )
        self._logs = logs
        self._runner = runner or LoopRunner()
        self._workers: list[_Worker] = []

    def start(self, unit: Unit) -> None:
        """Give a unit to an idle process, or a new one."""
        worker = next((w for w in self._workers if w.unit is None), None) or self._spawn()
        worker.unit = unit
        with contextlib.suppress(OSError):  # it has died since: its sentinel says so
            worker.pipe.send(unit)

    def wait(self, seconds: float) -> list[Ended]:
        """Units that have ended, or whose processes have."""
        busy = [w for w in self._workers if w.unit is not None]
        if not busy:
            return []
        connection.wait([x for w in busy for x in (w.pipe, w.process.sentinel)], seconds)
        return [ended for w in busy if (ended := self._ended(w)) is not None]

    def close(self) -> None:
        """End every process: idle ones leave by themselves, others are told to, and then made to."""
        for worker in self._workers:
            if worker.unit is not None:
                worker.process.terminate()
            worker.pipe.close()
        deadline = time.monotonic() + _PATIENCE
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()

    def _ended(self, worker: _Worker) -> Ended | None:
        unit = worker.unit
        if unit is None:
            return None
        with contextlib.suppress(EOFError, OSError):
            if worker.pipe.poll():
                failures = worker.pipe.recv()
                worker.unit = None
                return Ended(unit, failures)
        if worker.process.is_alive():
            return None
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        return Ended(unit, died=f"{_end(worker.process.exitcode)}; see {self._log(worker.slot)}")

    def _log(self, slot: int) -> Path:
        return self._logs / f"process{slot}.log"

    def _spawn(self) -> _Worker:
        make_folder(self._logs)
        slot = min(set(range(self.slots)) - {w.slot for w in self._workers})
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve,
            args=(theirs, self._runner, str(self._log(slot))),
            name=f"rlmba-compare-{slot}",
        )
        with _born_with(self.threads, slot):
            process.start()
        theirs.close()
        worker = _Worker(process, ours, slot)
        self._workers.append(worker)
        return worker


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (the system does so when memory runs out)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with exit status {code}"


@contextlib.contextmanager
def _born_with(threads: int, slot: int) -> Iterator[None]:
    """What a new process inherits: numbers of threads, its GPU, and no interest in Ctrl-C.

    Libraries read the former when they are loaded, and Ctrl-C may come before a process could say
    that it ignores it.
    """
    changed = dict.fromkeys(_THREADS, str(threads))
    if gpu := _gpu(slot):
        changed["CUDA_VISIBLE_DEVICES"] = gpu
    before = {key: os.environ.get(key) for key in changed}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update(changed)
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


def _gpu(slot: int) -> str | None:
    """The GPU of a process, where there are several to share out."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < 2:
        return None
    given = [d for d in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
    return (given or [str(i) for i in range(count)])[slot % count]


def _serve(pipe: connection.Connection[Any, Any], runner: Runner, log: str) -> None:
    """A process: units in, failures out, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _print_into(log)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(execute(pipe.recv(), runner))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _print_into(log: str) -> None:
    """Send what this process prints into a file: the terminal is the other's."""
    try:
        descriptor = open_own(Path(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"could not write {log} ({error.strerror})") from error
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
