"""The samples of a project and what is known of them now."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data import MultimodalDataset, Pool
from rlmba.errors import DataError, RlmbaWarning, UsageError
from rlmba.learner.frozen import load_data
from rlmba.learner.trained import NETWORK, read_document
from rlmba.markup import command
from rlmba.project.folder import Project
from rlmba.runfolder.labels import LabelLog
from rlmba.training import Mesh

__all__ = [
    "Samples",
    "check_trainable",
    "classes_are_given",
    "classes_of",
    "log_own_labels",
    "look",
    "trained_classes",
]

_NAMED = 5
MANIFEST = "manifest"
"""Source, in the log, of labels that the data set itself has."""


@dataclass
class Samples:
    """A data set whose classes and labels are those of the project's log.

    Parameters
    ----------
    dataset : MultimodalDataset
        What the network sees: with ``model.frozen`` the encoders' features.
    source : MultimodalDataset
        What people see.
    validation : list of str
        Samples of V that have labels.
    wanted : list of str
        Samples of V that nobody has been able to answer for yet.
    labeled : list of str
        Labeled samples outside V, in the order of their first labels.
    excluded : list of str
        Samples that cannot be told.
    """

    dataset: MultimodalDataset
    source: MultimodalDataset
    validation: list[str]
    wanted: list[str]
    labeled: list[str]
    excluded: list[str]

    def pool(self) -> Pool:
        """Who is labeled, who is not, who validates."""
        position = {i: p for p, i in enumerate(self.dataset.ids.tolist())}
        return Pool.restore(
            self.dataset,
            validation_ids=self.validation,
            labeled_ids=self.labeled,
            labels=self.dataset.labels[[position[i] for i in self.labeled]],
            excluded_ids=[*self.wanted, *self.excluded],
        )

    def observed(self) -> int:
        """Number of classes among the labeled samples outside V."""
        return len(set(self.pool().labels.tolist()))


def classes_are_given(project: Project) -> bool:
    """Whether the classes are a given list; otherwise new names become classes."""
    return project.config.dataset_options.get("classes") is not None


def look(
    project: Project,
    mesh: Mesh,
    *,
    trained: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Read the data set, write labels that are new in it into the log, and sort the samples.

    Parameters
    ----------
    project : Project
        Opened to write.
    mesh : Mesh
    trained : bool
        Classes are those of the last trained network, which new ones join otherwise.
    progress : callable or None
        Told (done, total) where encoders are frozen and run over the samples.

    Raises
    ------
    DataError
        If the data cannot be used, or a label in the log is none of the given classes.
    """
    config = project.config
    dataset = load_data(config, mesh, progress)
    source = dataset.source or dataset
    own = log_own_labels(project.log, source)
    answers = project.log.current()
    here = {str(i) for i in source.ids[source.train_positions]}
    _warn_of_lost(project, here)
    aside = dict.fromkeys([*project.split()["validation"], *_own_validation(source)])
    classes = _classes(project, source, answers, trained=trained)
    _overlay(dataset, source, classes, answers, own)
    known = set(classes)
    usable = {i: label for i, label in answers.items() if i in here}
    labels = {i: label for i, label in usable.items() if label is not None and label in known}
    return Samples(
        dataset,
        source,
        validation=[i for i in aside if i in labels],
        wanted=[i for i in aside if i in here and i not in usable],
        labeled=[i for i in labels if i not in aside],
        excluded=[i for i in usable if i not in labels],
    )


def log_own_labels(log: LabelLog, source: MultimodalDataset) -> dict[str, str]:
    """Write the training labels of the data set itself that are new into the log.

    Returns
    -------
    dict of str to str
        Class name by id of every sample that the data set has a label for.
    """
    own = _own_labels(source)
    train = map(str, source.ids[source.train_positions])
    log.append(log.news(MANIFEST, {i: own[i] for i in train if i in own}))
    return own


def _own_labels(source: MultimodalDataset) -> dict[str, str]:
    """Class names that the data set itself has, by id."""
    rows = np.flatnonzero(source.labels >= 0)
    names = np.array(source.classes, dtype=object)[source.labels[rows]]
    return dict(zip(source.ids[rows].tolist(), names.tolist(), strict=True))


def _own_validation(source: MultimodalDataset) -> list[str]:
    positions = source.validation_positions
    return [] if positions is None else [str(i) for i in source.ids[positions]]


def _warn_of_lost(project: Project, here: set[str]) -> None:
    lost = [i for i in project.log.current() if i not in here]
    if lost:
        warnings.warn(
            f"{len(lost)} labeled samples are no longer in the data, or all of their files are gone: "
            f"{', '.join(map(repr, lost[:_NAMED]))}{', ...' if len(lost) > _NAMED else ''}; their labels "
            "are kept, and count again once the samples are back",
            RlmbaWarning,
            stacklevel=3,
        )


def _classes(
    project: Project,
    source: MultimodalDataset,
    answers: dict[str, str | None],
    *,
    trained: bool,
) -> tuple[str, ...]:
    """Class names in the order of the network's outputs."""
    before = trained_classes(project)
    if trained:
        return before
    if classes_are_given(project):
        strange = {n: i for i, n in answers.items() if n is not None and n not in source.classes}
        if strange:
            name, sample = next(iter(strange.items()))
            raise DataError(
                f"{project.log.path}: sample {sample!r} has the label {name!r}, which is none of the "
                f"classes {list(source.classes)}; add it to dataset_options.classes in "
                f"{project.path / 'config.yaml'}, or correct the label with "
                f"`{command('collect', project.path)} --labels FILE`"
            )
        return source.classes
    used = {name for name in answers.values() if name is not None}
    used |= {source.classes[c] for c in np.unique(source.labels[source.test_positions]).tolist()}
    return (*(c for c in before if c in used), *sorted(used - set(before)))


def trained_classes(project: Project) -> tuple[str, ...]:
    """Class names of the last round's network; none before round 0."""
    if not project.rounds:
        return ()
    return read_document(project.writable().checkpoint(), NETWORK).classes


def _overlay(
    dataset: MultimodalDataset,
    source: MultimodalDataset,
    classes: tuple[str, ...],
    answers: dict[str, str | None],
    own: dict[str, str],
) -> None:
    """Make the data set's classes and labels those that are known now."""
    number = {name: c for c, name in enumerate(classes)}
    labels: NDArray[np.int64] = np.full(len(dataset), -1, np.int64)
    position: dict[str, int] = {i: p for p, i in enumerate(dataset.ids.tolist())}
    named: dict[str, Any] = {str(i): own.get(str(i)) for i in source.ids[source.test_positions]}
    for id_, name in {**answers, **named}.items():
        if name in number and id_ in position:
            labels[position[id_]] = number[name]
    dataset.classes, dataset.labels = classes, labels


def classes_of(source: MultimodalDataset) -> list[str]:
    """Names of the classes that a data set's own labels have, in its order."""
    return [source.classes[c] for c in np.unique(source.labels[source.labels >= 0]).tolist()]


def check_trainable(samples: Samples) -> None:
    """Raise unless there is enough to train on and to validate with.

    Raises
    ------
    UsageError
        Saying what is missing.
    """
    if not samples.validation:
        raise UsageError(
            "none of the samples set aside for validation has a label yet, and nothing can be measured "
            "without; label some of them (purpose: validation)"
        )
    if samples.observed() < 2:
        raise UsageError(
            f"expected labels of two classes or more to train on, got {len(samples.labeled)} labels of "
            f"{samples.observed()}; run `rlmba next` for more samples"
        )
