"""How many samples of a batch are worked on at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

__all__ = ["blocks"]


def blocks(n: int, size: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover 0..n-1: of ``size`` on the CPU, one of all elsewhere.

    On the CPU intermediate results of a few samples stay in its cache, and their memory is used
    again rather than mapped anew.
    """
    step = size if device.type == "cpu" else max(n, 1)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
