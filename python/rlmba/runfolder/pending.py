"""The pending round: a batch that has been chosen and has not been trained on yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rlmba.errors import RunFolderError
from rlmba.markup import command
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_text, is_plain_name

__all__ = [
    "PendingRound",
    "clear_pending",
    "pending_strategy_file",
    "read_pending",
    "write_pending",
]

_FILE, _STRATEGY = "pending.json", "pending.safetensors"
_EARLIER_FILE, _EARLIER_STRATEGY = "asked.json", "asked.safetensors"
"""Names of the batch and the strategy's state in folders of versions before 0.2."""


@dataclass(frozen=True)
class PendingRound:
    """A round whose batch is chosen and whose labels are not complete.

    Parameters
    ----------
    round : int
        The round's number, from 0.
    ids : list of str
        The samples to label, in the order chosen; those for the validation set come last.
    validation : list of str
        Those of ``ids`` whose labels go to the validation set.
    scores : list of float
        The strategy's scores of the other ids, in their order.
    seconds : mapping of str to float
        Seconds by stage so far, as in :class:`rlmba.types.RoundRecord`.
    select_seconds : mapping of str to float
        Seconds by stage of the selection.
    backends : mapping of str to str
        Which kernel backends served the selection.
    annotator, ticket : str
        Who has the batch, and under which ticket; "" before it was handed over.
    """

    round: int
    ids: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    seconds: Mapping[str, float] = field(default_factory=dict)
    select_seconds: Mapping[str, float] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    annotator: str = ""
    ticket: str = ""

    @property
    def score_of(self) -> dict[str, float]:
        """The strategy's score by id, of the samples that are to be trained on."""
        validation = set(self.validation)
        training = [i for i in self.ids if i not in validation]
        return dict(zip(training, self.scores, strict=True))


def read_pending(folder: Path) -> PendingRound | None:
    """The pending round of a run folder; None where there is none.

    Raises
    ------
    RunFolderError
        If its file is damaged.
    """
    path = folder / _FILE
    advice = f"delete it, and `{command('next', folder)}` chooses a batch or hands it over again"
    pending = find_json(path, PendingRound, advice=advice, error=RunFolderError)
    earlier = find_json(
        folder / _EARLIER_FILE, PendingRound, advice=advice, error=RunFolderError
    )
    if earlier is not None:
        # Earlier versions kept the batch and who has it in two files.
        handed = pending if pending is not None and pending.round == earlier.round else earlier
        pending = replace(earlier, annotator=handed.annotator, ticket=handed.ticket)
    if pending is None:
        return None
    if len(pending.scores) != len(pending.ids) - len(pending.validation):
        raise RunFolderError(
            f"{path} is damaged: expected a score of each of the {len(pending.ids)} ids outside the "
            f"validation set, found {len(pending.scores)}; {advice}"
        )
    for name in (pending.annotator, pending.ticket):
        if name and not is_plain_name(name) or bool(pending.annotator) != bool(pending.ticket):
            raise RunFolderError(
                f"{path}: expected an annotator and a ticket by name, got {pending.annotator!r:.200} and "
                f"{pending.ticket!r:.200}; {advice}"
            )
    return pending


def write_pending(folder: Path, pending: PendingRound) -> None:
    """Write a pending round, in place of the one that was there.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    atomic_write_text(folder / _FILE, json.dumps(asdict(pending), indent=1) + "\n")
    (folder / _EARLIER_FILE).unlink(missing_ok=True)


def pending_strategy_file(folder: Path) -> Path:
    """The file with what the strategy learns from once the pending round is labeled."""
    earlier = folder / _EARLIER_STRATEGY
    path = folder / _STRATEGY
    return earlier if earlier.exists() and not path.exists() else path


def clear_pending(folder: Path) -> None:
    """Forget the pending round: it has been trained on, or withdrawn."""
    for name in (_FILE, _EARLIER_FILE, _STRATEGY, _EARLIER_STRATEGY):
        (folder / name).unlink(missing_ok=True)
