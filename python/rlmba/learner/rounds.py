"""The parts of a round, in their order: propose a batch, add its answers, learn from them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import rlmba
from rlmba.config import FREE_KEYS, RunConfig, identity
from rlmba.data import Pool
from rlmba.errors import CheckpointError, RlmbaWarning, UsageError
from rlmba.learner.baselines import baseline_curves
from rlmba.learner.labels import Labels
from rlmba.learner.measure import measure
from rlmba.learner.model import Model
from rlmba.learner.network import Network
from rlmba.learner.query import (
    Announce,
    Clock,
    NothingToAsk,
    batch_size,
    cold_start,
    query,
)
from rlmba.learner.randomness import fit_seed
from rlmba.learner.round0 import Round0
from rlmba.learner.state import RoundState, read_state, write_state
from rlmba.markup import command
from rlmba.method.agent import Agent
from rlmba.method.reward import Reward
from rlmba.plugins import blamed
from rlmba.runfolder.labels import Answer, LabelLog
from rlmba.runfolder.pending import (
    PendingRound,
    clear_pending,
    pending_strategy_file,
    read_pending,
    write_pending,
)
from rlmba.runfolder.store import RunStore
from rlmba.strategies import Feedback, Strategy, create
from rlmba.strategies.learned import LearnedDraw
from rlmba.training import load_tensors, save_tensors
from rlmba.types import RoundRecord, TrainingDiagnostics

__all__ = ["Outcome", "RoundLearner", "class_remedy", "silent"]

_STRATEGY = "strategy.safetensors"


def silent(_: str) -> None:
    """Announce nothing."""


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
        The strategy's; 0 where it did not choose the sample.
    """

    record: RoundRecord
    ids: list[str]
    labels: list[int]
    scores: list[float]


def class_remedy(folder: Path) -> str:
    """What to do where the label of a sample in a project is none of the given classes."""
    return (
        f"add it to dataset_options.classes in {folder / 'config.yaml'}, or correct the label in "
        f"{folder / 'labels.jsonl'} with `{command('collect', folder)} --labels FILE`"
    )


class RoundLearner:
    """A run in memory: its state, and the parts of a round in the order in which they come.

    Only its own methods change its state. :class:`~rlmba.learner.ActiveLearner` adds what people call.

    Parameters
    ----------
    config : RunConfig
        Strategy, seed, sizes, reward, predictor.
    labels : Labels
        The samples, and what is known of them.
    model : Model
        What is trained; its modalities are those of the labels' data set.
    log : LabelLog or None
        Where answers are written down; None keeps them in memory.
    free_keys : tuple of str
        Keys of the configuration that may change between sessions while checkpoints stay valid.

    Attributes
    ----------
    records : list of RoundRecord
        One for each complete round.
    outcomes : list of Outcome
        The rounds that this object has completed.
    pending : PendingRound or None
        The batch that is out.
    state : RoundState
        What the last round leaves to the next, beside the model.
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
        """Names of the classes that the model tells apart."""
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
    def batch_size(self) -> int:
        """Samples of a batch, unless another number is asked for."""
        return batch_size(self.config, len(self.classes))

    def positions(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Rows of samples in the data, by their ids.

        Raises
        ------
        UsageError
            If an id is of no sample.
        """
        return self.labels.positions(ids)

    def propose(
        self, n: int | None = None, *, announce: Announce = silent
    ) -> PendingRound | NothingToAsk:
        """Choose a batch; :meth:`keep_pending` records that it is out.

        Parameters
        ----------
        n : int or None
            Samples outside the validation set; None: as the configuration says.
        announce : callable
        """
        clock = Clock(announce)
        if self.round == 0:
            return cold_start(self, n, clock)
        self.load_model()
        self.model.set_fusion_weights(self.state.fusion_weights)
        wanted = self.labels.unlabeled_validation if self.labels.follow else []
        room = len(self.labels.pool.unlabeled)
        if room == 0 and not wanted:
            return NothingToAsk("every sample of the pool is labeled")
        proposed = query(self, min(n or self.batch_size, room), clock)
        return replace(proposed, ids=[*proposed.ids, *wanted], validation=wanted)

    def keep_pending(self, pending: PendingRound, *, write: bool = True) -> None:
        """Record that a batch is out, or who has it now."""
        if self.store is not None and write:
            if self.pending is None and pending.round > 0:
                self._save_strategy(pending_strategy_file(self.store.path))
            write_pending(self.store.path, pending)
        self.pending = pending

    def withdraw(self) -> None:
        """Take the batch back: its samples return to the pool."""
        if self.store is not None:
            clear_pending(self.store.path)
        self.pending = None

    def set_aside(self, ids: Sequence[str]) -> None:
        """Put samples aside for the validation set."""
        self.labels.set_aside(ids)
        if self.store is not None:
            self.store.set_validation(self.labels.aside)

    def use_agent(self, agent: Agent) -> None:
        """Let another agent take the place of the strategy's own, before the first round."""
        if not isinstance(self.strategy, LearnedDraw):
            raise UsageError(f"strategy {self.strategy.name!r} draws by no policy")
        self.strategy.agent = agent

    def use_pool(self, pool: Pool) -> None:
        """Start from another pool of the same data set, whose labels are true (experiments)."""
        self.labels = Labels.of_pool(self.labels.dataset, pool)

    def add_answers(self, answers: Mapping[str, str | None], source: str = "told") -> None:
        """Take in answers that :meth:`~rlmba.learner.labels.Labels.checked` has seen."""
        known = self.labels.answers
        new = {i: name for i, name in answers.items() if i not in known or known[i] != name}
        entries = [Answer(i, name, source) for i, name in new.items()]
        if self.log is not None:
            self.log.append(entries)
        else:
            self._told += entries
        if new:
            self.labels.add(new)

    def learn(self, *, announce: Announce = silent) -> Outcome:
        """Train on all labels, evaluate, and close the round.

        Raises
        ------
        UsageError
            If the labels are not enough to train on.
        DataError
            If an answer is none of the given classes.
        """
        start = time.perf_counter()
        announce("train")
        diagnostics = self.train()
        return self.conclude(diagnostics, time.perf_counter() - start, announce=announce)

    def train(self) -> TrainingDiagnostics:
        """Train the model on all labels; round 0 may be taken over from another run instead."""
        self.begin_training()
        number = self.round
        if number == 0:
            self.find_round0()
            if self._round0 is not None and isinstance(self.model, Network):
                diagnostics = self._round0.take(self.model.model)
                self.model.share()
                return diagnostics
        return self._fit(number)

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

    def begin_training(self) -> None:
        """Bring the model to where a round's training starts from; a part of :meth:`train`.

        Raises
        ------
        UsageError, DataError
            As :meth:`check_trainable`.
        """
        self.check_trainable()
        if self.config.training.warm_start:
            self.load_model()
        self.model.set_fusion_weights(self.state.fusion_weights)
        self._model_is_current = False

    def check_trainable(self) -> None:
        """Settle the classes, and raise unless the labels are enough to train on.

        Raises
        ------
        UsageError
            Saying what is missing.
        DataError
            If an answer is none of the given classes.
        """
        if not self.labels.follow:
            return
        before, classes = self.classes, self.labels.next_classes(self._remedy())
        if classes != before:
            self.labels.set_classes(classes)
        try:
            self.labels.check_trainable()
        except UsageError:
            if self.records:
                self.labels.set_classes(before)  # the trained model still has these
            raise
        finally:
            self._match_model()

    def conclude(
        self,
        diagnostics: TrainingDiagnostics,
        train_seconds: float,
        *,
        announce: Announce = silent,
    ) -> Outcome:
        """Evaluate the trained model, reward the strategy, set the coming round's weights, record."""
        pending = self.pending or PendingRound(self.round)
        clock, previous = Clock(announce, pending.seconds), self.state
        clock.seconds["train"] += train_seconds
        with clock("validate"):
            measured = measure(self, diagnostics)
        ids, labels, scores = self._labeled_in(pending)
        reward: dict[str, float | None] = {"raw_reward": None, "reward": None, "advantage": None}
        learned: dict[str, float] = {}
        if pending.round > 0:
            with clock("policy"):
                learned, reward = self._reward(
                    previous, measured.validation.mm.top1, pending.round, len(ids)
                )
        record = RoundRecord(
            round=pending.round,
            labels=len(self.labels.pool.labeled),
            selected=len(ids),
            validation=measured.validation,
            test=measured.test,
            weights=self.by_name(previous.weights),
            fusion_weights=self.by_name(previous.fusion_weights),
            delta=self.by_name(measured.state.delta),
            contributions=measured.contributions,
            temperatures=measured.temperatures,
            training=diagnostics,
            seconds=clock.seconds,
            select_seconds=dict(pending.select_seconds),
            backends=dict(pending.backends),
            policy=learned,
            **reward,
        )
        self.state, self._model_is_current = measured.state, True
        outcome = Outcome(record, ids, labels, scores)
        if self.store is not None:
            self._commit(self.store, outcome)
        self.records.append(record)
        self.outcomes.append(outcome)
        self.withdraw()
        return outcome

    def _reward(
        self, previous: RoundState, top1: float, number: int, batch: int
    ) -> tuple[dict[str, float], dict[str, float | None]]:
        """Reward the strategy for its batch (Eq 8-9); what it learned, and the record's figures."""
        before = previous.validation.mm.top1 if previous.validation else 0.0
        labels = len(self.labels.pool.labeled)
        raw = self.reward.raw(top1, before, labels)
        smooth = self.reward.smooth(raw)
        start = self.reward.at_start(before, labels - batch)
        with self._blamed():
            learned = dict(self.strategy.learn(Feedback(smooth, number, labels, start)))
        advantage = learned.pop("advantage", None)
        return learned, {"raw_reward": raw, "reward": smooth, "advantage": advantage}

    def _labeled_in(self, pending: PendingRound) -> tuple[list[str], list[int], list[float]]:
        """Ids, labels and scores of what a round labeled; round 0 labels everything there is."""
        pool = self.labels.pool
        label_of = dict(zip(map(str, pool.labeled_ids), pool.labels.tolist(), strict=True))
        score_of = pending.score_of
        ids = list(label_of) if pending.round == 0 else [i for i in score_of if i in label_of]
        return ids, [label_of[i] for i in ids], [score_of.get(i, 0.0) for i in ids]

    def _match_model(self) -> None:
        """Give the model outputs for the present classes, with initial weights if these are new."""
        if self.classes == self._model_classes:
            return
        if self.config.training.warm_start and self.records:
            warnings.warn(
                "the classes differ from those of the last round, so training starts from the initial "
                "weights in spite of training.warm_start",
                RlmbaWarning,
                stacklevel=3,
            )
        self.model.set_classes(self.classes)
        self._model_classes = self.classes
        self._model_is_current = True  # the weights of the last round do not fit any more

    def _remedy(self) -> str:
        if self.store is None:
            return "tell the right label, or make a learner with more classes"
        return class_remedy(self.store.path)

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
            If it is not there or not this run's.
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
        """Continue in a run folder, after its last complete round and with the batch that is out.

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
