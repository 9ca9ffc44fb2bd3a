"""Episodes as the trainer sees them: draws and their rewards."""

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
    """One complete active-learning run under a policy.

    Attributes
    ----------
    task : str
        The data set.
    start : int
        The seed; episodes with the same task and start are siblings.
    draws : sequence of Collected [T]
        One per round.
    rewards : float64 array [T]
    """

    task: str
    start: int
    draws: Sequence[Collected]
    rewards: NDArray[np.float64]


class PolicyEnvironment(Protocol):
    """Runs episodes under a policy."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Its description in JSON types; ``tasks`` lists the tasks. Resuming requires equal facts."""

    def run(self, agent: Agent, numbers: range) -> list[Episode]:
        """Run the episodes with these numbers under an agent, which is not changed.

        The result depends only on the numbers and on the agent's weights and statistics.
        """
