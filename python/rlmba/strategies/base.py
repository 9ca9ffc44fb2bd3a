"""The contract of all query strategies."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba import kernels
from rlmba.errors import NonFiniteError, PluginError, UsageError
from rlmba.kernels.common.arrays import to_host
from rlmba.plugins import blamed, origin
from rlmba.strategies.absent import completed
from rlmba.types import PoolOutputs, QueryContext, Selection

__all__ = ["NEEDS", "Choice", "Feedback", "Stages", "Strategy", "TopScore"]

NEEDS = (
    "features",
    "logits",
    "modality_features",
    "modality_logits",
    "labeled",
    "labels",
    "head",
    "dropout",
    "input_features",
)
"""Values of ``Strategy.needs``: the fused features and logits, those of each modality, the features of
labeled samples, their classes, the fused head, logits of dropout passes, what the encoders read."""


class Choice(NamedTuple):
    """What a strategy's own code returns: pool positions [n] in chosen order, and their scores [n].

    NumPy arrays, or tensors if the pool holds tensors.
    """

    positions: Any
    scores: Any


@dataclass(frozen=True)
class Feedback:
    """The result of the last batch: the reward r_t, the round number, and the number of labels so far.

    ``start`` is the number of labels and the reward before the run's first batch, None where that is
    undefined.
    """

    reward: float
    round: int
    labels: int
    start: tuple[int, float] | None = None


class Stages:
    """Wall time of one query by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent in the block to stage ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class Strategy(ABC):
    """A rule that selects n samples of a pool.

    Subclasses are keyword-only dataclasses whose fields are their options, and implement
    :meth:`choose`. A strategy that learns also overrides :meth:`learn`, :meth:`state_dict` and
    :meth:`load_state_dict`.
    """

    name: ClassVar[str]
    """Its name in messages, run folders and policy files."""
    summary: ClassVar[str]
    """One line for listings."""
    needs: ClassVar[frozenset[str]] = frozenset({"features", "logits"})
    """The parts of ``PoolOutputs`` and ``QueryContext`` that it requires, out of :data:`NEEDS`."""
    optional: ClassVar[frozenset[str]] = frozenset()
    """The parts that it also reads if they were given, out of :data:`NEEDS`."""
    on_device: ClassVar[bool] = False
    """Whether :meth:`choose` accepts torch tensors on any device; otherwise it gets NumPy arrays."""

    @property
    def dropout_passes(self) -> int:
        """K, the number of stochastic passes that it needs in ``PoolOutputs.dropout_logits``."""
        return 0

    def query(self, pool: PoolOutputs, context: QueryContext, n: int) -> Selection:
        """Select ``n`` samples.

        Parameters
        ----------
        pool : PoolOutputs
            The unlabeled pool; unchanged.
        context : QueryContext
            Its ``rng`` is the only source of randomness, and is advanced.
        n : int
            0 <= n <= N.

        Returns
        -------
        Selection
            Exactly n distinct positions into the pool, in chosen order.

        Raises
        ------
        UsageError
            If n is not an integer within 0..N.
        NonFiniteError
            If the model's outputs contain NaN or infinity; the message names the sample's id.
        PluginError
            If a strategy from elsewhere raises, or does not return n distinct positions into the pool
            and n scores.
        """
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 0 <= n <= len(pool):
            raise UsageError(
                f"{self.name}: expected n within 0..{len(pool)} (the pool's size), got {n!r}; "
                "pass an integer in this range"
            )
        n = int(n)
        if n == 0:
            return Selection(np.empty(0, dtype=np.int64), np.empty(0))
        stages = Stages()
        if not self.on_device:
            pool = pool.host()
        with kernels.record() as calls, blamed(type(self), f"strategy {self.name!r}"):
            try:
                if "features" in self.needs:
                    pool, context = completed(pool, context)
                choice = self.choose(pool, context, n, stages)
            except NonFiniteError as error:
                raise NonFiniteError(
                    f"{self.name}: sample {str(pool.ids[error.row])!r}: {error}", error.row
                ) from error
        positions, scores = self._checked(choice, n, len(pool))
        return Selection(
            positions,
            scores,
            seconds=stages.seconds,
            backends={c.op: c.backend for c in calls},
        )

    def _checked(
        self, choice: Any, n: int, size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The positions and scores that :meth:`choose` returned, if they keep the contract."""
        try:
            positions, scores = (_array(part) for part in choice)
            found = _breach(positions, scores, n, size)
        except (TypeError, ValueError, AttributeError):
            found = f"{choice!r:.200}"
        if not found:
            return positions.astype(np.int64, copy=False), scores.astype(np.float64, copy=False)
        whose = origin(type(self))
        message = (
            f"strategy {self.name!r}{f', from {whose},' * bool(whose)} broke its contract: expected {n} "
            f"distinct integers within 0..{size - 1} and {n} scores, it returned {found}"
        )
        raise PluginError(f"{message}; correct its class") if whose else AssertionError(message)

    @abstractmethod
    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Choose by the strategy's own rule; 1 <= n <= N is already checked.

        If "features" is in :attr:`needs`, ``pool.fused_features`` and ``context.labeled_features`` are
        completed for samples that lack a modality: :func:`rlmba.strategies.absent.completed`.
        """

    def learn(self, feedback: Feedback) -> Mapping[str, float]:
        """Learn from the result of the last batch; return figures for the round's record."""
        del feedback
        return {}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Arrays that restore what the strategy has learned; empty for a fixed rule."""
        return {}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Inverse of :meth:`state_dict`."""
        del state


class TopScore(Strategy):
    """A strategy that takes the n samples with the largest scores, ties by pool position."""

    on_device: ClassVar[bool] = True
    by_row: ClassVar[bool] = True
    """Whether a sample's score depends on that sample alone, so that a pool can be scored in parts."""

    @abstractmethod
    def score(self, pool: PoolOutputs, context: QueryContext) -> Any:
        """Score every sample: a finite array or tensor [N]; the largest are chosen first."""

    def choose(self, pool: PoolOutputs, context: QueryContext, n: int, stages: Stages) -> Choice:
        """Scores are those of :meth:`score`."""
        with stages("score"):
            best = kernels.top_k(self.score(pool, context), n)
        return Choice(best.indices, best.values)


def _array(part: Any) -> NDArray[Any]:
    return np.asarray(part) if isinstance(part, list | tuple) else to_host(part)


def _breach(positions: NDArray[Any], scores: NDArray[Any], n: int, size: int) -> str:
    """How positions and scores break the contract; "" if they keep it."""
    if positions.dtype.kind not in "iu":
        return f"positions of type {positions.dtype}"
    if positions.shape != (n,) or len(np.unique(positions)) != n:
        return f"positions of shape {positions.shape} with {len(np.unique(positions))} distinct"
    if positions.min() < 0 or positions.max() >= size:
        return f"positions within {positions.min()}..{positions.max()}"
    if scores.shape != (n,) or scores.dtype.kind not in "iufb":
        return f"scores of shape {scores.shape} and type {scores.dtype}"
    return "scores that are NaN" if np.isnan(scores).any() else ""
