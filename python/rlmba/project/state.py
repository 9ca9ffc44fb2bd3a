"""The status of a project."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rlmba.errors import CheckpointError, RlmbaError
from rlmba.learner.state import read_classes
from rlmba.project.advice import Advice, advise
from rlmba.project.findings import has_learned
from rlmba.project.folder import Project, read_project
from rlmba.runfolder.store import checkpoint_folder
from rlmba.storage import holder
from rlmba.types import RoundRecord

__all__ = ["Status", "advice_of", "open_batch", "status"]

_NOTHING_LEARNED = (
    "The gain of further labels cannot be estimated while the network is no better than predicting one "
    "class: continue labeling."
)


@dataclass(frozen=True)
class Status:
    """The status of a project.

    Parameters
    ----------
    path : path
    records : list of RoundRecord
        Records of the complete rounds.
    by_class : mapping of class name to int
        Number of samples by current label, largest first; None counts samples marked "cannot tell".
    annotator : str
        Name of the annotator that has the open batch; "" if there is none.
    answered, asked : int
        Number of answers to the open batch so far, collected or not, and its size.
    trouble : str
        Why the annotator's answers could not be read; "" if they could.
    holder : str or None
        The process that is writing the folder.
    advice : Advice or None
        Whether another batch is worth its labels; None before round 0.
    target : int or None
        Number of labels outside the validation set after the next round, by ``budgets``; None without
        ``budgets``, or if its last count is reached.
    classes : tuple of str
        Names of the classes of the last round's network; empty if they are not known.
    """

    path: Path
    records: list[RoundRecord]
    by_class: dict[str | None, int]
    annotator: str
    answered: int
    asked: int
    trouble: str
    holder: str | None
    advice: Advice | None
    target: int | None
    classes: tuple[str, ...] = ()


def status(path: Path) -> Status:
    """Read the status of a project, which another process may be writing.

    Raises
    ------
    RunFolderError
        If the folder is not a project's, or is damaged.
    """
    project = read_project(path)
    records = project.records
    counts = Counter(project.log.current().values())
    name, answered, size, trouble = open_batch(project)
    return Status(
        path,
        records,
        dict(counts.most_common()),
        name,
        answered,
        size,
        trouble,
        holder(path),
        advice_of(project, records),
        _target(project, records),
        _trained_classes(project),
    )


def advice_of(project: Project, records: list[RoundRecord]) -> Advice | None:
    """Whether the next batch is worth its labels, by the validation curve; None without rounds."""
    if not records:
        return None
    import numpy as np

    heads = [r.validation.mm for r in records]
    sizes = np.array([r.validation.size for r in records], dtype=np.int64)
    correct = np.rint([h.top1 * n for h, n in zip(heads, sizes, strict=True)]).astype(np.int64)
    labels = np.array([r.labels for r in records], dtype=np.float64)
    if not has_learned(records[-1].validation):
        return Advice(0.0, 0.0, 0.0, 0.0, stop=False, text=_NOTHING_LEARNED)
    # After the last of `budgets`, the advice is about another batch of the last size.
    last = max(1, int(np.diff(labels, prepend=0)[-1]))
    return advise(labels, correct, sizes, batch=_next_size(project, records) or last)


def _next_size(project: Project, records: list[RoundRecord]) -> int:
    from rlmba.learner.query import batch_size

    return batch_size(project.config, _classes(project), len(records), records[-1].labels)


def _target(project: Project, records: list[RoundRecord]) -> int | None:
    counts = project.config.counts(_classes(project))
    if not counts or not records:
        return counts[0] if counts else None
    size = _next_size(project, records)
    return records[-1].labels + size if size else None


def _trained_classes(project: Project) -> tuple[str, ...]:
    """Names of the classes of the last round's network, which another process may be replacing."""
    if not project.rounds:
        return ()
    try:
        return tuple(read_classes(checkpoint_folder(project.path, project.rounds - 1)) or ())
    except CheckpointError:
        return ()


def _classes(project: Project) -> int:
    """Number of classes, given or known by labels."""
    given = project.config.dataset_options.get("classes")
    return len(given or {name for name in project.log.current().values() if name is not None})


def open_batch(project: Project) -> tuple[str, int, int, str]:
    """Annotator of the open batch, its answers so far, its size, and why they could not be read."""
    pending = project.pending()
    if pending is None or not pending.ticket:
        return "", 0, 0, ""
    name, ticket = pending.annotator, pending.ticket
    known = set(project.log.current())
    trouble = ""
    try:
        known |= set(project.annotator(name).collect(ticket))
    except RlmbaError as error:
        trouble = str(error)
    return name, len(known.intersection(pending.ids)), len(pending.ids), trouble
