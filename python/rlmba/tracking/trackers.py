"""The trackers of a run: one process each, ordered requests, and a record of what each tracker has."""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, Field

from rlmba.errors import RlmbaWarning, UsageError
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_text
from rlmba.tracking.numbers import numbers
from rlmba.types import RoundRecord

__all__ = ["FILE", "LONGEST_WAIT", "Trackers", "require_trackers"]

FILE = "tracking.json"
"""File in the run folder with the run's id in trackers, and the number of rounds that each has."""
LONGEST_WAIT = 60.0
"""Seconds that the end of a run waits for a tracker to carry out one request."""


class _Sent(BaseModel):
    """Content of :data:`FILE`."""

    id: str = Field(pattern="^[0-9a-f]{32}$")
    rounds: dict[str, int] = {}


def require_trackers(names: Sequence[str]) -> None:
    """Raise if the library of a tracker is not installed.

    Raises
    ------
    UsageError
        It names the extra to install.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        if (
            spec is None or spec.origin is None
        ):  # no origin: only a folder of this name, such as wandb's
            raise UsageError(
                f"tracking: {name} is not installed; run pip install 'rlmba[{name}]', or remove it from "
                "tracking"
            )


class Trackers:
    """A context manager that sends a run to its trackers; it never waits, except at its end.

    A tracker that fails or does not answer gets no further requests. One warning about it is given, at the
    next call or at the end. Rounds that it does not have are sent when the run is resumed.

    Parameters
    ----------
    folder : path
        The run folder, open for writing. It gets :data:`FILE` if there are trackers.
    names : sequence of str
        "tensorboard", "mlflow", "wandb", "trackio".
    name : str
        The displayed name of the run.
    config : mapping of dotted key to value
        The configuration, as JSON values.
    classes : sequence of str [C]

    Raises
    ------
    DataError
        If :data:`FILE` is damaged.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        name: str,
        config: Mapping[str, Any],
        classes: Sequence[str] = (),
    ) -> None:
        self._classes = classes
        self._trackers: list[_Tracker] = []
        if not names:
            return
        path = folder / FILE
        found = find_json(path, _Sent, advice="delete it; trackers then start new runs")
        sent = found or _Sent(id=secrets.token_hex(16))
        lock = threading.Lock()

        def keep(tracker: str, rounds: int) -> None:
            with lock:
                sent.rounds[tracker] = rounds
                atomic_write_text(path, sent.model_dump_json(indent=1) + "\n")

        if found is None:
            atomic_write_text(path, sent.model_dump_json(indent=1) + "\n")
        start = {
            "folder": str(folder.absolute()),
            "key": sent.id,
            "name": name,
            "config": dict(config),
        }
        for tracker in dict.fromkeys(names):
            have = sent.rounds.get(tracker, 0)
            try:
                self._trackers.append(_Tracker(tracker, start, have, keep))
            except OSError as error:  # no more processes
                _warn(tracker, error.strerror or str(error))

    def __enter__(self) -> Trackers:
        return self

    def send(self, records: Sequence[RoundRecord]) -> None:
        """Send the rounds that each tracker does not have yet.

        Parameters
        ----------
        records : sequence of RoundRecord
            All complete rounds, from round 0.
        """
        for tracker in self._trackers:
            tracker.warn()
            for record in records[tracker.queued :]:
                values = numbers(record, self._classes)
                tracker.put({"step": record.labels, "values": values}, record.round + 1)

    def report(self, step: int, folder: Path, files: Sequence[Path]) -> None:
        """Send the files of a report.

        Parameters
        ----------
        step : int
            The number of labels of the last round in the report.
        folder : path
            The report's folder.
        files : sequence of path
            Files of the report.
        """
        inside = {"folder": str(folder.absolute()), "files": [str(f.absolute()) for f in files]}
        for tracker in self._trackers:
            tracker.put({"step": step, **inside})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for tracker in self._trackers:
            tracker.end({"close": error is not None})
        now = time.monotonic()
        try:
            for tracker in self._trackers:
                tracker.join(now)
        finally:
            for tracker in self._trackers:
                tracker.kill()
        for tracker in self._trackers:
            tracker.warn()


class _Tracker:
    """One tracker: its process, and a thread that passes requests to it one by one."""

    def __init__(
        self, name: str, start: Mapping[str, Any], sent: int, keep: Callable[[str, int], None]
    ) -> None:
        self.name = name
        self.queued = sent
        self._keep = keep
        self._requests: queue.SimpleQueue[tuple[Mapping[str, Any], int | None] | None]
        self._requests = queue.SimpleQueue()
        self._failure = ""
        self._told = False
        self._began = 0.0
        self._process = self._open()
        self.put(start)
        self._thread = threading.Thread(target=self._work, name=f"tracking {name}", daemon=True)
        self._thread.start()

    def put(self, request: Mapping[str, Any], rounds: int | None = None) -> None:
        """Queue a request. Once it is carried out, the tracker has ``rounds`` rounds."""
        self.queued = self.queued if rounds is None else rounds
        self._requests.put((request, rounds))

    def end(self, request: Mapping[str, Any]) -> None:
        """Queue the last request."""
        self.put(request)
        self._requests.put(None)

    def join(self, since: float) -> None:
        """Wait until all requests are carried out, or one failed, or one takes too long after ``since``."""
        while self._thread.is_alive():
            left = max(since, self._began) + LONGEST_WAIT - time.monotonic()
            if left <= 0:
                self._failure = f"it did not answer within {LONGEST_WAIT:.0f} s"
                return
            self._thread.join(left)

    def kill(self) -> None:
        """End the process, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def warn(self) -> None:
        """Warn, once, if the tracker has failed."""
        if self._failure and not self._told:
            self._told = True
            _warn(self.name, self._failure)

    def _work(self) -> None:
        try:
            while (item := self._requests.get()) is not None:
                request, rounds = item
                self._began = time.monotonic()
                answer = self._ask(request)
                if "error" in answer:
                    self._failure = self._failure or answer["error"]
                    return
                if rounds is not None:
                    self._keep(self.name, rounds)
        except Exception as error:  # no failure of a tracker may end a run
            self._failure = self._failure or str(error) or type(error).__name__

    def _open(self) -> subprocess.Popen[str]:
        paths = [p for p in sys.path if p]
        return subprocess.Popen(
            [sys.executable, "-m", "rlmba.tracking.child", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # Ctrl-C ends the run, which then closes its trackers
        )

    def _ask(self, request: Mapping[str, Any]) -> Mapping[str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if line:
            answer: Mapping[str, str] = json.loads(line)
            return answer
        return {"error": f"its process ended with status {self._process.wait()}"}


def _warn(name: str, why: str) -> None:
    warnings.warn(
        f"tracking: {name} failed and is left out ({why}); the run continues without it, and the "
        "missing rounds are sent when the run is resumed",
        RlmbaWarning,
        stacklevel=5,
    )
