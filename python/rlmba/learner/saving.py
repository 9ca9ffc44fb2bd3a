"""A learner that is saved to a run folder, and continues from it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TypeVar

import numpy as np

import rlmba
from rlmba.config import differing, identity, say_differing
from rlmba.errors import PluginError, RunFolderError, UsageError
from rlmba.learner.learner_state import Outcome
from rlmba.learner.rounds import RoundLearner
from rlmba.learner.settings import environment
from rlmba.learner.state import read_classes
from rlmba.runfolder.labels import LabelLog
from rlmba.runfolder.pending import clear_pending, pending_strategy_file, write_pending
from rlmba.runfolder.store import RunStore, read_run

__all__ = ["SavedLearner"]

_Self = TypeVar("_Self", bound="SavedLearner")


class SavedLearner(RoundLearner):
    """Adds :meth:`save` and :meth:`load` to a learner that is kept in memory."""

    def save(self, folder: str | Path) -> None:
        """Write everything that :meth:`load` needs into a run folder, which `rlmba report` reads as well.

        Parameters
        ----------
        folder : path
            New or empty, or one that this learner was saved to before: then what is new is added.

        Raises
        ------
        UsageError
            If the folder holds something else.
        RunFolderError
            If it holds another learner's rounds or labels, or another process is writing it.
        StorageError
            If it cannot be written; what was saved before stays.
        """
        folder = Path(folder)
        if (folder / "run.json").exists():
            self._check_folder(folder)
            with RunStore.resume(folder) as store:
                self._write(store)
            return
        info = {
            "rlmba": rlmba.__version__,
            "learner": True,
            "dataset": self.config.dataset,
            "strategy": self.config.strategy,
            "fusion": self.config.fusion,
            "seed": self.config.seed,
            "fingerprint": self._fingerprint,
        }
        split = {"validation": self.labels.aside, "initial": []}
        with RunStore.create(
            folder, self.config, info=info, environment=environment(), split=split
        ) as store:
            self._write(store)

    def _write(self, store: RunStore) -> None:
        log = LabelLog(store.path / "labels.jsonl")
        done = len(store.records)
        if log.answers != self._told[: len(log.answers)] or [
            r.to_dict() for r in store.records
        ] != [o.record.to_dict() for o in self.outcomes[:done]]:
            raise RunFolderError(
                f"{store.path} holds rounds or labels that this learner does not have; load it first, or "
                "save to another folder"
            )
        # In this order a crash between two steps leaves a folder that can be loaded.
        store.set_validation(self.labels.aside)
        log.append(self._told[len(log.answers) :])
        if new := self.outcomes[done:]:
            # A model that cannot be trained is saved without weights, and trained again when loaded.
            with contextlib.suppress(PluginError):
                self._load_as_trained()
            self._commit(store, new[-1], earlier=new[:-1])
        if self.pending is None:
            clear_pending(store.path)
            return
        if self.pending.round:
            self._save_strategy(pending_strategy_file(store.path))
        write_pending(store.path, self.pending)

    def load(self: _Self, folder: str | Path) -> _Self:
        """Continue where :meth:`save` ended, in a learner that was just made on the same data.

        Parameters
        ----------
        folder : path
            Written by :meth:`save`. Nothing in it is run as code. The weights of this package's network, or
            of a model with ``state_dict``, are loaded; any other model is trained again when it is needed.

        Returns
        -------
        ActiveLearner
            This one.

        Raises
        ------
        UsageError
            If this learner has already been used.
        RunFolderError
            If the folder was not written by :meth:`save`, is damaged, or belongs to other data or settings.
        CheckpointError
            If a checkpoint is damaged.
        """
        folder = Path(folder)
        used = (
            self.records or self.pending is not None or any(a.source != "given" for a in self._told)
        )
        if used:
            raise UsageError("load: expected a learner that has not been used yet; make a new one")
        self._check_folder(folder)
        labels, told, fingerprint = self.labels, self._told, self._fingerprint
        try:
            with RunStore.resume(folder) as store:
                self._load(store)
        except BaseException:
            RoundLearner.__init__(self, self.config, labels, self.model, free_keys=self.free_keys)
            self._told, self._fingerprint = told, fingerprint
            self.labels.set_classes(labels.classes)  # the data set's labels follow them again
            self.model.set_classes(labels.classes)
            raise
        return self

    def _load(self, store: RunStore) -> None:
        log = LabelLog(store.path / "labels.jsonl").answers
        logged = {a.id for a in log}
        # A crash during the first save may have left only some of the given labels.
        self._told = [*log, *(a for a in self._told if a.id not in logged)]
        self.labels = self.labels.replaced(
            {a.id: a.label for a in self._told}, store.split()["validation"]
        )
        if store.records:
            self.labels.set_classes(read_classes(store.checkpoint()) or self.classes)
            self._match_model()
        self.resume(store)
        self.outcomes = [Outcome(record, *store.selected(record.round)) for record in store.records]
        lost = {i for outcome in self.outcomes for i in outcome.ids} - set(self.labels.answers)
        if lost:
            raise RunFolderError(
                f"{store.path / 'labels.jsonl'} is damaged: expected labels of all samples that the rounds "
                f"labeled, {len(lost)} are missing, {min(lost)!r} first; restore it, or start again"
            )
        self.load_model()
        self.store = None

    def _check_folder(self, folder: Path) -> None:
        """Raise unless a folder is a saved learner's, of this learner's data and settings."""
        view = read_run(folder)
        if not view.info.get("learner"):
            what = "a project" if view.info.get("project") else "a run of `rlmba run`"
            raise RunFolderError(
                f"{folder} holds {what}; expected a folder that ActiveLearner.save wrote"
            )
        if differences := differing(identity(view.config), identity(self.config)):
            raise RunFolderError(
                f"{folder} was saved with other settings: {say_differing(differences)}; make the "
                "learner with the same ones"
            )
        if view.info.get("fingerprint") != self._fingerprint:
            raise RunFolderError(
                f"{folder} was saved on other data (checksums of ids, labels or content differ); make the "
                "learner on the same data, in the same order"
            )

    def _load_as_trained(self) -> None:
        """Load the model under the fusion weights it was evaluated with; proposing sets the coming ones."""
        self.load_model()
        weights = self.records[-1].fusion_weights
        self.model.set_fusion_weights(np.array([weights[m] for m in self.modalities]))
