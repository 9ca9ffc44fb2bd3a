"""The second half of a project's round: collect the labels, train on them, close the round."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from rlmba.annotators import read_labels
from rlmba.errors import RlmbaError, RlmbaWarning, UsageError
from rlmba.learner.query import Announce
from rlmba.learner.rounds import silent
from rlmba.learner.settings import load_source
from rlmba.learner.tracked import tracked
from rlmba.project.folder import Project
from rlmba.project.learner import opened_learner, trained_classes
from rlmba.runfolder.labels import Answer
from rlmba.types import RoundRecord

__all__ = ["CollectedLabels", "collect", "collect_answers"]


@dataclass(frozen=True)
class CollectedLabels:
    """What :func:`collect` found and did.

    Parameters
    ----------
    new, corrected : int
        New answers that were written down, and how many of them change an earlier one.
    answered, asked : int
        Samples of the open batch that have an answer, and its size; 0 of 0 where there is no batch.
    missing : tuple of str
        The others.
    record : RoundRecord or None
        The round's, where it was trained.
    why : str
        Why it was not.
    classes : tuple of str
        Names of the classes of the round's network; empty without a round.
    """

    new: int
    corrected: int
    answered: int
    asked: int
    missing: tuple[str, ...]
    record: RoundRecord | None = None
    why: str = ""
    classes: tuple[str, ...] = ()


def collect(
    project: Project,
    *,
    partial: bool = False,
    labels: Path | None = None,
    announce: Announce = silent,
) -> CollectedLabels:
    """Collect answers; where the batch is complete, train on all labels and close the round.

    Parameters
    ----------
    project : Project
        Opened to write.
    partial : bool
        Train on what is answered; the rest of the batch goes back to the pool.
    labels : path or None
        See :func:`collect_answers`.
    announce : callable
        Called with the name of each stage as it begins.

    Raises
    ------
    AnnotatorError, DataError, UsageError, StorageError
        See :func:`collect_answers`; answers that were written down stay.
    """
    new, corrected = collect_answers(project, labels)
    pending = project.pending()
    current = project.log.current()
    asked = [] if pending is None else pending.ids
    missing = tuple(i for i in asked if i not in current)
    answered = len(asked) - len(missing)
    found = CollectedLabels(new, corrected, answered, len(asked), missing)
    start = project.rounds == 0 and not asked
    if pending is None and not start:
        later = ", and what is new counts when its labels are in" if new else ""
        return replace(found, why=f"no batch is pending; `rlmba next` chooses one{later}")
    if missing and not (partial and answered):
        return replace(found, why=f"{len(missing)} of {len(asked)} samples have no label yet")
    with opened_learner(project, announce) as learner:
        try:
            learner.check_trainable()
        except UsageError as error:
            if missing or start:
                raise
            learner.withdraw()
            return replace(found, why=str(error))
        config = project.config
        name = config.project.name or project.path.absolute().name
        with tracked(project.path, config, learner.classes, name=name) as trackers:
            record = learner.learn(announce=announce).record
            trackers.send(learner.records)
    return replace(found, record=record, classes=trained_classes(project))


def collect_answers(project: Project, labels: Path | None = None) -> tuple[int, int]:
    """Write down what annotators have answered to any batch so far, and labels from elsewhere.

    Parameters
    ----------
    project : Project
        Opened to write.
    labels : path or None
        A table with the columns id and label, or an export of CVAT or Argilla; see
        :func:`rlmba.annotators.read_labels`. Its labels replace earlier ones.

    Returns
    -------
    (int, int)
        New answers, and how many of them change an earlier one.

    Raises
    ------
    AnnotatorError, DataError
        If answers cannot be had or cannot be used; nothing is written down then.
    """
    before = project.log.current()
    new = _from_annotators(project)
    if labels is not None:
        new += _from_table(project, labels, {**before, **{a.id: a.label for a in new}})
    project.log.append(new)
    after = project.log.current()
    return len(new), sum(before[i] != after[i] for i in before)


def _from_table(project: Project, path: Path, known: dict[str, str | None]) -> list[Answer]:
    """Answers of a table that differ from the known ones."""
    source = load_source(project.config)
    is_open = not project.classes_are_given
    # Names that people gave before are known classes, too.
    named = [name for name in known.values() if name is not None] if is_open else []
    given = read_labels(
        path,
        ids=set(source.ids[source.train_positions].tolist()),
        classes=list(dict.fromkeys([*source.classes, *named])),
        open=is_open,
    )
    return [
        Answer(i, name, str(path))
        for i, name in given.items()
        if i not in known or known[i] != name
    ]


def _from_annotators(project: Project) -> list[Answer]:
    """Answers of annotators that they have not given before.

    An earlier annotator of the project that can no longer be asked does not hold up the present one.
    """
    pending = project.pending()
    needed = {project.config.project.annotator, pending.annotator if pending else ""}
    new: list[Answer] = []
    unreachable: set[str] = set()
    annotator = cache(project.annotator)
    for name, ticket in project.tickets():
        if name in unreachable:
            continue
        try:
            answers = annotator(name).collect(ticket)
        except RlmbaError as error:
            if name in needed:
                raise
            unreachable.add(name)
            warnings.warn(
                f"corrections by annotator {name!r}, of earlier rounds, cannot be looked for: {error}",
                RlmbaWarning,
                stacklevel=4,
            )
            continue
        new += project.log.news(f"{name}/{ticket}", answers)
    return new
