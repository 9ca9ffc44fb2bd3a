"""What strategies share whose batch is drawn by a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rlmba.errors import UsageError
from rlmba.method.agent import Agent
from rlmba.strategies.base import Feedback, Strategy

__all__ = ["LearnedDraw"]


@dataclass(kw_only=True)
class LearnedDraw(Strategy):
    """A strategy with an :class:`~rlmba.method.agent.Agent` where its ``policy`` is "learned".

    Parameters
    ----------
    policy : str
        "learned", or a fixed rule of the strategy.
    policy_file : str or None
        A policy to start from, made for the same strategy by `rlmba train-policy` or by a run that
        learned one.
    explore : bool
        False takes the n best by the policy instead of drawing, and learns nothing: how a trained
        policy is used.
    sharpness : float
        Draws follow the Plackett-Luce law of ``sharpness`` z, > 0.
    hidden, learning_rate, seed
        Of the policy network: its width, Adam's rate, its initial weights. With ``policy_file``,
        ``hidden`` and ``sharpness`` are the file's.
    baseline : {"expected", "moving"}
        What a reward is compared with (b_t of Eq 13): the reward that this run's own curve so far lets
        expect at that number of labels, or the moving average of the rewards before, as published.
    baseline_momentum : float
        Weight of the past in it: of the average, or of each point of the curve against the next newer.
    advantage_clip : float or None
        Bound of the advantage's size.
    """

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

    def _make_agent(self, rules: tuple[str, ...]) -> None:
        """Check the policy's options, and make the agent where there is one."""
        if self.policy not in rules:
            raise UsageError(f"{self.name}: policy: expected one of {rules}, got {self.policy!r}")
        if self.policy != "learned":
            if self.policy_file is not None:
                raise UsageError(
                    f"{self.name}: policy_file is used by policy 'learned', got policy {self.policy!r}; "
                    "set strategy_options.policy=learned or leave the file out"
                )
            return
        options: dict[str, Any] = {
            "hidden": self.hidden,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "sharpness": self.sharpness,
            "baseline": self.baseline,
            "baseline_momentum": self.baseline_momentum,
            "advantage_clip": self.advantage_clip,
            "explore": self.explore,
        }
        try:
            if self.policy_file is None:
                self.agent = Agent(**options)
            else:
                self.agent = Agent.load(self.policy_file, strategy=self.name, **options)
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from error

    def learn(self, feedback: Feedback) -> Mapping[str, float]:
        """One REINFORCE step on the last draw (Eq 13); nothing without a policy that explores."""
        if self.agent is None:
            return {}
        return self.agent.learn(feedback.reward, feedback.labels, feedback.start)

    def save_policy(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the policy as it is now, for ``policy_file``; nothing without one that learns.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        if self.agent is not None and self.agent.explore:
            self.agent.save(path, strategy=self.name, facts=facts)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Policy, optimizer, running statistics of the state, baseline."""
        return {} if self.agent is None else self.agent.state_dict()

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises
        ------
        CheckpointError
            If it was made with other options.
        """
        if self.agent is not None:
            self.agent.load_state_dict(state)
