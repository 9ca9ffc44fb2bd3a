"""Process a batch in blocks of samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch

__all__ = ["blocks"]


def blocks(n: int, size: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover 0..n-1: blocks of ``size`` on the CPU, a single slice on other devices.

    On the CPU, intermediate results of a few samples fit into the cache, and their memory is reused
    instead of being mapped again.
    """
    step = size if device.type == "cpu" else max(n, 1)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
