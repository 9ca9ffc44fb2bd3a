"""Active learning in two calls: ask for a batch, tell its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.config import RunConfig
from rlmba.data import MultimodalDataset
from rlmba.errors import DataError, UsageError
from rlmba.kernels.common.arrays import to_host
from rlmba.learner.labels import Labels, drawn_validation, own_labels
from rlmba.learner.model import Model
from rlmba.learner.network import build_network
from rlmba.learner.own_model import FitAndOutputs, OwnModel
from rlmba.learner.query import Announce, NothingToAsk, validation_size
from rlmba.learner.rounds import silent
from rlmba.learner.saving import SavedLearner
from rlmba.learner.settings import PREFERRED
from rlmba.learner.sources import (
    Arrays,
    arrays_dataset,
    sample_list,
    settings_of,
    with_classes,
)
from rlmba.method import efda
from rlmba.runfolder.batches import LabelBatch, Question
from rlmba.runfolder.labels import Answer
from rlmba.runfolder.pending import (
    PendingRound,
)
from rlmba.training import ProcessGroup, head_log_probs
from rlmba.types import MULTIMODAL, Evaluation, RoundRecord

__all__ = ["ActiveLearner", "Predictions"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of the current model for N samples.

    Parameters
    ----------
    ids : str array [N]
    classes : tuple of str
        Names of the columns of ``probabilities``.
    probabilities : float64 array [N, C]
        By the configured predictor, with each head's temperature; rows have sum 1.
    difficulty : float64 array [N]
        U(x), the mean variance of the fused Dirichlet (Eq 3-4), under the coming round's weights.
    """

    ids: NDArray[np.str_]
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    difficulty: NDArray[np.float64]

    @property
    def labels(self) -> list[str]:
        """The most probable class of each sample; the first of tied ones."""
        return [self.classes[c] for c in self.probabilities.argmax(axis=1).tolist()]


class ActiveLearner(SavedLearner):
    """Active learning in two calls: :meth:`ask` for a batch, :meth:`tell` its labels.

    Make one with :meth:`from_arrays`, :meth:`from_dataset` or :meth:`from_model`, or :meth:`load` one that
    :meth:`save` wrote. Experiments and projects are driven by the same class.

    Examples
    --------
    >>> import numpy as np, rlmba
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> x = {"a": rng.normal(size=(200, 4)) + 3 * y[:, None], "b": rng.normal(size=(200, 3))}
    >>> learner = rlmba.ActiveLearner.from_arrays(x, classes=["no", "yes"], settings={"epochs": 2})
    >>> for _ in range(2):
    ...     batch = learner.ask(10)
    ...     record = learner.tell(batch.ids, y[learner.positions(batch.ids)])
    >>> record.round, record.labels, len(learner.ask(10))
    (1, 20, 10)
    """

    @classmethod
    def from_arrays(
        cls,
        arrays: Arrays,
        *,
        classes: Sequence[str] | None = None,
        labels: Sequence[str | int | None] | NDArray[Any] | None = None,
        ids: Sequence[str] | NDArray[Any] | None = None,
        test: Sequence[bool] | NDArray[Any] | None = None,
        present: Mapping[str, Any] | NDArray[Any] | None = None,
        kinds: Mapping[str, str] | None = None,
        strategy: str = PREFERRED["strategy"],
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> ActiveLearner:
        """A learner on arrays, a row for each sample, with this package's network.

        Parameters
        ----------
        arrays : mapping of modality to array [N, ...]
            Features, images, waveforms, spectrograms, sequences or token ids, as in
            :func:`rlmba.data.load_features`.
        classes : sequence of str or None
            The classes; None: the names in ``labels``, and new names as they are told.
        labels : sequence of str, int or None, or integer array [N]
            What is known already: class names, positions in ``classes``; None or -1 where unknown. Test
            samples need a label.
        ids : sequence of str or None
            Distinct; None: "0", "1", ..., the rows.
        test : bool array [N] or None
            Samples that are never asked for, on which the model is evaluated.
        present : mapping of modality to bool array [N], or bool array [N, M]
            Which modalities a sample has; None: all.
        kinds : mapping of modality to kind, or None
            Where the shape does not tell; see :func:`rlmba.data.features.guess_kind`.
        strategy : str
            A registered strategy.
        seed : int
            Decides everything random.
        settings : mapping or None
            Other keys of :class:`rlmba.config.RunConfig`, such as ``{"epochs": 5, "model.width": 64,
            "batch_size": 20, "project.validation_labels": 50}``.

        Raises
        ------
        UsageError, DataError
            If an argument cannot be used.
        """
        dataset = arrays_dataset(
            arrays, classes=classes, labels=labels, ids=ids, test=test, present=present, kinds=kinds
        )
        config = settings_of(dataset.name, strategy, seed, settings, classes)
        return cls._new(config, dataset)

    @classmethod
    def from_dataset(
        cls,
        dataset: MultimodalDataset,
        *,
        classes: Sequence[str] | None = None,
        strategy: str = PREFERRED["strategy"],
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> ActiveLearner:
        """A learner on a data set, as :func:`rlmba.data.load_manifest` reads one, with our network.

        Parameters
        ----------
        dataset : MultimodalDataset
            Its labels are known from the start; -1 marks the others. The learner changes its ``labels`` and
            ``classes``: they follow what is told.
        classes, strategy, seed, settings
            As of :meth:`from_arrays`.
        """
        config = settings_of(dataset.name, strategy, seed, settings, classes)
        if classes is not None:
            with_classes(dataset, classes)
        return cls._new(config, dataset)

    @classmethod
    def from_model(
        cls,
        model: FitAndOutputs,
        *,
        n: int | None = None,
        ids: Sequence[str] | NDArray[Any] | None = None,
        classes: Sequence[str] | None = None,
        labels: Sequence[str | int | None] | NDArray[Any] | None = None,
        test: Sequence[bool] | NDArray[Any] | None = None,
        features: Any = None,
        modalities: Sequence[str] | None = None,
        strategy: str = "badge",
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> ActiveLearner:
        """A learner around a model of your own: anything with ``fit(rows, labels)`` and ``outputs(rows)``.

        Parameters
        ----------
        model : FitAndOutputs
            See :class:`rlmba.learner.FitAndOutputs`.
        n : int or None
            N, the number of samples; or
        ids : sequence of str
            their ids. One of the two.
        classes, labels, test, strategy, seed, settings
            As of :meth:`from_arrays`.
        features : array [N, d], mapping of modality to array [N, d], or None
            What samples are compared by before the model is trained, to cover them in the first batch; None:
            the first batch is random.
        modalities : sequence of str or None
            Modalities of the model's outputs; None: those of ``features``, or one.
        """
        if (n is None) == (ids is None):
            raise UsageError(
                f"from_model: expected n or ids, got {'none of them' if n is None else 'both'}"
            )
        dataset = sample_list(
            n=n,
            ids=ids,
            classes=classes,
            labels=labels,
            test=test,
            modalities=modalities or (list(features) if isinstance(features, Mapping) else None),
        )
        config = settings_of(dataset.name, strategy, seed, settings, classes)
        own = OwnModel(model, dataset, features, seed=config.seed)
        return cls._new(config.model_copy(update={"predictor": "fused"}), dataset, own)

    @classmethod
    def _new(
        cls,
        config: RunConfig,
        dataset: MultimodalDataset,
        model: Model | None = None,
    ) -> ActiveLearner:
        if len(dataset.train_positions) < 4:
            raise DataError(
                f"expected four samples or more to choose from, got {len(dataset.train_positions)}"
            )
        fingerprint, answers = dataset.fingerprint(), own_labels(dataset)
        training = set(map(str, dataset.ids[dataset.train_positions].tolist()))
        validation = drawn_validation(
            dataset,
            wanted=validation_size(config, len(dataset.classes)),
            fraction=config.validation_fraction,
            seed=config.seed,
        )
        labels = Labels(
            dataset,
            {i: name for i, name in answers.items() if i in training},
            [str(i) for i in dataset.ids[validation]],
            given=config.dataset_options.get("classes") is not None,
            follow=True,
        )
        if model is None:
            group = ProcessGroup.open(config.device, config.training.precision)
            learner = cls(config, labels, build_network(config, dataset, group))
        else:
            learner = cls(config, labels, model)
        learner._fingerprint = fingerprint
        learner._told = [Answer(i, name, "given") for i, name in labels.answers.items()]
        return learner

    def ask(self, n: int | None = None, *, announce: Announce = silent) -> LabelBatch:
        """Choose samples to label next, or return the pending batch while some of its labels are missing.

        If training on the last batch failed, it is repeated first.

        The first batch of a learner with few labels covers the pool (herding), and also asks
        for a validation set, unless labels were there to draw it from. Every later batch is the strategy's.

        Parameters
        ----------
        n : int or None
            How many to train on; None: ``batch_size`` of the configuration, or two for each class and at
            least ten. No more than the pool holds.
        announce : callable
            Called with the name of each stage as it begins.

        Returns
        -------
        LabelBatch
            ``batch.ids`` are the ids in the order chosen. Empty when every sample is labeled.

        Raises
        ------
        UsageError
            If ``n`` is no integer of at least 1, or a batch of another size is pending.
        """
        if n is not None and (isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1):
            raise UsageError(f"ask: expected an integer n >= 1, got {n!r:.100}")
        if self.pending is not None and not self.unanswered():
            self._close(announce)
        if self.pending is None:
            proposed = self.propose(n, announce=announce)
            if isinstance(proposed, NothingToAsk) and proposed.ready:
                self.learn(announce=announce)
                proposed = self.propose(n, announce=announce)
            if isinstance(proposed, NothingToAsk):
                if not self.records:
                    raise UsageError(f"ask: {proposed.why}")
                return LabelBatch(
                    self.round, self.classes, not self.classes_are_given, self.weights, ()
                )
            self.keep_pending(proposed)
            return self.batch(proposed)
        size = len(self.pending.ids) - len(self.pending.validation)
        # A batch that took all that was left may be asked for again by a larger number.
        waiting = set(self.unanswered()) - set(self.pending.validation)
        others = len(self.labels.pool.unlabeled) > len(waiting)
        if n is not None and size and (n < size or (n > size and others)):
            raise UsageError(
                f"ask: a batch of {size} samples is still pending, got n={n}; tell its labels "
                "(partial=True learns from a part of them), or ask for the same batch without n"
            )
        return self.batch(self.pending)

    def tell(
        self,
        ids: Sequence[str],
        labels: Sequence[str | int | None],
        *,
        partial: bool = False,
        announce: Announce = silent,
    ) -> RoundRecord | None:
        """Add labels; once the batch is complete, train on all labels and close the round.

        Labels may come in parts, for samples that were not asked for, and again: the latest label of a
        sample counts from the next training on.

        Parameters
        ----------
        ids : sequence of str [n]
            Training samples.
        labels : sequence of str, int or None [n]
            Class names, or class numbers where the classes are given; None: people cannot tell, and the
            sample is not asked for again.
        partial : bool
            Train on what is labeled; the rest of the batch goes back to the pool.
        announce : callable
            Called with the name of each stage as it begins.

        Returns
        -------
        RoundRecord or None
            The round's figures; None while labels of the batch are missing, or no batch is pending.

        Raises
        ------
        UsageError
            If ids or labels cannot be used; no label is added then. If the batch is complete and there
            is still too little to train on; the labels are kept.
        """
        self.add_answers(self.labels.checked(ids, labels))
        if self.pending is None:
            return None
        missing = self.unanswered()
        if missing and not (partial and len(missing) < len(self.pending.ids)):
            return None
        return self._close(announce)

    def _close(self, announce: Announce) -> RoundRecord:
        """Train on the pending batch and close its round."""
        try:
            self.check_trainable()
        except UsageError:
            if not self.unanswered():
                self.withdraw()  # nothing is left to answer in it: the next one asks for more
            raise
        return self.learn(announce=announce).record

    def unanswered(self) -> list[str]:
        """Ids of the batch that have no answer yet."""
        asked = [] if self.pending is None else self.pending.ids
        return [i for i in asked if i not in self.labels.answers]

    def evaluate(self) -> Evaluation:
        """Metrics of the current model on the test set, or on the validation set if there is no test set.

        Raises
        ------
        UsageError
            If no round is complete and the labels are not enough to train on.
        """
        record = self._trained()
        return record.validation if record.test is None else record.test

    def predict(self, ids: Sequence[str] | None = None) -> Predictions:
        """Predict the classes of samples with the current model.

        Parameters
        ----------
        ids : sequence of str or None
            Samples of the data; None: all of them.

        Raises
        ------
        UsageError
            If an id is of no sample or repeated, no round is complete, or a sample has no readable modality.
        """
        every = np.arange(len(self.labels.dataset), dtype=np.int64)
        positions = every if ids is None else self.positions(ids)
        values, counts = np.unique(positions, return_counts=True)
        if (counts > 1).any():
            twice = str(self.labels.dataset.ids[values[counts.argmax()]])
            raise UsageError(f"predict: expected distinct ids, {twice!r} is repeated; give it once")
        self._trained()
        self._load_as_trained()
        said = self._predictions(positions)
        if len(said.ids) < len(positions):
            lost = sorted(
                {str(i) for i in self.labels.dataset.ids[positions]} - set(map(str, said.ids))
            )
            raise UsageError(f"predict: sample {lost[0]!r} has no readable modality; leave it out")
        return said

    def _predictions(self, positions: NDArray[np.int64]) -> Predictions:
        """Predictions for the samples that have at least one readable modality."""
        outputs = self.model.predict(positions)
        if (readable := outputs.readable) is not None:
            outputs = outputs.take(readable)
        log_p = head_log_probs(
            outputs,
            predictor=self.config.predictor,
            temperatures=self.records[-1].temperatures,
        )[MULTIMODAL]
        hard = efda.difficulty(outputs, self.state.weights, self.state.temperatures).fused
        return Predictions(outputs.ids, self.classes, np.exp(log_p), to_host(hard))

    def _trained(self) -> RoundRecord:
        if not self.records:
            try:
                self.check_trainable()
            except UsageError as error:
                raise UsageError(f"no round is complete yet: {error}") from error
            self.learn()
        return self.records[-1]

    def batch(
        self, pending: PendingRound, *, details: bool = True, leftovers: Sequence[str] = ()
    ) -> LabelBatch:
        """A pending round as questions.

        With ``details``, they include texts, paths of media and the current model's prediction.
        ``leftovers`` are the ids of earlier questions to predict as well.
        """
        said = self._opinions([*pending.ids, *leftovers]) if details and self.records else {}
        aside, scores = set(pending.validation), pending.score_of
        source = self.labels.source
        questions = []
        for rank, id_ in enumerate(pending.ids, start=1):
            position = self.labels.position_of(id_) if details else None
            shown = {} if position is None else source.shown(position)
            questions.append(
                Question(
                    id_,
                    rank,
                    purpose="validation" if id_ in aside else "train",
                    score=scores.get(id_),
                    texts={m: v for m, v in shown.items() if isinstance(v, str)},
                    files={m: str(v) for m, v in shown.items() if not isinstance(v, str)},
                    **said.get(id_, {}),
                )
            )
        predicted = (id_ for id_ in leftovers if id_ in said)
        return LabelBatch(
            pending.round,
            self.classes,
            open=not self.classes_are_given,
            weights=self.weights,
            questions=tuple(questions),
            leftovers=tuple(
                Question(id_, rank, **said[id_])
                for rank, id_ in enumerate(predicted, start=len(questions) + 1)
            ),
        )

    def _opinions(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What a question says of the model, by id, for those samples that are there."""
        self.load_model()
        self.model.set_fusion_weights(self.state.fusion_weights)
        here = [i for i in ids if self.labels.position_of(i) is not None]
        said = self._predictions(self.positions(here))
        best = said.probabilities.max(axis=1).tolist()
        rows = zip(said.difficulty.tolist(), said.labels, best, strict=True)
        names = ("difficulty", "prediction", "probability")
        found = (dict(zip(names, row, strict=True)) for row in rows)
        return dict(zip(map(str, said.ids), found, strict=True))
