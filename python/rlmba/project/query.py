"""The first half of a project's round: choose a batch and hand it to the annotator."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rlmba.annotators.base import Annotator, ShowsEarlierQuestions
from rlmba.learner import ActiveLearner
from rlmba.learner.query import Announce, NothingToAsk
from rlmba.learner.rounds import silent
from rlmba.project.folder import Project
from rlmba.project.learner import opened_learner
from rlmba.runfolder.batches import LabelBatch
from rlmba.runfolder.pending import PendingRound

__all__ = ["Query", "ask"]


@dataclass(frozen=True)
class Query:
    """What :func:`ask` did.

    Parameters
    ----------
    annotator, ticket : str
        Who has the batch, and under which ticket; "" where there is no batch.
    batch : LabelBatch or None
        None where there is nothing to ask.
    repeated : bool
        The batch was already pending and was handed over again.
    ready : bool
        There is nothing to ask because the labels are enough to train on at once.
    why : str
        Why there is nothing to ask.
    """

    annotator: str = ""
    ticket: str = ""
    batch: LabelBatch | None = None
    repeated: bool = False
    ready: bool = False
    why: str = ""


def ask(project: Project, announce: Announce = silent) -> Query:
    """Choose the next batch and hand it to the annotator; a pending batch is handed over again.

    Parameters
    ----------
    project : Project
        Opened to write.
    announce : callable
        Called with the name of each stage as it begins.

    Raises
    ------
    AnnotatorError
        If the annotator cannot be asked. The batch is kept: ask again.
    DataError, UsageError, CheckpointError
        If the data cannot be used, or the folder's model does not fit the configuration.
    """
    name = project.config.project.annotator
    annotator = project.annotator()  # its options are checked before any work
    with opened_learner(project, announce) as learner:
        repeated = learner.pending is not None
        pending = learner.pending or learner.propose(announce=announce)
        if isinstance(pending, NothingToAsk):
            return Query(ready=pending.ready, why=pending.why)
        if not repeated:
            learner.keep_pending(pending)
        announce("asking for labels")
        batch = learner.batch(pending, leftovers=_leftovers(annotator, learner, pending))
        ticket = annotator.request(batch)
        learner.keep_pending(replace(pending, annotator=name, ticket=ticket))
    return Query(name, ticket, batch, repeated)


def _leftovers(annotator: Annotator, learner: ActiveLearner, pending: PendingRound) -> list[str]:
    """Ids of earlier questions that the annotator still shows and nobody has answered."""
    if not isinstance(annotator, ShowsEarlierQuestions):
        return []
    asked = set(pending.ids)
    return [i for i in annotator.asked() if i not in asked and i not in learner.labels.answers]
