"""Timing of calls: device events on a GPU, a wall clock without one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Timing", "measure"]

LEAST, MOST = 5, 100
FLUSH_BYTES = 2**28


@dataclass(frozen=True)
class Timing:
    """Quantiles of the seconds of ``repeats`` calls."""

    p20: float
    p50: float
    p80: float
    repeats: int


def measure(call: Callable[[], Any], device: torch.device, *, seconds: float = 0.4) -> Timing:
    """Time ``call`` after a warm-up, for about ``seconds`` in total.

    On a GPU, the second-level cache holds none of the input when a call starts, because memory
    larger than the cache is written just before. The time is taken between two events on the
    stream. It includes what the call waits for on the host, but not the launch of its first kernel.
    """
    if device.type != "cuda":
        return _wall_clock(call)
    call()
    call()
    first = max(_events(call, device, 1)[0], 1e-6)
    repeats = min(max(round(seconds / first), LEAST), MOST)
    return _quantiles(_events(call, device, repeats))


def _events(call: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)
    pairs = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.zero_()
        start.record()
        call()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) / 1e3 for start, end in pairs]


def _wall_clock(call: Callable[[], Any]) -> Timing:
    """Time one call, as a substitute for a measurement without a GPU."""
    start = time.perf_counter()
    call()
    return _quantiles([time.perf_counter() - start])


def _quantiles(taken: list[float]) -> Timing:
    values = torch.tensor(taken, dtype=torch.float64)
    p20, p50, p80 = torch.quantile(values, torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64))
    return Timing(float(p20), float(p50), float(p80), len(taken))
