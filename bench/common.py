"""Functions that all benches share: the machine's copy bandwidth, its description, peak memory."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rlmba
from rlmba import environment, kernels

COPY_BYTES = 2**30
HERE = Path(__file__).parent


@functools.cache
def copy_bandwidth() -> float:
    """Bytes per second (read plus written) of the fastest of several copies of 1 GiB, with all threads.

    ``torch.Tensor.copy_`` between two float32 tensors whose pages exist. It is measured once per process,
    so that fractions of it compare figures of the same run.
    """
    source = torch.ones(COPY_BYTES // 4, dtype=torch.float32)
    target = torch.zeros_like(source)
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - start)
    return 2 * COPY_BYTES / best


def machine_info() -> dict[str, Any]:
    """The machine, the versions and the thread counts, which are needed to interpret figures."""
    return {
        "cpu": environment.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "rlmba": rlmba.__version__,
        "rlmba_threads": kernels.num_threads(),
        "instruction_set": kernels.instruction_set(),
    }


def write_results(path: Path, **parts: Any) -> None:
    """Write the results of a study as JSON, with the machine that they were measured on."""
    document = {"machine": machine_info(), **parts}
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def record_traffic(benchmark: Any, moved: int, **extra: Any) -> None:
    """Attach to a finished benchmark the bytes it must move and its fraction of copy bandwidth.

    Parameters
    ----------
    moved : int
        Smallest possible number of bytes read plus bytes written. Reading the cache lines of a newly
        allocated output before writing them, and zeroing its pages, are not counted.
    """
    bandwidth = copy_bandwidth()
    best = benchmark.stats.stats.min
    benchmark.extra_info.update(
        bytes_moved=moved,
        gigabytes_per_second=round(moved / best / 1e9, 2),
        copy_gigabytes_per_second=round(bandwidth / 1e9, 2),
        fraction_of_copy=round(moved / best / bandwidth, 3),
        **extra,
    )


def in_own_process(benchmark: Any, script: str, rows: int, *more: str) -> dict[str, float]:
    """Run ``script`` once with ``rows`` and ``more`` as arguments; keep the figures it prints as JSON."""

    given = filter(None, [os.environ.get("PYTHONPATH")])

    def run() -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", script, str(rows), *more],
            cwd=HERE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (HERE.parent, *given)))},
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(json.loads(done.stdout))

    figures: dict[str, float] = benchmark.pedantic(run, rounds=1, warmup_rounds=0)
    figures["microseconds_a_row"] = 1e6 * figures["seconds"] / rows
    benchmark.extra_info.update(figures)
    print(rows, figures)
    return figures


def peak_of(call: Callable[[], object], input_bytes: int) -> dict[str, float]:
    """Time a call and measure its peak of resident memory; for scripts of :func:`in_own_process`.

    Meaningful only in a process that does nothing else, on Linux.

    Returns
    -------
    dict
        ``seconds``, and ``memory``: the peak relative to ``input_bytes``, where 1 means that nothing
        was allocated beyond the input.
    """
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _peak()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": 1 + (_peak() - before) / input_bytes}


def _peak() -> int:
    """Peak of resident memory in bytes since the last reset."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
