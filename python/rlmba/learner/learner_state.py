"""The state of a learner, and its form in a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import rlmba
from rlmba.config import FREE_KEYS, RunConfig, identity
from rlmba.errors import CheckpointError
from rlmba.learner.baselines import baseline_curves
from rlmba.learner.labels import Labels
from rlmba.learner.model import Model
from rlmba.learner.randomness import fit_seed
from rlmba.learner.round0 import Round0
from rlmba.learner.state import RoundState, read_state, write_state
from rlmba.method.reward import Reward
from rlmba.plugins import blamed
from rlmba.runfolder.labels import Answer, LabelLog
from rlmba.runfolder.pending import PendingRound, pending_strategy_file, read_pending
from rlmba.runfolder.store import RunStore
from rlmba.strategies import Strategy, create
from rlmba.strategies.learned import LearnedDraw
from rlmba.training import load_tensors, save_tensors
from rlmba.types import RoundRecord, TrainingDiagnostics

__all__ = ["LearnerState", "Outcome"]

_STRATEGY = "strategy.safetensors"


@dataclass(frozen=True)
class Outcome:
    """A complete round: its record, and the samples that it labeled in the order chosen.

    Parameters
    ----------
    record : RoundRecord
    ids : list of str
    labels : list of int
        Positions in the classes.
    scores : list of float
        Scores of the strategy; 0 for samples that it did not choose.
    """

    record: RoundRecord
    ids: list[str]
    labels: list[int]
    scores: list[float]


class LearnerState:
    """A run in memory, which can be written to a run folder and resumed from it.

    Parameters
    ----------
    config : RunConfig
        Strategy, seed, sizes, reward, predictor.
    labels : Labels
        The samples and their labels.
    model : Model
        The model to train; its modalities are those of the labels' data set.
    log : LabelLog or None
        The log of answers; None keeps them in memory.
    free_keys : tuple of str
        Keys of the configuration that may change between sessions while checkpoints stay valid.

    Attributes
    ----------
    records : list of RoundRecord
        One for each complete round.
    outcomes : list of Outcome
        The rounds that this object has completed.
    pending : PendingRound or None
        The batch that waits for labels.
    state : RoundState
        What the next round needs from the last one, besides the model.
    store : RunStore or None
        The run folder that every step is written to.
    """

    def __init__(
        self,
        config: RunConfig,
        labels: Labels,
        model: Model,
        *,
        log: LabelLog | None = None,
        free_keys: tuple[str, ...] = FREE_KEYS,
    ) -> None:
        self.config = config
        self.labels = labels
        self.model = model
        self.log = log
        self.free_keys = free_keys
        self.strategy: Strategy = create(config.strategy, **config.strategy_options)
        self.reward = Reward(
            config.reward.kind,
            config.reward.smoothing,
            baseline_curves(config) if config.reward.kind == "relative" else (),
        )
        self.modalities = tuple(m.name for m in labels.dataset.modalities)
        self.state = RoundState.start(len(self.modalities))
        self.records: list[RoundRecord] = []
        self.outcomes: list[Outcome] = []
        self.pending: PendingRound | None = None
        self.store: RunStore | None = None
        self._model_classes = labels.classes
        self._model_is_current = False
        self._round0: Round0 | None = None
        self._told: list[Answer] = []
        self._fingerprint = ""

    @property
    def round(self) -> int:
        """Number of the round that is pending, or comes next."""
        return len(self.records)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the model's outputs."""
        return self.labels.classes

    @property
    def classes_are_given(self) -> bool:
        """Whether the classes are a given list; otherwise a new name in an answer is a new class."""
        return self.labels.given

    @property
    def answered(self) -> int:
        """Number of answers so far, corrections included."""
        return len(self._told if self.log is None else self.log.answers)

    @property
    def weights(self) -> dict[str, float]:
        """AMCB's weights in the coming round, by modality, with sum 1."""
        return self.by_name(self.state.weights)

    def identity(self) -> dict[str, Any]:
        """The part of the configuration that checkpoints belong to."""
        return identity(self.config, self.free_keys)

    def by_name(self, values: NDArray[Any]) -> dict[str, float]:
        """One number per modality as a mapping."""
        return {m: float(v) for m, v in zip(self.modalities, values, strict=True)}

    def find_round0(self) -> None:
        """Look for the trained round 0 that the configuration names, if it names one.

        Raises
        ------
        RunFolderError, UsageError
            If it does not exist, or was trained with other settings or on other data.
        """
        if self.config.round0 is not None and self._round0 is None:
            self._round0 = Round0.find(
                self.config.round0, self.config, self.labels.dataset, self.labels.pool
            )

    @property
    def takes_round0_over(self) -> bool:
        """Whether round 0 is not trained but taken over from another run."""
        return self.round == 0 and self.config.round0 is not None

    def _commit(
        self, store: RunStore, outcome: Outcome, *, earlier: Sequence[Outcome] = ()
    ) -> None:
        """Make a round permanent, and rounds before it that are not permanent yet."""

        def save(folder: Path) -> None:
            self._save_checkpoint(folder, outcome.record)
            self._save_policy(store.path / "policy.safetensors", outcome.record)

        for o in earlier:
            store.write_selected(o.record.round, ids=o.ids, labels=o.labels, scores=o.scores)
        store.commit(
            outcome.record,
            ids=outcome.ids,
            labels=outcome.labels,
            scores=outcome.scores,
            save=save,
            earlier=[o.record for o in earlier],
        )

    def _save_checkpoint(self, folder: Path, record: RoundRecord) -> None:
        """Write all that :meth:`resume` needs: tensors as safetensors, the rest as JSON.

        Raises
        ------
        StorageError
            If a file cannot be written.
        """
        self.model.save(
            folder,
            config=self.config,
            identity=self.identity(),
            weights=self.weights,
            record=record,
        )
        self._save_strategy(folder / _STRATEGY)
        write_state(folder, self.state, self.reward.smoothed, self.classes)

    def _save_policy(self, file: Path, record: RoundRecord) -> None:
        """Write the policy as a file to start from, where the strategy learns one (Algorithm 1)."""
        if isinstance(self.strategy, LearnedDraw):
            data = self.config.data or self.config.data_root
            facts = {
                "rlmba": rlmba.__version__,
                "tasks": [self.config.dataset if data is None else data.stem],
                "episodes": 1,
                "rounds": record.round,
                "labels": record.labels,
            }
            self.strategy.save_policy(file, facts)

    def _save_strategy(self, file: Path) -> None:
        """Write what the strategy has learned, and what it waits to learn from."""
        with self._blamed():
            state = self.strategy.state_dict()
            arrays = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
        save_tensors(file, arrays, config=self.identity())

    def resume(self, store: RunStore) -> None:
        """Continue in a run folder, after its last complete round and with the pending batch.

        The model's weights are loaded when they are first needed.

        Parameters
        ----------
        store : RunStore
            New, or with rounds of a run of the same configuration. Open for as long as the learner is used.

        Raises
        ------
        CheckpointError
            If a checkpoint is missing, damaged or of another configuration.
        """
        self.store, self.records = store, list(store.records)
        self._model_is_current = False
        if self.records:
            folder = store.checkpoint()
            self._restore_strategy(folder / _STRATEGY)
            self.state, self.reward.smoothed = read_state(folder, self.records[-1], self.modalities)
        pending = read_pending(store.path)
        # A round that was committed just before a crash left its batch behind.
        self.pending = pending if pending and pending.ids and pending.round == self.round else None
        if self.pending is not None and (file := pending_strategy_file(store.path)).exists():
            self._restore_strategy(file)

    def load_model(self) -> None:
        """Load the last round's weights, or train on the labels again, unless the model has them already."""
        if self._model_is_current or not self.records:
            return
        if self.store is None or not self.model.restore(
            self.store.checkpoint(), identity=self.identity()
        ):
            self._fit(len(self.records) - 1)
        self.model.set_fusion_weights(self.state.fusion_weights)
        self._model_is_current = True

    def _fit(self, number: int) -> TrainingDiagnostics:
        pool = self.labels.pool
        belongs = {
            **self.identity(),
            "round": number,
            "fusion_weights": self.state.fusion_weights.tolist(),
        }
        return self.model.fit(
            pool.labeled,
            pool.labels,
            (pool.validation, self.labels.dataset.labels[pool.validation]),
            seed=fit_seed(self.config.seed, number),
            checkpoint=None if self.store is None else (self.store.training_file, belongs),
        )

    def _restore_strategy(self, file: Path) -> None:
        """Load what :meth:`_save_strategy` wrote."""
        tensors = load_tensors(file, config=self.identity())
        arrays = {
            k: v.float().numpy() if v.dtype == torch.bfloat16 else v.numpy()
            for k, v in tensors.items()
        }
        try:
            with self._blamed():
                self.strategy.load_state_dict(arrays)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from error

    def _blamed(self) -> AbstractContextManager[None]:
        """A block in which errors of another package's strategy are attributed to that package."""
        return blamed(type(self.strategy), f"strategy {self.strategy.name!r}")
