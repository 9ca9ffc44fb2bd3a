"""Threads as the processes of a group."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor


class _Shared:
    def __init__(self, size):
        self.size = size
        self.box = [None] * size
        self.barrier = threading.Barrier(size)


class ThreadGroup:
    """One thread of several."""

    def __init__(self, shared, rank):
        self._shared, self.rank, self.size = shared, rank, shared.size

    def gather(self, value):
        self._shared.box[self.rank] = value
        self._shared.barrier.wait(60)
        found = list(self._shared.box)
        self._shared.barrier.wait(60)
        return found

    def add_up(self, values):
        return sum(self.gather(values)[::-1])

    def exchange(self, sent):
        return [theirs[self.rank] for theirs in self.gather(sent)]


def in_group(size, work):
    """Call ``work(group)`` in each of several threads; return the results, or raise the first error."""
    shared = _Shared(size)

    def one(rank):
        try:
            return work(ThreadGroup(shared, rank)), None
        except BaseException as error:
            return None, error

    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(one, range(size)))
    for _, error in found:
        if error is not None and not isinstance(error, threading.BrokenBarrierError):
            raise error
    return [result for result, _ in found]
