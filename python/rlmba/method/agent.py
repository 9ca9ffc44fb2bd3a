"""The agent behind a learned draw: its policy, running statistics of the state, and baseline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import CheckpointError
from rlmba.method.policy_file import PolicyFile, read_policy, write_policy
from rlmba.method.reward import Baseline, Point
from rlmba.method.state import STATE_FEATURES, RunningStandardizer

if TYPE_CHECKING:
    from rlmba.method.policy import Taken

__all__ = ["Agent", "Collected", "Collector"]

_Arrays = dict[str, NDArray[Any]]


class Agent:
    """Draws batches of candidates, and learns from one reward after each batch (Eq 10-13).

    Parameters
    ----------
    baseline, baseline_momentum, advantage_clip
        Kind, momentum and clip of the :class:`~rlmba.method.reward.Baseline`.
    explore : bool
        False takes the n best by z instead of drawing, and learns nothing: the weights, the state's
        statistics and the baseline stay as they are.
    **options
        Those of the :class:`~rlmba.method.policy.Policy`: ``hidden``, ``learning_rate``, ``seed``,
        ``sharpness``.

    Attributes
    ----------
    policy, standardizer, baseline, explore

    Raises
    ------
    UsageError
        If an option is out of its range.
    """

    def __init__(
        self,
        *,
        baseline: str = "expected",
        baseline_momentum: float = 0.9,
        advantage_clip: float | None = 1.0,
        explore: bool = True,
        **options: Any,
    ) -> None:
        from rlmba.method.policy import Policy

        self.policy = Policy(**options)
        self.standardizer = RunningStandardizer(len(STATE_FEATURES))
        self.baseline = Baseline(baseline, baseline_momentum, advantage_clip)
        self.explore = explore

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, strategy: str, **options: Any) -> Agent:
        """An agent that starts from a saved policy; ``hidden`` and ``sharpness`` come from the file.

        Raises
        ------
        CheckpointError
            As :func:`~rlmba.method.policy_file.read_policy`.
        """
        saved = read_policy(path, strategy=strategy)
        agent = cls(**{**options, **saved.options})
        try:
            agent.load_state_dict(saved.arrays)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}; restore the file or train it again") from error
        return agent

    def save(
        self, path: str | os.PathLike[str], *, strategy: str, facts: Mapping[str, Any]
    ) -> None:
        """Write the policy's weights and the state's statistics, without the optimizer and the baseline.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        options = {"hidden": self.policy.hidden, "sharpness": self.policy.sharpness}
        arrays = {k: a for k, a in self.state_dict().items() if _belongs_to_policy(k)}
        write_policy(path, PolicyFile(strategy, options, facts, arrays))

    def draw(
        self,
        state: NDArray[np.float64],
        candidates: NDArray[np.float64],
        n: int,
        *,
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Indices of n candidates, in drawn order.

        Parameters
        ----------
        state : float64 array [S]
            As :func:`~rlmba.method.state.state_vector` returns it.
        candidates : float64 array [K, F]
            As :func:`~rlmba.method.state.candidate_features` returns them.
        n : int
            0 <= n <= K.
        rng : numpy.random.Generator
            Not used where ``explore`` is False.
        """
        if not self.explore:
            return self.policy.best(self.standardizer.apply(state), candidates, n)
        return self.policy.draw(self.standardizer.update(state), candidates, n, rng=rng).indices

    def learn(self, reward: float, labels: int, start: Point | None = None) -> Mapping[str, float]:
        """Take one step on the last draw (Eq 13); return the advantage, baseline and gradient norm.

        The arguments are those of :meth:`~rlmba.method.reward.Baseline.advantage`.
        """
        if not self.explore:
            return {}
        advantage = self.baseline.advantage(reward, labels, start)
        norm = self.policy.learn(advantage)
        return {
            "advantage": advantage,
            "baseline": float(self.baseline.value or 0.0),
            "gradient_norm": norm,
        }

    def state_dict(self) -> _Arrays:
        """Arrays that restore the agent: weights, Adam's moments, statistics, baseline."""
        state = {f"policy.{k}": v for k, v in self.policy.state_dict().items()}
        state |= {f"state.{k}": v for k, v in self.standardizer.state_dict().items()}
        return state | self.baseline.state_dict()

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises
        ------
        CheckpointError
            If the state was saved under other options, or an array is missing or of another shape.
        """

        def part(prefix: str) -> _Arrays:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        try:
            self.policy.load_state_dict(part("policy."))
            self.standardizer.load_state_dict(part("state."))
            self.baseline.load_state_dict(state)
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"the state of the policy is damaged ({error!r})") from error


class Collected(NamedTuple):
    """A draw to learn from later: ``state`` [S] before standardization, and the draw as ``taken``."""

    state: NDArray[np.float64]
    taken: Taken


class Collector(Agent):
    """Draws for another agent and keeps the draws, without changing that agent.

    The draws of parallel episodes therefore do not depend on the order of the episodes, and one step
    can be taken on all of them together.

    Parameters
    ----------
    agent : Agent
        The agent whose current policy, statistics and ``explore`` are used at each draw.
    rng : numpy.random.Generator
        Used instead of the generators passed to :meth:`draw`, so that episodes that are otherwise
        alike draw differently.

    Attributes
    ----------
    draws : list of Collected
    """

    def __init__(self, agent: Agent, rng: np.random.Generator) -> None:
        self.policy, self.standardizer = agent.policy, agent.standardizer
        self.baseline, self.explore = agent.baseline, agent.explore
        self.draws: list[Collected] = []
        self._rng = rng

    def draw(
        self,
        state: NDArray[np.float64],
        candidates: NDArray[np.float64],
        n: int,
        *,
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """As :meth:`Agent.draw`, without updating the statistics."""
        del rng
        from rlmba.method.policy import Taken

        seen = self.standardizer.apply(state)
        if self.explore:
            indices = self.policy.draw(seen, candidates, n, rng=self._rng, keep=False).indices
        else:
            indices = self.policy.best(seen, candidates, n)
        self.draws.append(Collected(state, Taken(seen, candidates, indices)))
        return indices

    def learn(self, reward: float, labels: int, start: Point | None = None) -> Mapping[str, float]:
        """Learn nothing: the owner of the agent learns from all draws at once."""
        del reward, labels, start
        return {}


def _belongs_to_policy(key: str) -> bool:
    return key.startswith(("policy.network.", "state."))
