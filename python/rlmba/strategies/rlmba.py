"""RL-MBA, the paper's strategy, composed of the parts in ``rlmba.method``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rlmba.errors import UsageError
from rlmba.kernels.common.arrays import to_host
from rlmba.method import efda, scoring
from rlmba.method.state import Candidates, Moments, candidate_features, state_vector
from rlmba.strategies.base import Choice, Stages
from rlmba.strategies.learned import ClusteredDraw
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["Rlmba"]


@dataclass(kw_only=True)
class Rlmba(ClusteredDraw):
    """Score the pool (Eq 4-6), keep the best kappa n (Eq 7), and draw n by the policy (Eq 10-12).

    Parameters
    ----------
    beta : float
        Weight of diversity in Eq 6, >= 0.
    evidence : {"softplus", "exp", "relu"}
        Evidence function of the Dirichlet parameters, if the modality heads were trained by
        cross-entropy. Heads that were trained to output evidence keep the function of their training.
    uncertainty : {"variance", "vacuity", "conflict", "vacuity+conflict"}
        u_m and U: "variance" is Eq 4; "vacuity" C / alpha_0; "conflict" how much the modalities
        contradict each other; "vacuity+conflict" v + c - v c. See :mod:`rlmba.method.efda`.
    efda : bool
        False is the ablation that uses entropies instead of Dirichlet variances.
    diversity : bool
        False is the ablation of Eq 6 without its second term, and without the k-means.
    policy : {"learned", "greedy", "uniform"}
        "greedy" takes the n best by q; "uniform" draws uniformly among the candidates. Both are
        ablations.
    **options
        Those of :class:`~rlmba.strategies.learned.ClusteredDraw`.
    """

    name: ClassVar[str] = "rlmba"
    summary: ClassVar[str] = (
        "RL-MBA: balanced modalities, Dirichlet difficulty, diversity, learned draw"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"features", "modality_logits"})
    policies: ClassVar[tuple[str, ...]] = ("learned", "greedy", "uniform")

    beta: float = 1.0
    evidence: str = "softplus"
    uncertainty: str = "variance"
    efda: bool = True
    diversity: bool = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.beta) and self.beta >= 0):
            raise UsageError(f"rlmba: beta: expected a number >= 0, got {self.beta}")
        if self.evidence not in efda.EVIDENCE:
            raise UsageError(
                f"rlmba: evidence: expected one of {efda.EVIDENCE}, got {self.evidence!r}"
            )
        if self.uncertainty not in efda.UNCERTAINTY:
            raise UsageError(
                f"rlmba: uncertainty: expected one of {tuple(efda.UNCERTAINTY)}, "
                f"got {self.uncertainty!r}"
            )
        if not self.efda and self.uncertainty != "variance":
            raise UsageError(
                f"rlmba: expected efda true with uncertainty {self.uncertainty!r}, got efda false, "
                "which uses entropies; omit one of the two options"
            )
        super().__post_init__()
        if not self.efda:
            self.needs = self.needs | {"logits"}  # type: ignore[misc]  # entropy of the fused head

    @property
    def measure(self) -> str:
        """The measure that u_m and U are computed with."""
        return self.uncertainty if self.efda else "entropy"

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are q (Eq 6), in the order of the draw."""
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
                uncertainty=self.measure,
            )
        with stages("candidates"):
            candidates = scoring.candidates(score.q, n, kappa=self.kappa)
        with stages("policy"):
            score = scoring.Score(*map(to_host, score))
            distances = None if distances is None else to_host(distances)
            if self.policy == "greedy":
                picks = np.arange(n)
            elif self.agent is None:
                picks = context.rng.permutation(len(candidates))[:n]
            else:
                found = Moments.of(score, pool.present, distances)
                state = state_vector(context, weights, pool.n_classes, found)
                best = Candidates.of(score, pool.present, candidates)
                features = candidate_features(weights, best)
                picks = self.agent.draw(state, features, n, rng=context.rng)
        positions = candidates[picks]
        return Choice(positions, score.q[positions])
