"""The second half of a project's round: take the labels, train on them, close the round."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rlmba.annotators import read_labels
from rlmba.errors import RlmbaError, RlmbaWarning, UsageError
from rlmba.learner.frozen import load_source
from rlmba.learner.round import Clock, RoundUnderWay, conclude, train
from rlmba.learner.run import keep
from rlmba.learner.session import Session
from rlmba.project.folder import Asked, Project
from rlmba.project.samples import (
    Samples,
    check_trainable,
    classes_are_given,
    look,
    trained_classes,
)
from rlmba.project.session import restore, session_of
from rlmba.runfolder.labels import Answer
from rlmba.training import Mesh
from rlmba.types import RoundRecord, Selection

__all__ = ["Taking", "collect", "progress", "take"]

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Taking:
    """What :func:`collect` found and :func:`take` did with it.

    ``new`` answers were written down, ``corrected`` of them to samples that had another before;
    ``answered`` of ``asked`` samples of the batch have one (0 of 0 where there is no batch), the others
    are ``missing``. ``record`` is that of the round, where it could be trained; ``why`` says why not.
    """

    new: int
    corrected: int
    answered: int
    asked: int
    missing: tuple[str, ...]
    record: RoundRecord | None = None
    why: str = ""


def collect(project: Project, labels: Path | None = None) -> tuple[int, int]:
    """Write down what annotators have answered to any batch so far, and labels from elsewhere.

    Parameters
    ----------
    project : Project
        Opened to write.
    labels : path or None
        A table with the columns id and label, see :func:`rlmba.annotators.read_labels`. Its labels count
        over any that were there.

    Returns
    -------
    (int, int)
        New answers, and how many of them change a label that was there.

    Raises
    ------
    AnnotatorError, DataError
        If answers cannot be had or cannot be used; nothing is written down then.
    """
    before = project.log.current()
    news = _news(project)
    if labels is not None:
        source = load_source(project.config)
        at_hand = {**before, **{n.id: n.label for n in news}}
        is_open = not classes_are_given(project)
        # Names that people have given before are known classes, too.
        named = [name for name in at_hand.values() if name is not None] if is_open else []
        given = read_labels(
            labels,
            ids=set(source.ids[source.train_positions].tolist()),
            classes=list(dict.fromkeys([*source.classes, *named])),
            open=is_open,
        )
        news += [
            Answer(i, name, str(labels))
            for i, name in given.items()
            if i not in at_hand or at_hand[i] != name
        ]
    project.log.append(news)
    after = project.log.current()
    return len(news), sum(before[i] != after[i] for i in before)


def _news(project: Project) -> list[Answer]:
    """What annotators say that they have not said before.

    One that the project has no more, and that cannot be asked, does not hold up the others.
    """
    pending = project.pending()
    needed = {project.config.project.annotator, *(pending or ())[:1]}
    news: list[Answer] = []
    silent: set[str] = set()
    for name, ticket in project.tickets():
        if name in silent:
            continue
        try:
            answers = project.annotator(name).collect(ticket)
        except RlmbaError as error:
            if name in needed:
                raise
            silent.add(name)
            warnings.warn(
                f"corrections by annotator {name!r}, of earlier rounds, cannot be looked for: {error}",
                RlmbaWarning,
                stacklevel=3,
            )
            continue
        news += project.log.news(f"{name}/{ticket}", answers)
    return news


def progress(project: Project) -> tuple[int, int, tuple[str, ...]]:
    """How many of the open batch's samples are answered in the log, of how many, and which are not."""
    asked = project.asked()
    if asked is None:
        return 0, 0, ()
    current = project.log.current()
    missing = tuple(i for i in asked.ids if i not in current)
    return len(asked.ids) - len(missing), len(asked.ids), missing


def take(
    project: Project,
    *,
    partial: bool = False,
    labels: Path | None = None,
    announce: Announce = lambda _: None,
) -> Taking:
    """Collect answers; where the batch is complete, train on all labels and close the round.

    Parameters
    ----------
    project : Project
        Opened to write.
    partial : bool
        Train on what is answered; the rest goes back to the pool.
    labels : path or None
        See :func:`collect`.
    announce : callable
        Told the name of each stage as it begins.

    Raises
    ------
    AnnotatorError, DataError, UsageError, StorageError
        See :func:`collect`; answers that were written down stay.
    """
    new, corrected = collect(project, labels)
    answered, n, missing = progress(project)
    found = Taking(new, corrected, answered, n, missing)
    asked = project.asked()
    start = project.rounds == 0 and n == 0
    if asked is None and not start:
        return _because(
            found,
            "no batch is out; `rlmba next` chooses one"
            + (", and what is new counts when its labels are in" if new else ""),
        )
    if missing and not (partial and answered):
        return _because(found, f"{len(missing)} of {n} samples have no label yet")
    mesh = Mesh.open(project.config.device, project.config.training.precision)
    announce("reading the data")
    samples = look(project, mesh, trained=False)
    try:
        check_trainable(samples)
    except UsageError as error:
        if missing or start:
            raise
        project.forget_asked()
        return _because(found, f"{error}")
    record = _learn(project, samples, mesh, asked, announce)
    project.forget_asked()
    return replace(found, record=record)


def _because(found: Taking, why: str) -> Taking:
    return replace(found, why=why)


def _learn(
    project: Project, samples: Samples, mesh: Mesh, asked: Asked | None, announce: Announce
) -> RoundRecord:
    """Train on all labels, and make the round permanent."""
    store = project.writable()
    number = project.rounds
    with session_of(project, samples, mesh) as session:
        session.training_file = store.training_file
        restore(project, session, strategy=True, model=_goes_on(project, samples))
        if project.asked_strategy.exists():
            session.restore_strategy(project.asked_strategy)
        session.network.model.set_fusion_weights(session.state.fusion_weights)
        under_way = _under_way(session, number, asked, announce)
        with under_way.clock("train"):
            diagnostics = train(session, number)
        outcome = conclude(session, under_way, diagnostics)
        keep(store, session, outcome)
    return outcome.record


def _goes_on(project: Project, samples: Samples) -> bool:
    """Whether training starts from the last round's weights."""
    if project.rounds == 0 or not project.config.training.warm_start:
        return False
    if samples.dataset.classes == trained_classes(project):
        return True
    warnings.warn(
        "there are other classes than in the last round, so this one's training starts from the initial "
        "weights in spite of training.warm_start",
        RlmbaWarning,
        stacklevel=2,
    )
    return False


def _under_way(
    session: Session, number: int, asked: Asked | None, announce: Announce
) -> RoundUnderWay:
    """The round as it was when its batch was chosen, with labels."""
    clock = Clock(announce)
    labeled = [str(i) for i in session.dataset.ids[session.pool.labeled]]
    label_of = dict(zip(labeled, session.pool.labels.tolist(), strict=True))
    score_of: dict[str, float] = {}
    selection = Selection(np.empty(0, dtype=np.int64), np.empty(0))
    if asked is not None:
        clock.seconds.update(asked.seconds)
        chosen = [i for i in asked.ids if i not in set(asked.validation)]
        score_of = dict(zip(chosen, asked.scores, strict=True))
        selection = replace(
            selection, seconds=dict(asked.select_seconds), backends=dict(asked.backends)
        )
    ids = labeled if number == 0 else [i for i in score_of if i in label_of]
    return RoundUnderWay(
        number,
        clock,
        session.state,
        selection,
        ids,
        [score_of.get(i, 0.0) for i in ids],
        labels=[label_of[i] for i in ids],
    )
