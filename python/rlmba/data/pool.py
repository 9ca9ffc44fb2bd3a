"""The pool: which samples are labeled, unlabeled or in the validation set; the owner of index spaces.

A sample is addressed in three ways. Its *id* is a stable string. Its *dataset position* is its row in the
data set. Its *pool position* is its rank among the unlabeled samples, which changes whenever samples are
labeled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlmba.data.base import MultimodalDataset
from rlmba.data.split import (
    draw_per_class,
    drawn_validation,
    proportional,
    require_every_class,
    require_labels,
    require_outside,
)
from rlmba.errors import DataError, UsageError

__all__ = ["Pool"]

Positions = NDArray[np.int64]


class Pool:
    """The training samples of a data set: the validation set, the labeled set and the unlabeled pool.

    :meth:`create` and :meth:`restore` make a pool, and only :meth:`label` changes it, completely or not at
    all. Its arrays are read-only.
    """

    def __init__(
        self,
        dataset: MultimodalDataset,
        validation: Positions,
        labeled: Positions,
        labels: NDArray[np.int64],
        n_initial: int,
        *,
        excluded: Positions | None = None,
    ) -> None:
        self._ids = dataset.ids
        self._n_classes = len(dataset.classes)
        self._position_of = {id_: p for p, id_ in enumerate(dataset.ids.tolist())}
        self._validation = _frozen(validation)
        self._test = _frozen(dataset.test_positions)
        self._labeled = _frozen(labeled)
        self._labels = _frozen(labels)
        self._n_initial = n_initial
        free = np.zeros(len(dataset), np.bool_)
        free[dataset.train_positions] = True
        free[validation] = False
        free[labeled] = False
        if excluded is not None:
            free[excluded] = False
        self._free = free
        self._unlabeled = _frozen(np.flatnonzero(free).astype(np.int64))

    @classmethod
    def create(
        cls,
        dataset: MultimodalDataset,
        *,
        validation_fraction: float,
        initial_labels: int,
        initial_sampling: Literal["stratified", "random", "herding"],
        rng: np.random.Generator,
        initial_ids: Sequence[str] | None = None,
    ) -> Pool:
        """Draw the validation set and the initially labeled samples.

        Parameters
        ----------
        dataset : MultimodalDataset
            Its true labels are used for stratification and for the initial samples. If it has
            ``validation_positions``, these are the validation set.
        validation_fraction : float
            Otherwise, the share of each class's training samples for the validation set. It is rounded
            to at least one sample for a class with three or more, and to none for a smaller class.
        initial_labels : int
            How many of the other samples are labeled at the start.
        initial_sampling : {"stratified", "random", "herding"}
            "stratified" draws one sample per class and the others in proportion to the frequencies of
            the classes (largest remainders; ties go to the lower class). "random" draws uniformly
            without replacement, so that classes may be missing. "herding" draws none: the caller
            chooses them, and passes them to :meth:`with_initial`.
        rng : numpy.random.Generator
            Generator for both draws; equal generators give equal pools.
        initial_ids : sequence of str or None
            Training samples to label at the start, in this order, instead of drawing them. Then
            ``initial_labels`` is their number, and the validation set is drawn from the other samples:
            as many per class as otherwise, as far as there are enough.

        Raises
        ------
        DataError
            If a class has no training sample, no class is large enough for the validation set, or
            ``initial_ids`` has an id that repeats, is not a training sample or is in the validation set.
        UsageError
            If a training sample has no label, ``initial_labels`` is more than the number of samples
            or, for "stratified", less than the number of classes, it is not the number of
            ``initial_ids``, or a class is missing among these.
        """
        classes = dataset.classes
        require_labels(dataset)
        given = None if initial_ids is None else _training_positions(dataset, initial_ids)
        fixed = dataset.validation_positions
        if fixed is not None:
            require_outside(dataset, given, fixed)
            train = np.setdiff1d(dataset.train_positions, fixed, assume_unique=True)
            require_every_class(dataset, train)
            validation = np.sort(fixed)
        else:
            train = dataset.train_positions
            require_every_class(dataset, train)
            validation = drawn_validation(dataset, validation_fraction, given, rng)
        rest = np.setdiff1d(train, validation, assume_unique=True)
        if given is not None:
            if len(given) != initial_labels:
                raise UsageError(
                    f"initial_labels (or the first of budgets): expected {len(given)}, the number of "
                    f"initial ids, got {initial_labels}; set it to {len(given)}, or leave it out"
                )
            _require_classes(dataset, given)
            return cls._started(dataset, validation, given)
        least = len(classes) if initial_sampling == "stratified" else 1
        if not least <= initial_labels <= len(rest):
            raise UsageError(
                f"initial_labels (or the first of budgets): expected {least} "
                f"{'(one per class) ' * (least > 1)}to {len(rest)} (the training samples outside the "
                f"validation set), got {initial_labels}"
            )
        y = dataset.labels[rest]
        if initial_sampling == "herding":
            labeled = rest[:0]
        elif initial_sampling == "stratified":
            shares = proportional(np.bincount(y, minlength=len(classes)), initial_labels)
            labeled = rng.permutation(draw_per_class(rest, y, shares, rng))
        else:
            labeled = rng.choice(rest, initial_labels, replace=False)
        return cls._started(dataset, validation, labeled.astype(np.int64))

    @classmethod
    def _started(
        cls, dataset: MultimodalDataset, validation: Positions, labeled: Positions
    ) -> Pool:
        """A pool with these initial samples and their true labels."""
        return cls(dataset, validation, labeled, dataset.labels[labeled], len(labeled))

    def with_initial(self, dataset: MultimodalDataset, ids: Sequence[str]) -> Pool:
        """The pool of the same data set and validation set whose initial samples are these.

        Parameters
        ----------
        dataset : MultimodalDataset
            The pool's data set, whose true labels the samples get.
        ids : sequence of str
            Distinct ids of unlabeled samples. Classes may be missing among them.

        Raises
        ------
        UsageError
            If an id is not in the unlabeled pool.
        """
        return self._started(dataset, self._validation, self._unlabeled_positions(ids))

    @classmethod
    def restore(
        cls,
        dataset: MultimodalDataset,
        *,
        validation_ids: Sequence[str] | NDArray[np.str_],
        labeled_ids: Sequence[str] | NDArray[np.str_],
        labels: Sequence[int] | NDArray[np.int64],
        n_initial: int | None = None,
        excluded_ids: Sequence[str] | NDArray[np.str_] = (),
    ) -> Pool:
        """Restore a pool from ids.

        Parameters
        ----------
        dataset : MultimodalDataset
            The same data as before.
        validation_ids, labeled_ids : sequences of str
            The validation set, and the labeled samples in the order of labeling.
        labels : int sequence [len(labeled_ids)]
            Annotated classes of the labeled samples.
        n_initial : int or None
            How many of the first labeled samples were the initial ones; None: all.
        excluded_ids : sequence of str
            Other training samples that are never queried.

        Raises
        ------
        DataError
            If an id is not a training sample of this data set, repeats, or a label is out of range.
        """
        positions = _training_positions(
            dataset,
            [*validation_ids, *labeled_ids, *excluded_ids],
            "; the data have changed",
        )
        held, given = len(validation_ids), len(labeled_ids)
        initial = len(labeled_ids) if n_initial is None else n_initial
        if not 0 <= initial <= len(labeled_ids):
            raise DataError(f"n_initial: expected 0 to {len(labeled_ids)}, got {initial}")
        return cls(
            dataset,
            np.sort(positions[:held]),
            positions[held : held + given],
            _checked_labels(labels, given, len(dataset.classes)),
            initial,
            excluded=positions[held + given :],
        )

    @property
    def validation(self) -> Positions:
        """The validation set as dataset positions, ascending."""
        return self._validation

    @property
    def test(self) -> Positions:
        """The test samples as dataset positions, ascending."""
        return self._test

    @property
    def labeled(self) -> Positions:
        """The labeled samples as dataset positions, in the order of labeling."""
        return self._labeled

    @property
    def labels(self) -> NDArray[np.int64]:
        """Annotated classes of :attr:`labeled`."""
        return self._labels

    @property
    def unlabeled(self) -> Positions:
        """The unlabeled samples as dataset positions, ascending: entry i is pool position i."""
        return self._unlabeled

    @property
    def validation_ids(self) -> NDArray[np.str_]:
        """Ids of :attr:`validation`."""
        return self._ids[self._validation]

    @property
    def unlabeled_ids(self) -> NDArray[np.str_]:
        """Ids of :attr:`unlabeled`."""
        return self._ids[self._unlabeled]

    @property
    def labeled_ids(self) -> NDArray[np.str_]:
        """Ids of :attr:`labeled`, in the order of labeling."""
        return self._ids[self._labeled]

    @property
    def initial_ids(self) -> NDArray[np.str_]:
        """Ids of the samples that were labeled at the start."""
        return self.labeled_ids[: self._n_initial]

    def ids_at(self, pool_positions: NDArray[np.int64]) -> NDArray[np.str_]:
        """Ids of the samples at these pool positions, in their order.

        Raises
        ------
        UsageError
            If a position is not in the pool.
        """
        positions = np.asarray(pool_positions, dtype=np.int64)
        outside = (positions < 0) | (positions >= len(self._unlabeled))
        if outside.any():
            raise UsageError(
                f"pool positions: expected 0 to {len(self._unlabeled) - 1}, "
                f"got {positions[np.argmax(outside)]}"
            )
        return self._ids[self._unlabeled[positions]]

    def pool_positions(self, ids: Sequence[str] | NDArray[np.str_]) -> NDArray[np.int64]:
        """Pool positions of unlabeled samples, in the order of ``ids``.

        Raises
        ------
        UsageError
            If an id is not in the unlabeled pool.
        """
        return np.searchsorted(self._unlabeled, self._unlabeled_positions(ids)).astype(np.int64)

    def label(
        self, ids: Sequence[str] | NDArray[np.str_], labels: Sequence[int] | NDArray[np.int64]
    ) -> None:
        """Move samples from the unlabeled pool to the labeled set, with their annotated classes.

        Parameters
        ----------
        ids : sequence of str
            Distinct ids in the unlabeled pool. They are appended in this order.
        labels : int sequence [len(ids)]
            Classes 0 to C-1.

        Raises
        ------
        UsageError
            If an id repeats or is not in the unlabeled pool; the pool is unchanged.
        DataError
            If a label is missing or out of range; the pool is unchanged.
        """
        positions = self._unlabeled_positions(ids)
        values, counts = np.unique(positions, return_counts=True)
        if (counts > 1).any():
            raise UsageError(
                f"label: expected distinct ids, got {str(self._ids[values[counts > 1][0]])!r} twice"
            )
        checked = _checked_labels(labels, len(positions), self._n_classes)
        self._labeled = _frozen(np.concatenate([self._labeled, positions]))
        self._labels = _frozen(np.concatenate([self._labels, checked]))
        self._free[positions] = False
        self._unlabeled = _frozen(np.flatnonzero(self._free).astype(np.int64))

    def _unlabeled_positions(self, ids: Sequence[str] | NDArray[np.str_]) -> Positions:
        for id_ in ids:
            position = self._position_of.get(str(id_))
            if position is None or not self._free[position]:
                state = "unknown" if position is None else "labeled, validation or test"
                raise UsageError(
                    f"expected ids of the unlabeled pool, got {str(id_)!r}, which is {state}"
                )
        return _positions(self._position_of, ids)


def _require_classes(dataset: MultimodalDataset, initial: Positions) -> None:
    """Raise unless every class is among given initial samples."""
    classes = dataset.classes
    missing = np.setdiff1d(np.arange(len(classes)), dataset.labels[initial])
    if len(missing):
        raise UsageError(
            f"expected every class among the {len(initial)} initial labels, got none of "
            f"{[classes[c] for c in missing[:5]]}; add ids of these classes"
        )


def _frozen(array: NDArray[Any]) -> NDArray[np.int64]:
    copy = np.array(array, dtype=np.int64)
    copy.flags.writeable = False
    return copy


def _positions(position_of: dict[str, int], ids: Sequence[str] | NDArray[np.str_]) -> Positions:
    return np.array([position_of[str(id_)] for id_ in ids], dtype=np.int64)


def _training_positions(
    dataset: MultimodalDataset, ids: Sequence[str] | NDArray[np.str_], remark: str = ""
) -> Positions:
    """Dataset positions of training samples, in the order of ``ids``."""
    position_of = {id_: p for p, id_ in enumerate(dataset.ids.tolist())}
    training = np.zeros(len(dataset), np.bool_)
    training[dataset.train_positions] = True
    seen: set[str] = set()
    for id_ in map(str, ids):
        position = position_of.get(id_)
        if position is None or not training[position]:
            raise DataError(
                f"expected ids of training samples of {dataset.name!r}, got {id_!r}{remark}"
            )
        if id_ in seen:
            raise DataError(
                f"expected each sample once, in the validation set or labeled, got {id_!r} twice"
            )
        seen.add(id_)
    return _positions(position_of, ids)


def _checked_labels(
    labels: Sequence[int] | NDArray[np.int64], n: int, n_classes: int
) -> NDArray[np.int64]:
    array = np.asarray(labels)
    if array.shape != (n,) or (n and array.dtype.kind not in "iu"):
        raise DataError(
            f"labels: expected {n} integers, got dtype {array.dtype} and shape {array.shape}"
        )
    bad = (array < 0) | (array >= n_classes)
    if bad.any():
        raise DataError(f"labels: expected 0 to {n_classes - 1}, got {array[np.argmax(bad)]}")
    return array.astype(np.int64)
