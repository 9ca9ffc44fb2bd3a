"""RL-MBA, the paper's strategy: one composition of the parts in ``rlmba.method``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import UsageError
from rlmba.kernels.common.arrays import to_host
from rlmba.method import efda, scoring
from rlmba.method.reward import Baseline
from rlmba.method.state import (
    STATE_FEATURES,
    RunningStandardizer,
    candidate_features,
    state_vector,
)
from rlmba.strategies.base import Choice, Feedback, Stages, Strategy
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Rlmba"]

_POLICIES = ("learned", "greedy", "uniform")


@dataclass(kw_only=True)
class Rlmba(Strategy):
    """Score the pool (Eq 4-6), keep the best kappa n (Eq 7), let the policy draw n (Eq 10-12).

    Parameters
    ----------
    beta : float
        Weight of diversity in Eq 6, >= 0.
    kappa : int
        Candidates per sample of the batch (Eq 7), >= 1.
    lloyd_steps : int
        Lloyd iterations of the budgeted k-means (Eq 5), at most.
    evidence : {"softplus", "exp", "relu"}
        Evidence function of the Dirichlet parameters.
    efda : bool
        False is the ablation: entropies in the place of Dirichlet variances.
    diversity : bool
        False is the ablation: Eq 6 without its second term, and no k-means.
    policy : {"learned", "greedy", "uniform"}
        "greedy" takes the n best by q, "uniform" draws evenly among the candidates: the ablations.
    hidden, learning_rate, seed
        Of the policy network: its width, Adam's rate, its initial weights.
    baseline_momentum : float
        Weight of the past in the baseline b_t (Eq 13).
    advantage_clip : float or None
        Bound of the advantage's size.

    Raises
    ------
    UsageError
        If an option is out of its range.
    """

    name: ClassVar[str] = "rlmba"
    summary: ClassVar[str] = (
        "RL-MBA: balanced modalities, Dirichlet difficulty, diversity, learned draw"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"features", "modality_logits"})
    on_device: ClassVar[bool] = True

    beta: float = 1.0
    kappa: int = 5
    lloyd_steps: int = 5
    evidence: str = "softplus"
    efda: bool = True
    diversity: bool = True
    policy: str = "learned"
    hidden: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    baseline_momentum: float = 0.9
    advantage_clip: float | None = 1.0
    # A Policy; torch is imported only where one is made.
    _policy: Any = field(default=None, init=False, repr=False)
    _standardizer: RunningStandardizer = field(init=False, repr=False)
    _baseline: Baseline = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.beta) and self.beta >= 0):
            raise UsageError(f"rlmba: beta: expected a number >= 0, got {self.beta}")
        if self.kappa < 1 or self.lloyd_steps < 0:
            raise UsageError(
                f"rlmba: expected kappa >= 1 and lloyd_steps >= 0, got {self.kappa}, {self.lloyd_steps}"
            )
        if self.evidence not in efda.EVIDENCE:
            raise UsageError(
                f"rlmba: evidence: expected one of {efda.EVIDENCE}, got {self.evidence!r}"
            )
        if self.policy not in _POLICIES:
            raise UsageError(f"rlmba: policy: expected one of {_POLICIES}, got {self.policy!r}")
        if not 0 <= self.baseline_momentum < 1:
            raise UsageError(
                f"rlmba: baseline_momentum: expected 0 <= x < 1, got {self.baseline_momentum}"
            )
        if self.advantage_clip is not None and not self.advantage_clip > 0:
            raise UsageError(
                f"rlmba: advantage_clip: expected > 0 or null, got {self.advantage_clip}"
            )
        self._standardizer = RunningStandardizer(len(STATE_FEATURES))
        self._baseline = Baseline(self.baseline_momentum, self.advantage_clip)
        if self.policy == "learned":
            from rlmba.method.policy import Policy

            self._policy = Policy(
                hidden=self.hidden, learning_rate=self.learning_rate, seed=self.seed
            )

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are q (Eq 6); the order is the order of the draw."""
        weights = context.weights_for(pool)
        distances = None
        if self.diversity:
            with stages("kmeans"):
                distances = scoring.diversity(
                    pool.fused_features, n, rng=context.rng, lloyd_steps=self.lloyd_steps
                )
        with stages("score"):
            score = scoring.score(
                pool,
                weights,
                context.temperatures_for(pool),
                distances,
                beta=self.beta,
                evidence=self.evidence,
                use_efda=self.efda,
            )
        with stages("candidates"):
            candidates = scoring.candidates(score.q, n, kappa=self.kappa)
        with stages("policy"):
            score = scoring.Score(*map(to_host, score))
            distances = None if distances is None else to_host(distances)
            if self.policy == "greedy":
                picks = np.arange(n)
            elif self._policy is None:
                picks = context.rng.permutation(len(candidates))[:n]
            else:
                state = self._standardizer.update(state_vector(pool, context, score, distances))
                features = candidate_features(pool, weights, score, candidates)
                picks = self._policy.draw(state, features, n, rng=context.rng).indices
        positions = candidates[picks]
        return Choice(positions, score.q[positions])

    def learn(self, feedback: Feedback) -> Mapping[str, float]:
        """One REINFORCE step on the last draw (Eq 13); nothing without the learned policy."""
        if self._policy is None:
            return {}
        advantage = self._baseline.advantage(feedback.reward)
        norm = self._policy.learn(advantage)
        return {
            "advantage": advantage,
            "baseline": float(self._baseline.value or 0.0),
            "gradient_norm": norm,
        }

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Policy, optimizer, running statistics of the state, baseline."""
        if self._policy is None:
            return {}
        state = {f"policy.{k}": v for k, v in self._policy.state_dict().items()}
        state |= {f"state.{k}": v for k, v in self._standardizer.state_dict().items()}
        if self._baseline.value is not None:
            state["baseline"] = np.array([self._baseline.value])
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises
        ------
        CheckpointError
            If it was made with other options.
        """
        if self._policy is None:
            return

        def part(prefix: str) -> dict[str, NDArray[Any]]:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        self._policy.load_state_dict(part("policy."))
        self._standardizer.load_state_dict(part("state."))
        self._baseline.value = float(state["baseline"][0]) if "baseline" in state else None
