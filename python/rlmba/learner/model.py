"""The two interfaces within a learner: the model that it trains, and what its parts read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from rlmba.config import RunConfig
from rlmba.learner.inputs import InputFeatures
from rlmba.learner.labels import Labels
from rlmba.learner.state import RoundState
from rlmba.strategies import Strategy
from rlmba.types import LinearHead, PoolOutputs, RoundRecord, TrainingDiagnostics

__all__ = ["LearnerView", "Model"]


class Model(Protocol):
    """A model that is trained on labeled samples and asked about others, addressed by dataset position.

    :class:`rlmba.learner.network.Network` is this package's own;
    :class:`rlmba.learner.own_model.OwnModel` wraps a model of the user's.
    """

    fixed_fusion: ClassVar[bool]
    """The model fuses its modalities in its own way: no fusion weights are worked out for it."""

    def set_classes(self, classes: Sequence[str]) -> None:
        """From the next training on the classes are these, in the order of the outputs."""
        ...

    def fit(
        self,
        positions: NDArray[np.int64],
        labels: NDArray[np.int64],
        validation: tuple[NDArray[np.int64], NDArray[np.int64]],
        *,
        seed: int,
        checkpoint: tuple[Path, Mapping[str, Any]] | None = None,
    ) -> TrainingDiagnostics:
        """Train on the labeled samples, from the initial weights unless the run starts warm."""
        ...

    def predict(self, positions: NDArray[np.int64], *, keep_on_device: bool = False) -> PoolOutputs:
        """Features and logits of samples, in the order of ``positions``."""
        ...

    def input_features(self, positions: NDArray[np.int64]) -> InputFeatures | None:
        """Input features of training samples, which need no trained model; None if it has none."""
        ...

    def dropout_logits(self, outputs: PoolOutputs, passes: int, *, seed: int) -> Any:
        """Fused logits [K, N, C] of K stochastic passes over samples whose outputs are given."""
        ...

    def head(self) -> LinearHead | None:
        """The linear layer behind the fused logits, where there is one."""
        ...

    @property
    def fusion_weights(self) -> NDArray[np.float64]:
        """w of the convex fusion [M]."""
        ...

    def set_fusion_weights(self, weights: NDArray[np.float64]) -> None:
        """Fuse with these weights from now on."""
        ...

    def save(
        self,
        folder: Path,
        *,
        config: RunConfig,
        identity: Mapping[str, Any],
        weights: Mapping[str, float],
        record: RoundRecord,
    ) -> None:
        """Write everything that :meth:`restore` needs into a checkpoint's folder."""
        ...

    def restore(self, folder: Path, *, identity: Mapping[str, Any]) -> bool:
        """Load what :meth:`save` wrote; False where it cannot, and the model has to be trained again."""
        ...


class LearnerView(Protocol):
    """What choosing a batch and measuring a model read of a learner; see :mod:`rlmba.learner.rounds`."""

    config: RunConfig
    labels: Labels
    model: Model
    strategy: Strategy
    state: RoundState
    modalities: tuple[str, ...]

    @property
    def round(self) -> int:
        """Number of the coming round."""
        ...

    @property
    def answered(self) -> int:
        """Number of answers so far, corrections included."""
        ...

    def set_aside(self, ids: Sequence[str]) -> None:
        """Add samples to the validation set."""
        ...
