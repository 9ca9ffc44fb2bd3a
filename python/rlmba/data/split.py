"""Draw the validation set and the initial samples, and check what they require."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.data.base import MultimodalDataset
from rlmba.errors import DataError, UnfitError, UsageError

__all__ = [
    "draw_per_class",
    "drawn_validation",
    "held_per_class",
    "proportional",
    "require_every_class",
    "require_labels",
    "require_outside",
]

Positions = NDArray[np.int64]


def require_labels(dataset: MultimodalDataset) -> None:
    """Raise unless all training samples have labels, which an experiment takes from the data set."""
    train = dataset.train_positions
    unknown = int((dataset.labels[train] < 0).sum())
    if unknown:
        drop = "`--set dataset_options.unlabeled=drop` runs an experiment on the labeled rows only"
        raise UsageError(
            f"{unknown:,} of {len(train):,} training rows of {dataset.name!r} have no label, but an "
            "experiment needs all labels; `rlmba init` starts a project in which people label the rows"
            + (f", or {drop}" if unknown < len(train) else "")
        )
    if len(dataset.classes) < 2:
        raise DataError(
            f"expected two classes or more, got {list(dataset.classes)}; there is nothing to learn"
        )


def require_every_class(dataset: MultimodalDataset, train: Positions) -> None:
    """Raise unless every class has a sample among these labeled training samples."""
    counts = np.bincount(dataset.labels[train], minlength=len(dataset.classes))
    if (counts == 0).any():
        names = [dataset.classes[c] for c in np.flatnonzero(counts == 0)[:5]]
        raise DataError(f"expected training samples of every class, got none of {names}")


def require_outside(
    dataset: MultimodalDataset, given: Positions | None, validation: Positions
) -> None:
    """Raise if an initial sample is in the validation set."""
    both = np.intersect1d(validation, [] if given is None else given)
    if len(both):
        raise DataError(
            f"expected initial ids outside the data set's own validation split, got "
            f"{str(dataset.ids[both[0]])!r} ({len(both)} are in both); remove them from one of the two"
        )


def drawn_validation(
    dataset: MultimodalDataset,
    fraction: float,
    given: Positions | None,
    rng: np.random.Generator,
) -> Positions:
    """The validation set, drawn from the training samples outside ``given``; ascending positions."""
    held = held_per_class(dataset, fraction, given)
    train = dataset.train_positions
    if given is not None:
        train = np.setdiff1d(train, given, assume_unique=True)
    return np.sort(draw_per_class(train, dataset.labels[train], held, rng))


def held_per_class(
    dataset: MultimodalDataset, fraction: float, given: Positions | None
) -> NDArray[np.int64]:
    """How many samples of each class :func:`drawn_validation` draws: int64 [C].

    Raises
    ------
    UnfitError
        If there are none.
    """
    classes, train = dataset.classes, dataset.train_positions
    counts = np.bincount(dataset.labels[train], minlength=len(classes))
    held = np.floor(fraction * counts + 0.5).astype(np.int64)
    held = np.where(counts >= 3, np.clip(held, 1, counts - 1), 0)
    if given is not None:
        outside = np.setdiff1d(train, given, assume_unique=True)
        held = np.minimum(held, np.bincount(dataset.labels[outside], minlength=len(classes)))
    if not held.any():
        raise UnfitError(
            "expected a class with three or more training samples, for the validation set"
            + ("" if given is None else ", one of them not among the initial ids"),
            {},
        )
    return held


def draw_per_class(
    positions: Positions, y: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator
) -> Positions:
    """``counts[c]`` of the positions of each class, class by class."""
    drawn = [rng.permutation(positions[y == c])[: counts[c]] for c in range(len(counts))]
    return np.concatenate(drawn)


def proportional(available: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Distribute ``n`` over classes: at least one each, the rest by largest remainder."""
    quota = n * available / available.sum()
    shares = np.minimum(np.maximum(np.floor(quota).astype(np.int64), 1), available)
    while shares.sum() != n:
        step = 1 if shares.sum() < n else -1
        open_ = shares < available if step > 0 else shares > 1
        gap = np.where(open_, step * (quota - shares), -np.inf)
        shares[int(np.argmax(gap))] += step
    return np.asarray(shares)
