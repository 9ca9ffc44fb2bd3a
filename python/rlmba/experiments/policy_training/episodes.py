"""What the trainer knows of episodes: nothing but draws and their rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlmba.method.agent import Agent, Collected

__all__ = ["Episode", "PolicyEnvironment"]


@dataclass(frozen=True, eq=False)
class Episode:
    """One whole active-learning run under a policy.

    Attributes
    ----------
    task : str
        The data set.
    start : int
        The seed: episodes of one task and start are siblings.
    draws : sequence of Collected [T]
        One a round.
    rewards : float64 array [T]
    """

    task: str
    start: int
    draws: Sequence[Collected]
    rewards: NDArray[np.float64]


class PolicyEnvironment(Protocol):
    """Where a policy is tried."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it is, JSON-able: a training goes on only under equal facts. ``tasks`` lists its tasks."""

    def run(self, agent: Agent, numbers: range) -> list[Episode]:
        """Run the episodes of these numbers under an agent, which does not change.

        The answer is decided by the numbers, the agent's weights and its statistics.
        """
