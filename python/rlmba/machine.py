"""The memory that this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_memory", "total_memory"]

_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
"""Files with the memory limit of the process's control group, and with its usage."""


def available_memory() -> int:
    """Bytes that this process can still allocate without swapping, within its control group's limit."""
    lines = _lines("/proc/meminfo")
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return min([_physical(), *free, *(max(0, limit - used) for limit, used in _limits())])


def total_memory() -> int:
    """Bytes of memory that this process could use if no other process used any."""
    return min([_physical(), *(limit for limit, _ in _limits())])


def _physical() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limits() -> Iterator[tuple[int, int]]:
    for files in _GROUPS:
        most, now = ("".join(_lines(path)).strip() for path in files)
        if most.isdigit() and now.isdigit():
            yield int(most), int(now)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []
