"""A project's folder: a run folder that labels come into, and the batch that people have now."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rlmba import annotators
from rlmba.annotators import Annotator, Pending
from rlmba.config import FREE_KEYS, RunConfig
from rlmba.errors import RunFolderError
from rlmba.loop.store import RunStore, RunView, read_run, read_split
from rlmba.project.labels import LabelLog
from rlmba.reading.structured import find_json
from rlmba.storage import atomic_write_text

__all__ = ["PROJECT_FREE_KEYS", "Asked", "Project", "opened", "read"]

PROJECT_FREE_KEYS = (
    *FREE_KEYS,
    "data",
    "data_root",
    "dataset_options",
    "batch_size",
    "rounds",
    "initial_labels",
    "validation_fraction",
)
"""Keys of a project's configuration that may be changed at any time."""


@dataclass(frozen=True)
class Asked:
    """A batch that was chosen and has not been trained on.

    Parameters
    ----------
    round : int
        The round it belongs to.
    ids : list of str
        In the order chosen; samples of V last.
    validation : list of str
        Those of ``ids`` whose labels are for V.
    scores : list of float
        The strategy's, of ``ids`` that are not for V.
    seconds, select_seconds, backends : mapping
        As :class:`rlmba.types.RoundRecord` has them, so far.
    """

    round: int
    ids: list[str]
    validation: list[str]
    scores: list[float]
    seconds: Mapping[str, float]
    select_seconds: Mapping[str, float]
    backends: Mapping[str, str]


@dataclass
class Project:
    """A project's folder; made by :func:`opened` to write, by :func:`read` to look."""

    path: Path
    config: RunConfig
    log: LabelLog
    rounds: int
    """Complete rounds; the last one is ``rounds - 1``."""
    store: RunStore | None = None

    def writable(self) -> RunStore:
        """The run folder, where it is open for writing."""
        if self.store is None:
            raise RunFolderError(f"{self.path} is open for reading only")
        return self.store

    def split(self) -> dict[str, list[str]]:
        """Ids of V (``validation``), and of the samples that were labeled from the start (``initial``)."""
        return dict(read_split(self.path))

    def set_aside(self, validation: list[str]) -> None:
        """Make V these samples."""
        text = json.dumps({**self.split(), "validation": validation}, indent=1) + "\n"
        atomic_write_text(self.path / "split.json", text)

    def asked(self) -> Asked | None:
        """The batch that was chosen last, if it has not been trained on."""
        path = self.path / "asked.json"
        advice = "delete it, and `rlmba next` chooses a new batch"
        asked = find_json(path, Asked, advice=advice, error=RunFolderError)
        # A round that was committed just before a crash left its batch behind.
        return asked if asked is not None and asked.round == self.rounds else None

    def keep_asked(self, asked: Asked) -> None:
        """Write a batch down."""
        atomic_write_text(self.path / "asked.json", json.dumps(asdict(asked), indent=1) + "\n")

    @property
    def asked_strategy(self) -> Path:
        """What the strategy waits to learn from, after it has chosen."""
        return self.path / "asked.safetensors"

    def forget_asked(self) -> None:
        """The batch is trained on: nobody is to label it any more."""
        for name in ("pending.json", "asked.json", "asked.safetensors"):
            (self.path / name).unlink(missing_ok=True)

    def pending(self) -> tuple[str, str] | None:
        """Annotator and ticket of the batch that people have, if they have one."""
        if self.asked() is None:
            return None
        advice = "delete it and run `rlmba next` again"
        path = self.path / "pending.json"
        pending = find_json(path, Pending, advice=advice, error=RunFolderError)
        return None if pending is None else (pending.annotator, pending.ticket)

    def keep_pending(self, number: int, annotator: str, ticket: str) -> None:
        """Write down who has the batch."""
        text = json.dumps(asdict(Pending(number, annotator, ticket))) + "\n"
        atomic_write_text(self.path / "pending.json", text)

    def annotator(self, name: str | None = None) -> Annotator:
        """The project's annotator, or the one of that name.

        Raises
        ------
        UsageError
            If it is unknown, or an option is wrong.
        """
        chosen = self.config.project.annotator
        options = self.config.project.annotator_options if name in (None, chosen) else {}
        return annotators.create(name or chosen, self.path, options)

    def tickets(self) -> list[tuple[str, str]]:
        """Annotator and ticket of every batch that was ever asked for, oldest first."""
        found = (self.path / "tickets").glob("*/round_*.json")
        return sorted(((p.parent.name, p.stem) for p in found), key=lambda t: (t[1], t[0]))


def read(path: Path) -> Project:
    """A project to look at, while another process may be writing it.

    Raises
    ------
    RunFolderError
        If the folder is no project's, or damaged.
    """
    view = _viewed(path)
    return Project(path, view.config, LabelLog(path / "labels.jsonl"), len(view.records))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Project]:
    """A project to go on with, locked against other processes.

    Raises
    ------
    RunFolderError
        If the folder is no project's, damaged, or another process is writing it.
    """
    _viewed(path)
    with RunStore.resume(path) as store:
        log = LabelLog(path / "labels.jsonl")
        yield Project(path, store.config, log, len(store.records), store)


def _viewed(path: Path) -> RunView:
    """The run folder that a project is."""
    if not (path / "run.json").exists():
        raise RunFolderError(
            f"{path}: expected a project's folder, found {'none' if not path.exists() else 'another'}; make "
            "one with `rlmba init DIR --manifest FILE`"
        )
    view = read_run(path)
    if not view.info.get("project"):
        raise RunFolderError(
            f"{path} holds a run of `rlmba run`, whose labels come from its data set; expected a project, "
            "made by `rlmba init DIR --manifest FILE`"
        )
    return view
