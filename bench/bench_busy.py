"""CPU kernels on a machine whose cores are all taken by other processes.

Each call is timed alone and together with as many busy processes as there are cores. These measurements
alternate, so that both see the same state of the machine. With the busy processes, each thread of a kernel
should get half a core, so the fair share of a call is twice its time alone. ``over_fair_share`` is the
median time with the busy processes divided by this fair share. If other work runs on the machine as well,
``over_independent`` is more reliable: it divides by the time of as many calls at once as there are cores,
on one thread each, which use the same cores and never wait for another thread.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rlmba import kernels

ROUNDS = 15
SECONDS = 0.03
"""Least duration of a measurement alone; calls that are shorter are repeated."""
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


@functools.cache
def normal(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, cols), dtype=np.float32)


@functools.cache
def unit(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    x = normal(rows, cols, seed)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def labels(rows: int, classes: int) -> np.ndarray:
    return np.arange(rows) % classes


CASES: dict[str, Callable[[], object]] = {
    "bald_score": lambda: kernels.bald_score(
        normal(10 * 8_000, 20).reshape(10, 8_000, 20), kind="logits"
    ),
    "deepfool_distance": lambda: kernels.deepfool_distance(normal(40_000, 101), normal(101, 128)),
    "dirichlet_variance": lambda: kernels.dirichlet_variance(
        [normal(20_000, 101), normal(20_000, 101, 1)], kind="logits"
    ),
    "fused_score": lambda: kernels.fused_score(
        [normal(20_000, 101), normal(20_000, 101, 1)],
        [0.5, 0.5],
        distances=np.abs(normal(20_000, 1)[:, 0]),
    ),
    "gradient_kmeans_plusplus": lambda: kernels.gradient_kmeans_plusplus(
        normal(10_000, 20), normal(10_000, 128), 200, rng=0
    ),
    "gradient_residuals": lambda: kernels.gradient_residuals(normal(40_000, 101)),
    "graph_propagate": lambda: kernels.graph_propagate(normal(20_000, 256), normal(20_000, 32)),
    "herding": lambda: kernels.herding(unit(5_000, 128), 100, labeled=unit(200, 128, 1)),
    "k_center": lambda: kernels.k_center(normal(20_000, 128), 300, labeled=normal(200, 128, 1)),
    "kmeans": lambda: kernels.kmeans(normal(20_000, 128), 100, rng=0, max_iter=5),
    "kmeans_plusplus": lambda: kernels.kmeans_plusplus(normal(20_000, 256), 500, rng=0),
    "min_distance": lambda: kernels.min_distance(normal(20_000, 256), normal(1_000, 256, 1)),
    "minmax": lambda: kernels.minmax(normal(200_000, 64)),
    "plackett_luce": lambda: kernels.plackett_luce(normal(1_000_000, 1)[:, 0], 1_000, rng=0),
    "sequential_gcn": lambda: kernels.sequential_gcn(
        normal(10_000, 128), np.arange(10_000) < 500, hidden=64, epochs=20, rng=0
    ),
    "shapley_contributions": lambda: kernels.shapley_contributions(
        [normal(20_000, 101, k) for k in range(3)], labels(20_000, 101)
    ),
    "tile_radius": lambda: kernels.tile_radius(unit(20_000, 128), 100),
    "top_k": lambda: kernels.top_k(normal(4_000_000, 1)[:, 0], 1_000),
}


@pytest.fixture(scope="module")
def others() -> Iterator[Callable[[bool], None]]:
    """Start as many busy processes as there are cores; the call lets them run (True) or stops them."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]

    def run(yes: bool) -> None:
        for process in processes:
            process.send_signal(signal.SIGCONT if yes else signal.SIGSTOP)
        time.sleep(0.005)

    try:
        time.sleep(0.5)  # until they have started
        run(False)
        yield run
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    before = kernels.num_threads()
    kernels.set_num_threads(n)
    try:
        yield
    finally:
        kernels.set_num_threads(before)


def seconds(call: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def apart(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of a call if no thread waits for another: one call for each core, on one thread each."""
    cores = os.cpu_count() or 1
    with threads(1), ThreadPoolExecutor(cores) as pool:
        start = time.perf_counter()
        list(pool.map(seconds, [call] * cores, [repeats] * cores))
        return [(time.perf_counter() - start) / (cores * repeats)]


def measure(call: Callable[[], object], others: Callable[[bool], None]) -> dict[str, float]:
    """Median milliseconds of a call alone, with the busy processes, and with them by :func:`apart`."""
    with threads(os.cpu_count() or 1):
        seconds(call, 3)
        repeats = max(1, round(SECONDS / min(seconds(call, 3))))
        alone, beside, independent = [], [], []
        for _ in range(ROUNDS):
            others(False)
            alone += seconds(call, repeats)
            others(True)
            beside += seconds(call, repeats)
            independent += apart(call, repeats)
        others(False)
    quiet, busy, free = (1e3 * statistics.median(t) for t in (alone, beside, independent))
    return {
        "alone_ms": round(quiet, 3),
        "beside_ms": round(busy, 3),
        "independent_ms": round(free, 3),
        "over_fair_share": round(busy / (2 * quiet), 2),
        "over_independent": round(busy / free, 2),
    }


@pytest.mark.parametrize("name", CASES)
def test_beside_busy_processes(benchmark, others, name):
    figures = benchmark.pedantic(measure, (CASES[name], others), rounds=1, warmup_rounds=0)
    benchmark.extra_info.update(figures)
    print(name, figures)
