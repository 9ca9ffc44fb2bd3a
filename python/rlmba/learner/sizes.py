"""Check that a data set has enough samples for an experiment's settings, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlmba.config import RunConfig
from rlmba.data import MultimodalDataset
from rlmba.data.split import held_per_class, require_every_class, require_labels, require_outside
from rlmba.errors import UnfitError

__all__ = ["require_sizes", "unfit"]


def require_sizes(
    config: RunConfig, dataset: MultimodalDataset, initial_ids: Sequence[str] | None = None
) -> None:
    """Raise unless the validation set, the initial labels and all batches can be drawn.

    Parameters
    ----------
    config : RunConfig
    dataset : MultimodalDataset
        Only its labels and splits are used.
    initial_ids : sequence of str or None
        Training samples that are labeled at the start; see :class:`rlmba.config.RunConfig`.

    Raises
    ------
    UnfitError
        The message names everything that does not fit, and ``settings`` are settings that do.
    DataError
        If a class has no training sample.
    UsageError
        If samples have no label.
    """
    if problems := unfit(config, dataset, initial_ids):
        raise UnfitError.joined(problems)


def unfit(
    config: RunConfig, dataset: MultimodalDataset, initial_ids: Sequence[str] | None = None
) -> list[UnfitError]:
    """What does not fit, each with settings that do; see :func:`require_sizes`."""
    require_labels(dataset)
    given = None
    if initial_ids is not None:
        given = np.flatnonzero(np.isin(dataset.ids, list(initial_ids))).astype(np.int64)
    train, fixed = dataset.train_positions, dataset.validation_positions
    try:
        if fixed is not None:
            require_outside(dataset, given, fixed)
            train = np.setdiff1d(train, fixed, assume_unique=True)
        require_every_class(dataset, train)
        held = 0
        if fixed is None:
            held = int(held_per_class(dataset, config.validation_fraction, given).sum())
    except UnfitError as error:
        return [error]
    outside = (
        f"without the {held if fixed is None else len(fixed)} samples of the validation set there are "
        f"{len(train) - held} training samples"
    )
    classes = len(dataset.classes)
    stratified = config.initial_sampling == "stratified" and given is None
    check = _budgets if config.counts(classes) else _rounds
    return check(
        config,
        classes,
        classes if stratified else 1,
        len(train) - held,
        given=None if given is None else len(given),
        outside=outside,
    )


def _budgets(
    config: RunConfig, classes: int, least: int, most: int, *, given: int | None, outside: str
) -> list[UnfitError]:
    counts = config.counts(classes)
    key = "budgets" if config.budgets else "budgets_per_class"
    fitting = [n for n in counts if least <= n <= most]
    if len(fitting) == len(counts):
        return []
    found = (
        f"the first of the {len(counts)} counts is {counts[0]} labels, but with one per class there are "
        f"{least}"
        if counts[0] < least
        else f"the last of the {len(counts)} counts is {counts[-1]} labels, but {outside}"
    )
    if given is None and not fitting:
        spread = np.linspace(least, most, len(counts) + 1)[1:]
        fitting = sorted(set(np.maximum(spread.astype(int), least).tolist()))
    said = ", ".join(map(str, fitting))
    settings = {} if key == "budgets" else {key: None}
    return [UnfitError(f"{key}: {found}; counts that fit: {said}", settings | {"budgets": fitting})]


def _rounds(
    config: RunConfig, classes: int, least: int, most: int, *, given: int | None, outside: str
) -> list[UnfitError]:
    first = given or config.initial_labels or 2 * classes
    batch, rounds = config.batch_size or 2 * classes, config.rounds
    problems: list[UnfitError] = []
    fitting = first
    if not least <= first <= most:
        share = most * first // (first + batch * (rounds or 8))
        fitting = min(max(share, least), most)
        problems.append(
            UnfitError(
                f"initial_labels (or the first of budgets): expected {least} "
                f"{'(one per class) ' * (least > 1)}to {most} (the training samples outside the validation "
                f"set), got {first}",
                {"initial_labels": fitting},
            )
        )
    room = most - fitting
    if rounds is None or rounds * batch <= room:
        return problems
    sizes = {"rounds": room // batch}
    if problems or batch > room:  # as many rounds as were asked for, with smaller batches
        sizes = {"rounds": min(rounds, room)}
        if room:
            sizes["batch_size"] = room // sizes["rounds"]
    problems.append(
        UnfitError(
            f"the budget exceeds the pool: {first} initial labels + {rounds} rounds of {batch} = "
            f"{first + rounds * batch}, but {outside}",
            sizes,
        )
    )
    return problems
