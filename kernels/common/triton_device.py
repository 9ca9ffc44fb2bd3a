"""What Triton kernels share."""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

__all__ = ["is_finite", "programs"]


@triton.jit
def is_finite(x):
    """Neither NaN nor infinite, elementwise."""
    return tl.abs(x) < float("inf")


@functools.cache
def _multiprocessors(index: int | None) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)


def programs(device: torch.device) -> int:
    """How many programs fill the device, some of them waiting for memory: 8 a multiprocessor.

    Under the interpreter 3: enough to meet every boundary between programs.
    """
    return 8 * _multiprocessors(device.index) if device.type == "cuda" else 3
