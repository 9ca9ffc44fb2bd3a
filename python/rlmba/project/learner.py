"""The learner of a project: the data as they are now, with the labels of its log."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from functools import partial

from rlmba.data import MultimodalDataset
from rlmba.data.media.kept import keep_decoded
from rlmba.errors import RlmbaWarning
from rlmba.learner import ActiveLearner
from rlmba.learner.frozen import load_data
from rlmba.learner.labels import Labels
from rlmba.learner.network import build_network
from rlmba.learner.query import Announce
from rlmba.learner.rounds import class_remedy
from rlmba.learner.trained import NETWORK, read_document
from rlmba.project.folder import (
    DECODED,
    PROJECT_FREE_KEYS,
    Project,
    log_own_labels,
    most_decoded,
)
from rlmba.training import ProcessGroup, worker_deaths

__all__ = ["opened_learner", "trained_classes"]

_NAMED = 5


@contextlib.contextmanager
def opened_learner(project: Project, announce: Announce) -> Iterator[ActiveLearner]:
    """A learner that continues after the project's last round, with its pending batch.

    Labels that are new in the data set are written to the project's log first.

    Parameters
    ----------
    project : Project
        Opened to write.
    announce : callable

    Raises
    ------
    DataError
        If the data cannot be used, or, before round 0, a label in the log is none of the given classes.
    CheckpointError
        If the folder's checkpoint does not fit the configuration.
    """
    config, store = project.config, project.writable()
    group = ProcessGroup.open(config.device, config.training.precision)
    announce("reading the data")
    dataset = load_data(config, group, partial(announce, "computing features"))
    labels = _labels(project, dataset)
    if not config.model.frozen:
        keep_decoded(dataset, project.path / DECODED, most_decoded(config))
    network = build_network(config, dataset, group)
    network.announce = announce
    with network.loader, worker_deaths(network.loader):
        learner = ActiveLearner(
            config, labels, network, log=project.log, free_keys=PROJECT_FREE_KEYS
        )
        learner.resume(store)
        yield learner


def _labels(project: Project, dataset: MultimodalDataset) -> Labels:
    source = dataset.source or dataset
    log_own_labels(project.log, source)
    answers = project.log.current()
    _warn_of_lost(answers, source)
    own = source.validation_positions
    fixed = [] if own is None else [str(i) for i in source.ids[own]]
    labels = Labels(
        dataset,
        answers,
        [*project.split()["validation"], *fixed],
        classes=trained_classes(project),
        given=project.classes_are_given,
        follow=True,
    )
    if not project.rounds:
        labels.set_classes(labels.next_classes(class_remedy(project.path)))
    return labels


def _warn_of_lost(answers: dict[str, str | None], source: MultimodalDataset) -> None:
    here = {str(i) for i in source.ids[source.train_positions]}
    lost = [i for i in answers if i not in here]
    if lost:
        warnings.warn(
            f"{len(lost)} labeled samples are no longer in the data, or all of their files are gone: "
            f"{', '.join(map(repr, lost[:_NAMED]))}{', ...' if len(lost) > _NAMED else ''}; their labels "
            "are kept, and count again once the samples are back",
            RlmbaWarning,
            stacklevel=4,
        )


def trained_classes(project: Project) -> tuple[str, ...]:
    """Class names of the last round's network; none before round 0."""
    if not project.rounds:
        return ()
    return read_document(project.writable().checkpoint(), NETWORK).classes
