"""The parts of a round, in their order: propose a batch, add its answers, learn from them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlmba.data import Pool
from rlmba.errors import RlmbaWarning, UsageError
from rlmba.learner.labels import Labels
from rlmba.learner.learner_state import LearnerState, Outcome
from rlmba.learner.measure import measure
from rlmba.learner.network import Network
from rlmba.learner.query import (
    Announce,
    Clock,
    NothingToAsk,
    batch_size,
    cold_start,
    query,
)
from rlmba.learner.state import RoundState
from rlmba.markup import command
from rlmba.method.agent import Agent
from rlmba.method.reward import quality
from rlmba.progress import silent
from rlmba.runfolder.labels import Answer
from rlmba.runfolder.pending import (
    PendingRound,
    clear_pending,
    pending_strategy_file,
    write_pending,
)
from rlmba.strategies import Feedback
from rlmba.strategies.learned import LearnedDraw
from rlmba.types import Evaluation, RoundRecord, TrainingDiagnostics

__all__ = ["Outcome", "RoundLearner", "class_remedy", "silent"]

_STRATEGY = "strategy.safetensors"


def class_remedy(folder: Path) -> str:
    """What to do where the label of a sample in a project is none of the given classes."""
    return (
        f"add it to dataset_options.classes in {folder / 'config.yaml'}, or correct the label in "
        f"{folder / 'labels.jsonl'} with `{command('collect', folder)} --labels FILE`"
    )


class RoundLearner(LearnerState):
    """The parts of a round, in the order in which they come.

    Only its own methods change its state. :class:`~rlmba.learner.ActiveLearner` adds what users call.
    """

    @property
    def batch_size(self) -> int:
        """Samples of the next batch, unless another number is requested; 0 after the last of ``budgets``."""
        labeled = len(self.labels.pool.labeled)
        return batch_size(self.config, len(self.classes), self.round, labeled)

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
        """Choose a batch; :meth:`keep_pending` records that it is pending.

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
        size = n or self.batch_size
        if not size:
            return NothingToAsk(
                "the last number of labels in `budgets` is reached; add a larger one to continue"
            )
        proposed = query(self, min(size, room), clock)
        return replace(proposed, ids=[*proposed.ids, *wanted], validation=wanted)

    def keep_pending(self, pending: PendingRound, *, write: bool = True) -> None:
        """Record that a batch is pending, or that an annotator now has it."""
        if self.store is not None and write:
            if self.pending is None and pending.round > 0:
                self._save_strategy(pending_strategy_file(self.store.path))
            write_pending(self.store.path, pending)
        self.pending = pending

    def withdraw(self) -> None:
        """Withdraw the pending batch; its unlabeled samples return to the pool."""
        if self.store is not None:
            clear_pending(self.store.path)
        self.pending = None

    def set_aside(self, ids: Sequence[str]) -> None:
        """Add samples to the validation set."""
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

    def continue_from(self, other: RoundLearner) -> None:
        """Continue an experiment in memory from the state of another learner of the same experiment.

        Labels, weights of the network and records become those of the other learner, which is not
        changed. The strategy keeps its own state.
        """
        pool = other.labels.pool
        self.use_pool(
            Pool.restore(
                other.labels.dataset,
                validation_ids=pool.validation_ids,
                labeled_ids=pool.labeled_ids,
                labels=pool.labels,
            )
        )
        if isinstance(self.model, Network) and isinstance(other.model, Network):
            self.model.copy_weights(other.model)
        self.state, self.records = other.state, [*other.records]

    def add_answers(self, answers: Mapping[str, str | None]) -> None:
        """Add answers that :meth:`~rlmba.learner.labels.Labels.checked` has accepted, and log them."""
        known = self.labels.answers
        new = {i: name for i, name in answers.items() if i not in known or known[i] != name}
        entries = [Answer(i, name, "told") for i, name in new.items()]
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
                    previous, measured.validation, pending.round, len(ids)
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
        self, previous: RoundState, validation: Evaluation, number: int, batch: int
    ) -> tuple[dict[str, float], dict[str, float | None]]:
        """Reward the strategy for its batch (Eq 8-9); what it learned, and the record's figures."""
        measure = self.config.reward.measure
        before = quality(previous.validation, measure) if previous.validation else 0.0
        labels = len(self.labels.pool.labeled)
        raw = self.reward.raw(quality(validation, measure), before, labels)
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
