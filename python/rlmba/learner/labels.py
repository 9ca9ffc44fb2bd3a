"""The labels of all samples so far, and what follows from them: classes, validation set, pool."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data import MultimodalDataset, Pool
from rlmba.errors import DataError, UsageError
from rlmba.ids import has_surrogate
from rlmba.learner.randomness import stream

__all__ = ["Labels", "class_names", "drawn_validation", "listed", "own_labels"]

_SHOWN = 5
"""Problems that an error message names."""
_TOO_FEW = 3
"""A class with fewer labels than this gives none of them to the validation set."""


class Labels:
    """The answers of annotators to samples of a data set, and everything that follows from them.

    Parameters
    ----------
    dataset : MultimodalDataset
        What the model sees. Its ``labels`` are true labels (experiments), or are made to follow the answers
        (``follow``).
    answers : mapping of str to (str or None)
        Class name by sample id, in the order of the first answers; None: people cannot tell.
    validation : sequence of str
        Ids that are set aside for the validation set, labeled or not.
    classes : sequence of str or None
        The classes of the model's outputs; None: those of ``dataset``.
    given : bool
        The classes are those that the data set names; otherwise a new name in an answer is a new class.
    follow : bool
        The data set's classes and labels are made to follow the answers: those with a class in ``classes``
        count, and a training sample without an answer has no label. Otherwise its labels are the truth.
    pool : Pool or None
        The pool that follows from all this, where it is made already.

    Attributes
    ----------
    named_classes : tuple of str
        The classes that the data set itself names.
    classes : tuple of str
        An output's column, and a label in ``pool``, is a position in it. Empty while no class is known.
    pool : Pool
        Which samples are labeled, unlabeled, or in the validation set. Samples marked "cannot tell", and
        unlabeled samples of the validation set, are in none of these groups.
    """

    def __init__(
        self,
        dataset: MultimodalDataset,
        answers: Mapping[str, str | None],
        validation: Sequence[str],
        *,
        classes: Sequence[str] | None = None,
        given: bool = True,
        follow: bool = False,
        pool: Pool | None = None,
    ) -> None:
        self.dataset = dataset
        self.source = dataset.source or dataset
        self.named_classes = tuple(self.source.classes)
        self.answers = dict(answers)
        self.given = given
        self.follow = follow
        self._aside = dict.fromkeys(validation)
        self._own = own_labels(self.source) if follow else {}
        self._position = {str(i): p for p, i in enumerate(dataset.ids.tolist())}
        training = np.zeros(len(dataset), np.bool_)
        training[self.source.train_positions] = True
        self._training = training
        self.classes = tuple(dataset.classes if classes is None else classes)
        if pool is None:
            self._sort()
        else:
            self.pool = pool

    @classmethod
    def of_pool(cls, dataset: MultimodalDataset, pool: Pool) -> Labels:
        """The labels of an experiment, whose data set knows the truth, as a pool has them."""
        names = (dataset.classes[c] for c in pool.labels.tolist())
        answers = dict(zip(map(str, pool.labeled_ids), names, strict=True))
        return cls(dataset, answers, [str(i) for i in pool.validation_ids], pool=pool)

    def replaced(self, answers: Mapping[str, str | None], validation: Sequence[str]) -> Labels:
        """The same samples and classes under other answers."""
        return Labels(
            self.dataset,
            answers,
            validation,
            classes=self.classes,
            given=self.given,
            follow=self.follow,
        )

    def is_sample(self, id_: str) -> bool:
        """Whether an id is of a training sample."""
        position = self._position.get(id_)
        return position is not None and bool(self._training[position])

    def positions(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Dataset positions of samples, in the order of their ids.

        Raises
        ------
        UsageError
            If an id is of no sample of the data set.
        """
        names = [str(i) for i in listed(ids, "ids")]
        for name in names:
            if name not in self._position:
                raise UsageError(f"expected ids of samples, got {name!r}{self._nearest(name)}")
        return np.array([self._position[name] for name in names], dtype=np.int64)

    def add(self, answers: Mapping[str, str | None]) -> None:
        """Add answers that :meth:`checked` has accepted; the latest answer to a sample counts."""
        plain = not self.follow or (
            all(name in self.classes for name in answers.values())
            and not any(i in self.answers or i in self._aside for i in answers)
        )
        self.answers |= answers
        if plain:
            number = {name: c for c, name in enumerate(self.classes)}
            labels = [number[str(name)] for name in answers.values()]
            self.pool.label(list(answers), labels)
            if self.follow:
                self.dataset.labels[self.pool.labeled[len(self.pool.labeled) - len(labels) :]] = (
                    labels
                )
        else:
            self._sort()

    def checked(
        self, ids: Sequence[str], labels: Sequence[str | int | None]
    ) -> dict[str, str | None]:
        """Answers by id; nothing changes.

        Parameters
        ----------
        ids : sequence of str
        labels : sequence of str, int or None
            Class names; an integer is a position in the given classes, or, where classes are not given, the
            class of that name. None: people cannot tell.

        Raises
        ------
        UsageError
            If the arguments are not lists of the same length, an id is of no training sample or has two
            different labels, or a label is no class. The message names the first five.
        """
        names = [str(i) for i in listed(ids, "tell: ids")]
        said = listed(labels, "tell: labels")
        if len(names) != len(said):
            raise UsageError(
                f"tell: expected a label for each of the {len(names)} ids, got {len(said)} labels"
            )
        found: dict[str, str | None] = {}
        problems: list[str] = []
        for id_, label in zip(names, said, strict=True):
            try:
                name = self._class(label)
                if not self.is_sample(id_):
                    # The search for a similar id is slow.
                    hint = self._nearest(id_) if len(problems) < _SHOWN else ""
                    raise UsageError(f"id {id_!r} is of no training sample{hint}")
                if found.setdefault(id_, name) != name:
                    raise UsageError(f"id {id_!r} has two labels, {found[id_]!r} and {name!r}")
            except UsageError as error:  # noqa: PERF203 - all of them are told at once
                problems.append(str(error))
        if problems:
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise UsageError(f"tell: no label was added: {'; '.join(problems[:_SHOWN])}{more}")
        return found

    def _class(self, label: object) -> str | None:
        if label is None:
            return None
        classes = self.named_classes
        if isinstance(label, int | np.integer) and not isinstance(label, bool | np.bool_):
            if not self.given:
                return str(int(label))
            if 0 <= int(label) < len(classes):
                return classes[int(label)]
            raise UsageError(f"label {label} is no position in the {len(classes)} classes")
        if not isinstance(label, str) or not label.strip() or has_surrogate(label):
            raise UsageError(f"expected a class name, a class number or None, got {label!r:.100}")
        if self.given and label not in classes:
            close = difflib.get_close_matches(label, classes, n=1)
            hint = f" (nearest: {close[0]!r})" if close else ""
            raise UsageError(f"label {label!r} is none of the classes {list(classes)[:20]}{hint}")
        return str(label)

    def _nearest(self, id_: str) -> str:
        close = difflib.get_close_matches(id_, list(self._position)[:5000], n=1)
        return f" (nearest: {close[0]!r})" if close else ""

    def set_classes(self, classes: Sequence[str]) -> None:
        """Make these the classes of the model's outputs; answers of other classes do not count yet."""
        self.classes = tuple(classes)
        self._sort()

    def position_of(self, id_: str) -> int | None:
        """Dataset position of a sample; None where it is not in the data."""
        return self._position.get(id_)

    def next_classes(self, remedy: str) -> tuple[str, ...]:
        """The classes of the next training: the given ones, or those that answers and test samples have.

        Classes of the model that are still used keep their order; new ones follow, sorted by name.

        Raises
        ------
        DataError
            If an answer is none of the given classes; the message ends in ``remedy``.
        """
        named = {name: i for i, name in self.answers.items() if name is not None}
        if not self.given:
            test = (str(i) for i in self.source.ids[self.source.test_positions])
            used = {*named, *(self._own[i] for i in test)}
            return (*(c for c in self.classes if c in used), *sorted(used - set(self.classes)))
        if strange := [name for name in named if name not in self.named_classes]:
            raise DataError(
                f"sample {named[strange[0]]!r} has the label {strange[0]!r}, which is none of the classes "
                f"{list(self.named_classes)}; {remedy}"
            )
        return self.named_classes

    def set_aside(self, ids: Iterable[str]) -> None:
        """Put more samples aside for the validation set."""
        self._aside |= dict.fromkeys(ids)
        self._sort()

    @property
    def aside(self) -> list[str]:
        """Ids that are set aside for the validation set, labeled or not."""
        return list(self._aside)

    @property
    def unlabeled_validation(self) -> list[str]:
        """Samples of the validation set that have no answer yet."""
        return [i for i in self._aside if i not in self.answers and self.is_sample(i)]

    @property
    def labeled_classes(self) -> int:
        """Number of different classes among the labeled samples outside the validation set."""
        return len(np.unique(self.pool.labels))

    def check_trainable(self) -> None:
        """Raise unless there is enough to train on and to validate with.

        Raises
        ------
        UsageError
            Saying what is missing.
        """
        if not len(self.pool.validation):
            raise UsageError(
                "none of the samples set aside for validation has a label yet, and nothing can be measured "
                "without; label some of them (purpose: validation)"
            )
        if self.labeled_classes < 2:
            raise UsageError(
                f"expected labels of two classes or more to train on, got {len(self.pool.labeled)} labels "
                f"of {self.labeled_classes}; label more samples (`rlmba next` in a project)"
            )

    def _sort(self) -> None:
        """Rebuild the pool, and the labels of the data set where they follow the answers."""
        known = set(self.classes)
        usable = {i: name for i, name in self.answers.items() if self.is_sample(i)}
        labels = {i: name for i, name in usable.items() if name is not None and name in known}
        if self.follow:
            self._overlay(labels)
        labeled = [i for i in labels if i not in self._aside]
        self.pool = Pool.restore(
            self.dataset,
            validation_ids=[i for i in self._aside if i in labels],
            labeled_ids=labeled,
            labels=self.dataset.labels[[self._position[i] for i in labeled]],
            excluded_ids=[
                *self.unlabeled_validation,
                *(i for i in usable if i not in labels),
            ],
        )

    def _overlay(self, labels: Mapping[str, str | None]) -> None:
        number = {name: c for c, name in enumerate(self.classes)}
        values: NDArray[np.int64] = np.full(len(self.dataset), -1, np.int64)
        test = (str(i) for i in self.source.ids[self.source.test_positions])
        for id_, name in {**labels, **{i: self._own.get(i) for i in test}}.items():
            if name in number:
                values[self._position[id_]] = number[name]
        self.dataset.classes, self.dataset.labels = self.classes, values


def listed(given: Any, what: str) -> list[Any]:
    """The entries of a list, array, tensor or series, NumPy's and torch's scalars as Python's.

    Raises
    ------
    UsageError
        If it is a single value, text, or has no order; the message begins with ``what``.
    """
    values = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(
        values, Iterable
    ):
        raise UsageError(f"{what}: expected a list or an array, got {given!r:.100}")
    return [v.item() if getattr(v, "ndim", None) == 0 else v for v in values]


def own_labels(dataset: MultimodalDataset) -> dict[str, str]:
    """Class name by id of every sample that a data set itself has a label for."""
    rows = np.flatnonzero(dataset.labels >= 0)
    names = np.array(dataset.classes, dtype=object)[dataset.labels[rows]]
    return dict(zip(map(str, dataset.ids[rows].tolist()), names.tolist(), strict=True))


def drawn_validation(
    dataset: MultimodalDataset, *, wanted: int, fraction: float, seed: int
) -> NDArray[np.int64]:
    """Positions of the validation set among the labeled training samples, as even over classes as those are.

    Parameters
    ----------
    dataset : MultimodalDataset
        If it has a validation set of its own, that one is returned.
    wanted : int
        The least number of samples.
    fraction : float
        The least share of the labeled samples. Never more than a third of them are used.
    seed : int
        Decides the draw.
    """
    if dataset.validation_positions is not None:
        return dataset.validation_positions
    labeled = dataset.train_positions[dataset.labels[dataset.train_positions] >= 0]
    y = dataset.labels[labeled]
    rng = stream(seed, "split")
    share = np.full(len(labeled), np.inf)
    for c, n in Counter(y.tolist()).items():
        if n >= _TOO_FEW:
            share[y == c] = (rng.permutation(n) + rng.random()) / n
    # The lowest shares take from every class in proportion.
    count = min(
        max(wanted, round(fraction * len(labeled))),
        len(labeled) // 3,
        int(np.isfinite(share).sum()),
    )
    return np.sort(labeled[np.argsort(share, kind="stable")[:count]])


def class_names(source: MultimodalDataset) -> list[str]:
    """Names of the classes that a data set's own labels have, in its order."""
    return [source.classes[c] for c in np.unique(source.labels[source.labels >= 0]).tolist()]
