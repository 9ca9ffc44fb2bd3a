"""A strategy that stalls once, so that a test can kill a process in the middle of a selection."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rlmba.strategies.uncertainty import Entropy


@dataclass(kw_only=True)
class Stalling(Entropy):
    """Stalls at call number ``at`` in process 1, unless the file ``flag`` exists; writes its place there."""

    name: ClassVar[str] = "stalling"
    flag: str
    at: int = 1
    calls: int = field(default=0, init=False)

    def score(self, pool, context):
        self.calls += 1
        if self.calls == self.at and os.environ.get("RANK", "1") == "1":
            told = Path(f"{self.flag}.{os.getpid()}")
            told.write_text(f"{os.getpid()} {_node()}")
            try:
                os.link(told, self.flag)  # fails if the flag exists
            except FileExistsError:
                return super().score(pool, context)
            finally:
                told.unlink()
            time.sleep(600)
        return super().score(pool, context)


def _node():
    if "RAY_RAYLET_PID" not in os.environ:
        return ""
    import ray

    return ray.get_runtime_context().get_node_id()


def stalled(flag, process, seconds=240):
    """Wait until a process stalls; return its id and node. ``process`` must not end before."""
    for _ in range(int(seconds * 10)):
        if flag.exists():
            pid, _, node = flag.read_text().partition(" ")
            return int(pid), node
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no process has stalled")
