"""What the strategies share that can draw their batch by a learned policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import UsageError
from rlmba.kernels.common.arrays import to_host
from rlmba.method import scoring
from rlmba.method.agent import Agent
from rlmba.method.state import Candidates, Moments, candidate_features, state_vector
from rlmba.strategies.base import Feedback, Strategy
from rlmba.strategies.uncertainty import margin_difficulty
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["ClusteredDraw", "LearnedDraw", "policy_inputs"]

_AGENT = (
    "hidden",
    "learning_rate",
    "seed",
    "sharpness",
    "baseline",
    "baseline_momentum",
    "advantage_clip",
    "explore",
)
"""Options that are the agent's."""


@dataclass(kw_only=True)
class LearnedDraw(Strategy):
    """Keeps the best kappa n samples as candidates, and chooses n of them by a rule or a policy.

    The policy is an :class:`~rlmba.method.agent.Agent`, made where the option ``policy`` is "learned".

    Parameters
    ----------
    kappa : int
        Candidates per sample of the batch (Eq 7), >= 1.
    policy : str
        "learned", or a fixed rule of the strategy: one of :attr:`policies`.
    policy_file : str or None
        A policy to start from, made for the same strategy by `rlmba train-policy` or by a run that
        learned one.
    explore : bool
        False takes the n best by the policy instead of drawing, and learns nothing. This is how a
        trained policy is used.
    sharpness : float
        Draws follow the Plackett-Luce law of ``sharpness`` z, > 0.
    hidden, learning_rate, seed
        Of the policy network: its width, Adam's learning rate, and the seed of its initial weights.
        With ``policy_file``, ``hidden`` and ``sharpness`` come from the file.
    baseline : {"expected", "moving"}
        What a reward is compared with (b_t of Eq 13): the reward that the run's own curve predicts
        for that number of labels, or the moving average of past rewards, as published.
    baseline_momentum : float
        Weight of the past in it: of the average, or of each point of the curve relative to the next
        newer one.
    advantage_clip : float or None
        Bound of the advantage's absolute value; None: unbounded.

    Raises
    ------
    UsageError
        If an option is out of its range.
    CheckpointError
        If ``policy_file`` is not a policy of this strategy.
    """

    policies: ClassVar[tuple[str, ...]]
    """Values of the option ``policy``."""
    on_device: ClassVar[bool] = True

    kappa: int = 5
    policy: str = "learned"
    policy_file: str | None = None
    explore: bool = True
    sharpness: float = 1.0
    hidden: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    baseline: str = "expected"
    baseline_momentum: float = 0.9
    advantage_clip: float | None = 1.0
    agent: Agent | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kappa < 1:
            raise UsageError(f"{self.name}: expected kappa >= 1, got {self.kappa}")
        if self.policy not in self.policies:
            raise UsageError(
                f"{self.name}: policy: expected one of {self.policies}, got {self.policy!r}"
            )
        if self.policy != "learned":
            if self.policy_file is not None:
                raise UsageError(
                    f"{self.name}: policy_file is used by policy 'learned', got policy {self.policy!r}; "
                    "set strategy_options.policy=learned or omit policy_file"
                )
            return
        options = {name: getattr(self, name) for name in _AGENT}
        try:
            if self.policy_file is None:
                self.agent = Agent(**options)
            else:
                self.agent = Agent.load(self.policy_file, strategy=self.name, **options)
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from error

    def learn(self, feedback: Feedback) -> Mapping[str, float]:
        """Take one REINFORCE step on the last draw (Eq 13); no effect without a policy that explores."""
        if self.agent is None:
            return {}
        return self.agent.learn(feedback.reward, feedback.labels, feedback.start)

    def save_policy(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the current policy, for ``policy_file``; no effect without one that learns.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        if self.agent is not None and self.agent.explore:
            self.agent.save(path, strategy=self.name, facts=facts)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Arrays of the policy, the optimizer, the state's running statistics, and the baseline."""
        return {} if self.agent is None else self.agent.state_dict()

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises
        ------
        CheckpointError
            If the state was saved under other options.
        """
        if self.agent is not None:
            self.agent.load_state_dict(state)


@dataclass(kw_only=True)
class ClusteredDraw(LearnedDraw):
    """A :class:`LearnedDraw` that clusters samples by k-means.

    Parameters
    ----------
    lloyd_steps : int
        The largest number of Lloyd iterations of the k-means, >= 0.
    **options
        Those of :class:`LearnedDraw`.
    """

    lloyd_steps: int = 5

    def __post_init__(self) -> None:
        if self.lloyd_steps < 0:
            raise UsageError(f"{self.name}: expected lloyd_steps >= 0, got {self.lloyd_steps}")
        super().__post_init__()


def policy_inputs(
    pool: PoolOutputs,
    context: QueryContext,
    difficulty: NDArray[np.float64],
    candidates: NDArray[np.int64],
    *,
    order: NDArray[np.int64],
    distances: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The state and the candidates' features of a policy that starts from a strategy's own order.

    Uncertainties are those of :func:`~rlmba.strategies.uncertainty.margin_difficulty` for the modality
    heads.

    Parameters
    ----------
    pool, context
        Of the query.
    difficulty : float array [N]
        Of every sample of the pool, in [0, 1].
    candidates : int64 array [K]
        Pool positions.
    order : int64 array [K]
        Indices into ``candidates`` in the order in which the strategy takes them without a policy.
    distances : float array [K]
        A value that grows with a candidate's distance from other samples, such as the distance to the
        center of its cluster, or its gain in coverage.

    Returns
    -------
    (float64 array [S], float64 array [K, F])
        See :mod:`rlmba.method.state`.
    """
    u = np.stack([to_host(margin_difficulty(z)) for z in pool.logits.values()], axis=1)
    near = np.zeros(len(difficulty))
    near[candidates] = np.asarray(kernels.minmax(distances), dtype=np.float64)
    normalized: Any = kernels.minmax(u, mask=pool.present)
    score = scoring.Score(difficulty, u, difficulty, normalized, near)
    base = np.empty(len(candidates))
    base[order] = np.arange(len(candidates), 0, -1)
    weights, found = context.weights_for(pool), Moments.of(score, pool.present, distances)
    best = Candidates.of(score, pool.present, candidates)
    state = state_vector(context, weights, pool.n_classes, found)
    return state, candidate_features(weights, best, base=base)
