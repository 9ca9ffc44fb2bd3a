"""Sizes of the arrays that tests of ``rlmba.select`` pass, and a strategy that keeps what it gets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlmba.strategies import Choice, Strategy
from rlmba.types import PoolOutputs, QueryContext

N, C, D = 60, 4, 7


@dataclass(kw_only=True)
class Probe(Strategy):
    """Keeps what it was given and takes the first n."""

    name = "probe"
    summary = "for tests"
    needs = frozenset()
    seen: list = field(default_factory=list)

    def choose(self, pool, context, n, stages):
        self.seen.append((pool, context))
        return Choice(np.arange(n), np.arange(n, 0, -1.0))

    @property
    def pool(self) -> PoolOutputs:
        return self.seen[-1][0]

    @property
    def context(self) -> QueryContext:
        return self.seen[-1][1]


def probe(*needs):
    return type("Probing", (Probe,), {"needs": frozenset(needs)})()
