"""The first half of a project's round: choose a batch and hand it to those who label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlmba.annotators import LabelBatch, Question
from rlmba.config import RunConfig
from rlmba.kernels.common.arrays import to_host
from rlmba.learner.randomness import stream
from rlmba.learner.round import Clock, choose
from rlmba.learner.session import Session
from rlmba.method import efda
from rlmba.project.folder import Asked, Project
from rlmba.project.samples import Samples, classes_are_given, look
from rlmba.project.session import LEAST_BATCH, restore, session_of
from rlmba.strategies import create
from rlmba.training import Mesh, head_log_probs
from rlmba.types import MULTIMODAL, QueryContext

__all__ = ["Asking", "ask", "lacking_validation", "least", "validation_size"]

LEAST_VALIDATION = 20
"""Labels of V that are asked for at least: one in twenty tells 5 points, fewer tell nothing."""


@dataclass(frozen=True)
class Asking:
    """What :func:`ask` did: ``batch`` is with the annotator under ``ticket``; ``again`` if it was already.

    ``batch`` is None where there is nothing to ask for: ``why`` says so. ``ready`` then tells that what
    is labeled can be trained on at once.
    """

    annotator: str = ""
    ticket: str = ""
    batch: LabelBatch | None = None
    again: bool = False
    ready: bool = False
    why: str = ""


Announce = Callable[[str], None]


def least(config: RunConfig, classes: int) -> int:
    """Labels to start from outside V: ``initial_labels``, or two a class and ten at least."""
    return config.initial_labels or max(2 * classes, LEAST_BATCH)


def validation_size(config: RunConfig, classes: int) -> int:
    """Labels of V: ``project.validation_labels``, or two a class and twenty at least."""
    return config.project.validation_labels or max(2 * classes, LEAST_VALIDATION)


def lacking_validation(config: RunConfig, classes: int, have: int, unlabeled: int) -> int:
    """Samples that V of ``have`` lacks; no more than a fifth of those without a label."""
    return max(0, min(validation_size(config, classes) - have, unlabeled // 5))


def ask(project: Project, announce: Announce = lambda _: None) -> Asking:
    """Choose the next batch and hand it to the annotator; one that is out already is handed over again.

    Parameters
    ----------
    project : Project
        Opened to write.
    announce : callable
        Told the name of each stage as it begins.

    Raises
    ------
    AnnotatorError
        If the annotator cannot be asked. The batch is kept: ask again.
    DataError, UsageError, CheckpointError
        If the data cannot be used, or the folder's model does not fit the configuration.
    """
    annotator = project.annotator()  # options are checked before any work
    mesh = Mesh.open(project.config.device, project.config.training.precision)
    asked, again = project.asked(), True
    announce("reading the data")
    samples = look(project, mesh, trained=project.rounds > 0)
    with session_of(project, samples, mesh) as session:
        if asked is None:
            again = False
            made = _chosen(project, session, samples, announce)
            if isinstance(made, Asking):
                return made
            asked = made
            project.keep_asked(asked)
        announce("asking for labels")
        batch = _batch(project, session, samples, asked)
    ticket = annotator.request(batch)
    name = project.config.project.annotator
    project.keep_pending(asked.round, name, ticket)
    return Asking(name, ticket, batch, again)


def _chosen(
    project: Project, session: Session, samples: Samples, announce: Announce
) -> Asked | Asking:
    """The next batch, or why there is none."""
    if project.rounds == 0:
        return _cold_start(project, session, samples, announce)
    restore(project, session, strategy=True, model=True)
    room = len(session.pool.unlabeled)
    if room == 0 and not samples.wanted:
        return Asking(why="every sample of the pool is labeled")
    size = min(int(session.config.batch_size or 0), room)
    session.config = session.config.model_copy(update={"batch_size": size})
    under_way = choose(session, project.rounds, announce)
    session.save_strategy(project.asked_strategy)
    return Asked(
        round=project.rounds,
        ids=[*under_way.ids, *samples.wanted],
        validation=samples.wanted,
        scores=[float(s) for s in under_way.scores],
        seconds=dict(under_way.clock.seconds),
        select_seconds=dict(under_way.selection.seconds),
        backends=dict(under_way.selection.backends),
    )


def _cold_start(
    project: Project, session: Session, samples: Samples, announce: Announce
) -> Asked | Asking:
    """What round 0 lacks: samples that cover the others (k-center on features), and samples of V."""
    config = project.config
    classes = len(samples.dataset.classes)
    rng = stream(config.seed, "validation", len(project.log.answers))
    pool = session.pool
    have = len(samples.validation) + len(samples.wanted)
    lacking = lacking_validation(config, classes, have, len(pool.unlabeled))
    if lacking and samples.source.validation_positions is None:
        drawn = pool.ids_at(np.sort(rng.permutation(len(pool.unlabeled))[:lacking]))
        samples.wanted += [str(i) for i in drawn]
        project.set_aside([*samples.validation, *samples.wanted])
        session.pool = pool = samples.pool()
    need = max(0, least(config, classes) - len(samples.labeled))
    if need == 0 and samples.observed() < 2:
        need = int(session.config.batch_size or LEAST_BATCH)
    need = min(need, len(pool.unlabeled))
    if need == 0 and not samples.wanted:
        ready = samples.observed() >= 2 and bool(samples.validation)
        return Asking(
            ready=ready,
            why="what is labeled is enough to start from"
            if ready
            else f"no sample is left to ask for, and {len(samples.labeled)} labels of "
            f"{samples.observed()} classes are not enough to train on",
        )
    clock = Clock(announce)
    with clock("predict"):
        outputs = session.network.predict(pool.unlabeled)
        if (readable := outputs.readable) is not None:
            outputs = outputs.take(readable)
        context = QueryContext(rng=rng, fusion_weights=session.state.fusion_weights)
        if len(pool.labeled):
            labeled = session.network.predict(pool.labeled)
            if (readable := labeled.readable) is not None:
                labeled = labeled.take(readable)
            context = replace(
                context,
                labeled_features=labeled.fused_features,
                labeled_modalities=labeled.features,
                labeled_present=labeled.present,
            )
    with clock("select"):
        need = min(need, len(outputs))
        cover = create("coreset").query(outputs.host(), context, need)
        ids = [str(i) for i in outputs.ids[cover.positions]]
    scores = [float(d) if np.isfinite(d) else 0.0 for d in cover.scores]
    return Asked(0, [*ids, *samples.wanted], list(samples.wanted), scores, clock.seconds, {}, {})


def _batch(project: Project, session: Session, samples: Samples, asked: Asked) -> LabelBatch:
    """The questions, with what the model says of each where there is one."""
    said = _opinions(project, session, samples, asked.ids)
    aside = set(asked.validation)
    scores = dict(zip((i for i in asked.ids if i not in aside), asked.scores, strict=True))
    position = {str(i): p for p, i in enumerate(samples.source.ids.tolist())}
    questions = []
    for rank, id_ in enumerate(asked.ids, start=1):
        shown = samples.source.shown(position[id_]) if id_ in position else {}
        difficulty, prediction, probability = said.get(id_, (None, None, None))
        questions.append(
            Question(
                id_,
                rank,
                purpose="validation" if id_ in aside else "train",
                score=scores.get(id_),
                difficulty=difficulty,
                prediction=prediction,
                probability=probability,
                texts={m: v for m, v in shown.items() if isinstance(v, str)},
                files={m: str(v) for m, v in shown.items() if not isinstance(v, str)},
            )
        )
    known = () if samples.dataset.classes[-1:] == ("??",) else samples.dataset.classes
    return LabelBatch(
        asked.round,
        known,
        open=not classes_are_given(project),
        weights=session.by_name(session.state.weights),
        questions=tuple(questions),
    )


_Opinion = tuple[float | None, str | None, float | None]


def _opinions(
    project: Project, session: Session, samples: Samples, ids: Sequence[str]
) -> dict[str, _Opinion]:
    """Difficulty (Eq 4), predicted class and its probability of samples, by the last round's model."""
    if project.rounds == 0:
        return {}
    restore(project, session, strategy=False, model=True)
    session.network.model.set_fusion_weights(session.state.fusion_weights)
    position = {str(i): p for p, i in enumerate(samples.dataset.ids.tolist())}
    here = [i for i in ids if i in position]
    outputs = session.network.predict(np.array([position[i] for i in here], dtype=np.int64))
    temperatures = session.state.temperatures
    u = to_host(efda.difficulty(outputs, session.state.weights, temperatures).fused)
    log_p = head_log_probs(
        outputs,
        predictor=session.config.predictor,
        temperatures=project.writable().records[-1].temperatures,
    )[MULTIMODAL]
    best = log_p.argmax(axis=1)
    classes = samples.dataset.classes
    return {
        i: (float(u[row]), classes[best[row]], float(np.exp(log_p[row, best[row]])))
        for row, i in enumerate(here)
    }
