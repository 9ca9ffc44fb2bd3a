"""What a run holds in memory between rounds, and how it is set up and restored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import rlmba
from rlmba.config import FREE_KEYS, RunConfig, identity
from rlmba.data import MultimodalDataset, Pool
from rlmba.data.initial_ids import read_initial_ids
from rlmba.errors import CheckpointError, UsageError
from rlmba.learner.baselines import baseline_curves
from rlmba.learner.frozen import FrozenDataset
from rlmba.learner.network import Network
from rlmba.learner.randomness import model_seed, stream
from rlmba.learner.round0 import Round0
from rlmba.learner.trained import WEIGHTS, describe_network, write_network
from rlmba.method.reward import Reward
from rlmba.plugins import blamed
from rlmba.reading.structured import read_json
from rlmba.storage import atomic_write_text
from rlmba.strategies import Strategy, create, options
from rlmba.strategies.learned import LearnedDraw
from rlmba.training import Loader, Mesh, load_model, load_tensors, save_model, save_tensors
from rlmba.types import Evaluation, RoundRecord, TrainingDiagnostics

__all__ = ["LoopState", "Session", "build_network", "resolve"]


@dataclass
class LoopState:
    """What one round hands to the next, beside the model.

    ``weights`` are AMCB's w for scoring, ``fusion_weights`` those of the fusion, both float64 [M] and
    both for the coming round; the rest describes the model as it is now.
    """

    weights: NDArray[np.float64]
    fusion_weights: NDArray[np.float64]
    temperatures: NDArray[np.float64]
    delta: NDArray[np.float64]
    validation: Evaluation | None = None
    training: TrainingDiagnostics = field(default_factory=TrainingDiagnostics)

    @classmethod
    def start(cls, m: int) -> LoopState:
        """Before round 0: uniform weights, nothing known."""
        return cls(np.full(m, 1 / m), np.full(m, 1 / m), np.ones(m), np.zeros(m))


@dataclass(frozen=True)
class _Saved:
    """The file ``state.json`` of a checkpoint."""

    weights: list[float]
    fusion_weights: list[float]
    smoothed_reward: float | None


@dataclass
class Session:
    """A run in memory, in its main process."""

    config: RunConfig
    dataset: MultimodalDataset
    network: Network
    pool: Pool
    strategy: Strategy
    reward: Reward
    state: LoopState
    training_file: Path | None = None
    """Where a round's training is saved while it goes on, if it shall be."""
    round0: Round0 | None = None
    """A trained round 0 to take over, if there is one."""
    free_keys: tuple[str, ...] = FREE_KEYS
    """Keys of the configuration that may change while the session's checkpoints stay good."""

    @classmethod
    def build(
        cls, config: RunConfig, dataset: MultimodalDataset, pool: Pool, network: Network
    ) -> Session:
        """Everything a run needs before round 0. ``config`` is resolved."""
        reward = Reward(
            config.reward.kind,
            config.reward.smoothing,
            baseline_curves(config) if config.reward.kind == "relative" else (),
        )
        return cls(
            config=config,
            dataset=dataset,
            network=network,
            pool=pool,
            strategy=create(config.strategy, **config.strategy_options),
            reward=reward,
            state=LoopState.start(len(dataset.modalities)),
        )

    def start(self) -> None:
        """Before round 0: find the trained one that the configuration names, if it names one.

        Raises
        ------
        RunFolderError, UsageError
            If it is not there or not this run's.
        """
        config = self.config
        if config.round0 is not None and self.round0 is None:
            self.round0 = Round0.find(config.round0, config, self.dataset, self.pool)

    def save(self, folder: Path, record: RoundRecord) -> None:
        """Write all that :meth:`restore` needs: model and strategy as safetensors, the rest as JSON.

        Beside the model stands what :class:`~rlmba.learner.trained.Trained` needs to use it alone.

        Parameters
        ----------
        folder : path
            The checkpoint's; it must exist.
        record : RoundRecord
            Of the round that is saved.

        Raises
        ------
        StorageError
            If a file cannot be written.
        """
        config = self.identity()
        save_model(folder / WEIGHTS, self.network.model, config=config)
        if isinstance(self.dataset, FrozenDataset):
            self.dataset.save_encoders(folder, config)
        document = describe_network(
            self.network.model,
            self.dataset,
            config=self.config,
            identity=config,
            weights=self.by_name(self.state.weights),
            record=record,
        )
        write_network(folder, document)
        self.save_strategy(folder / "strategy.safetensors")
        state = {
            "weights": self.state.weights.tolist(),
            "fusion_weights": self.state.fusion_weights.tolist(),
            "smoothed_reward": self.reward.smoothed,
        }
        atomic_write_text(folder / "state.json", json.dumps(state) + "\n")

    def blamed(self) -> AbstractContextManager[None]:
        """Within it, what a strategy of another package raises is said to be its fault."""
        return blamed(type(self.strategy), f"strategy {self.strategy.name!r}")

    def save_policy(self, file: Path, record: RoundRecord) -> None:
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

    def save_strategy(self, file: Path) -> None:
        """Write what the strategy has learned, and what it waits to learn from: a part of :meth:`save`."""
        with self.blamed():
            state = self.strategy.state_dict()
            arrays = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
        save_tensors(file, arrays, config=self.identity())

    def restore(self, folder: Path, record: RoundRecord) -> None:
        """Take up the run after the round of ``record``, whose checkpoint is in ``folder``.

        Raises
        ------
        CheckpointError
            If a checkpoint is missing, damaged or of another configuration.
        """
        self.restore_model(folder)
        self.restore_strategy(folder / "strategy.safetensors")
        self.restore_state(folder, record)

    def restore_model(self, folder: Path) -> None:
        """Load the network's weights: a part of :meth:`restore`."""
        load_model(folder / WEIGHTS, self.network.model, config=self.identity())
        self.network.share()

    def restore_strategy(self, file: Path) -> None:
        """Load what the strategy has learned: a part of :meth:`restore`."""
        tensors = load_tensors(file, config=self.identity())
        arrays = {
            k: v.float().numpy() if v.dtype == torch.bfloat16 else v.numpy()
            for k, v in tensors.items()
        }
        try:
            with self.blamed():
                self.strategy.load_state_dict(arrays)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from error

    def restore_state(self, folder: Path, record: RoundRecord) -> None:
        """Take up what one round hands to the next: a part of :meth:`restore`."""
        file, advice = folder / "state.json", "restore it or start a new run"
        saved = read_json(file, _Saved, advice=advice, error=CheckpointError)
        for found in (saved.weights, saved.fusion_weights):
            if len(found) != len(self.modalities):
                raise CheckpointError(
                    f"{file} is damaged: expected a weight of each of {list(self.modalities)}, found "
                    f"{len(found)}; {advice}"
                )
        self.reward.smoothed = saved.smoothed_reward
        self.state = LoopState(
            weights=np.asarray(saved.weights, dtype=np.float64),
            fusion_weights=np.asarray(saved.fusion_weights, dtype=np.float64),
            temperatures=self._by_modality(record.temperatures),
            delta=self._by_modality(record.delta),
            validation=record.validation,
            training=record.training,
        )

    def identity(self) -> dict[str, Any]:
        """The configuration that checkpoints belong to: without what changes no result."""
        return identity(self.config, self.free_keys)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in their fixed order."""
        return tuple(m.name for m in self.dataset.modalities)

    def by_name(self, values: NDArray[Any]) -> dict[str, float]:
        """One number per modality as a mapping."""
        return {m: float(v) for m, v in zip(self.modalities, values, strict=True)}

    def _by_modality(self, record: Mapping[str, float]) -> NDArray[np.float64]:
        if lacking := [m for m in self.modalities if m not in record]:
            raise CheckpointError(
                f"the last line of rounds.jsonl is damaged: expected numbers of {list(self.modalities)}, "
                f"found none of {lacking}; restore it or start a new run"
            )
        return np.array([record[m] for m in self.modalities])


def build_network(
    config: RunConfig, dataset: MultimodalDataset, mesh: Mesh, loader: Loader | None = None
) -> Network:
    """The network that a resolved configuration asks for, in any process of the run.

    ``loader`` is one of the same data set to share; None: one of its own.
    """
    return Network.build(config, dataset, mesh, seed=model_seed(config.seed), loader=loader)


def resolve(config: RunConfig, dataset: MultimodalDataset) -> tuple[RunConfig, Pool]:
    """Fill in what is derived from the data and check the budget before any work is done.

    Returns
    -------
    (RunConfig, Pool)
        The configuration with nothing left open, and the pool split by it.

    Raises
    ------
    UsageError
        If the initial labels and the batches together exceed the training samples outside V, a
        strategy option is unknown, the strategy compares passes with dropout and there is none, or
        ``initial_ids`` cannot be read, lacks a class, or is not of ``initial_labels`` samples.
    DataError
        If ``initial_ids`` has ids that are not of this data set's training samples, or the data
        cannot be split.
    """
    classes = len(dataset.classes)
    strategy_options = {**options(config.strategy), **config.strategy_options}
    strategy = create(config.strategy, **strategy_options)
    if strategy.dropout_passes and config.model.dropout == 0:
        raise UsageError(
            f"strategy {config.strategy!r} compares {strategy.dropout_passes} passes with dropout, but "
            "model.dropout is 0 and they would all agree; set model.dropout (the default is 0.1)"
        )
    given = None if config.initial_ids is None else read_initial_ids(config.initial_ids, dataset)
    pool = Pool.create(
        dataset,
        validation_fraction=config.validation_fraction,
        initial_labels=config.initial_labels or (2 * classes if given is None else len(given)),
        initial_sampling=config.initial_sampling,
        rng=stream(config.seed, "split"),
        initial_ids=given,
    )
    initial = len(pool.labeled)
    batch = config.batch_size or 2 * classes
    room = len(pool.unlabeled)
    rounds = min(8, room // batch) if config.rounds is None else config.rounds
    if rounds * batch > room:
        raise UsageError(
            f"the budget exceeds the pool: {initial} initial labels + {rounds} rounds of {batch} = "
            f"{initial + rounds * batch}, but {initial + room} training samples lie outside the "
            f"{len(pool.validation)} of V; at this batch_size at most {room // batch} rounds"
        )
    resolved = config.model_copy(
        update={
            "initial_labels": initial,
            "batch_size": batch,
            "rounds": rounds,
            "strategy_options": strategy_options,
            "data": config.data and config.data.resolve(),
            "data_root": config.data_root and config.data_root.resolve(),
            "round0": config.round0 and config.round0.resolve(),
            "initial_ids": config.initial_ids and config.initial_ids.resolve(),
        }
    )
    return resolved, pool
