"""How a project stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rlmba.errors import RlmbaError
from rlmba.project.advice import Advice, advise
from rlmba.project.folder import Project, read_project
from rlmba.storage import holder
from rlmba.types import RoundRecord

__all__ = ["Status", "advice_of", "open_batch", "status"]


@dataclass(frozen=True)
class Status:
    """How a project stands.

    Parameters
    ----------
    path : path
    records : list of RoundRecord
        Of the complete rounds.
    by_class : mapping of class name to int
        Samples that have each label now, most first; those that cannot be told under None.
    annotator : str
        Who has the open batch; "" where there is none.
    answered, asked : int
        Answers to the open batch so far, collected or not, and its size.
    trouble : str
        Why the annotator's answers could not be looked at; "".
    holder : str or None
        Which process is writing the folder.
    advice : Advice or None
        Whether another batch is worth it; None before round 0.
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


def status(path: Path) -> Status:
    """Look at a project, which another process may be writing.

    Raises
    ------
    RunFolderError
        If the folder is no project's, or damaged.
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
    )


def advice_of(project: Project, records: list[RoundRecord]) -> Advice | None:
    """Whether the next batch is worth it, from the curve on the validation set; None without rounds."""
    if not records:
        return None
    import numpy as np

    from rlmba.learner.query import batch_size

    heads = [r.validation.mm for r in records]
    sizes = np.array([r.validation.size for r in records], dtype=np.int64)
    correct = np.rint([h.top1 * n for h, n in zip(heads, sizes, strict=True)]).astype(np.int64)
    labels = np.array([r.labels for r in records], dtype=np.float64)
    given = project.config.dataset_options.get("classes")
    known = given or {name for name in project.log.current().values() if name is not None}
    return advise(labels, correct, sizes, batch=batch_size(project.config, len(known)))


def open_batch(project: Project) -> tuple[str, int, int, str]:
    """Who has the open batch, answers to it so far, its size, and why they could not be looked at."""
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
