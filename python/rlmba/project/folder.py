"""A project's folder: a run folder that labels come into, and the batch that people have now."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlmba import annotators, trust
from rlmba.annotators import Annotator, Pending
from rlmba.config import FREE_KEYS, RunConfig
from rlmba.errors import RunFolderError, UsageError
from rlmba.markup import command
from rlmba.reading.structured import find_json
from rlmba.runfolder.code import code_of
from rlmba.runfolder.labels import LabelLog
from rlmba.runfolder.store import RunStore, RunView, read_run, read_split
from rlmba.storage import atomic_write_text, is_plain_name

__all__ = ["PROJECT_FREE_KEYS", "Asked", "Project", "acts_of", "opened", "read", "written_by"]

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
        path = self.path / "pending.json"
        advice = f"delete it, and hand the batch over again with `{command('next', self.path)}`"
        pending = find_json(path, Pending, advice=advice, error=RunFolderError)
        if pending is None:
            return None
        if not (is_plain_name(pending.annotator) and is_plain_name(pending.ticket)):
            raise RunFolderError(
                f"{path}: expected an annotator and a ticket by name, got {pending.annotator!r:.200} and "
                f"{pending.ticket!r:.200}; {advice}"
            )
        return pending.annotator, pending.ticket

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
        TrustError
            If it does what this user has not allowed; nothing of it was imported.
        """
        name, options = self._named(name)
        trust.require(self.path, annotators.acts(name, self.path, options))
        return annotators.create(name, self.path, options)

    def acts(self) -> list[str]:
        """What the project does beyond its folder: its annotators' acts, what it writes, where links lead."""
        asked = dict.fromkeys((self.config.project.annotator, *(self.pending() or ())[:1]))
        acts = (annotators.acts(n, self.path, o) for n, o in map(self._named, asked))
        written = written_by(self.config, self.path)
        return list(dict.fromkeys([*itertools.chain(*acts), *written, *trust.links_out(self.path)]))

    def tickets(self) -> list[tuple[str, str]]:
        """Annotator and ticket of every batch that was ever asked for, oldest first.

        Of the annotators that come with this package, and of the project's own: another name of a
        folder names nobody.
        """
        built_in, own = annotators.BUILT_IN, self.config.project.annotator
        files = (self.path / "tickets").glob("*/round_*.json")
        found = {(p.parent.name, p.stem) for p in files if p.parent.name in (*built_in, own)}
        if own not in built_in:
            # It may keep its tickets anywhere: those that have answers are known from the log.
            sources = (answer.source.rpartition("/") for answer in self.log.answers)
            found |= {(own, t) for name, _, t in sources if name == own and is_plain_name(t)}
        if (pending := self.pending()) is not None:
            found.add(pending)
        return sorted(found, key=lambda t: (t[1], t[0]))

    def _named(self, name: str | None) -> tuple[str, dict[str, Any]]:
        """An annotator and its options; those of the configuration are of the one it names."""
        project = self.config.project
        if name is None or name == project.annotator:
            return project.annotator, project.annotator_options
        return name, {}


def written_by(config: RunConfig, folder: Path) -> list[str]:
    """What a configuration asks for: code to run, and folders elsewhere in which files are kept."""
    media = config.dataset_options.get("media")
    kept = {"features": config.model.features_folder, "media": media}
    found = code_of(config)
    for what, place in kept.items():
        # Unlike an annotator's, these paths count from the current folder.
        if place and (real := trust.outside(folder, Path.cwd() / str(place))) is not None:
            found.append(f"keep {what} in the folder {real!r}")
    return found


def acts_of(path: Path) -> list[str]:
    """What the files of any folder ask for beyond it, as :mod:`rlmba.trust` keeps it.

    Raises
    ------
    UsageError
        If there is no such folder.
    RunFolderError
        If it is a damaged project's.
    """
    if not path.is_dir():
        raise UsageError(f"expected a folder, there is none at {path}")
    links = trust.links_out(path)
    if (path / "run.json").is_file():
        run = read_run(path)
        return read(path).acts() if run.info.get("project") else [*code_of(run.config), *links]
    from rlmba.learner.trained import EXPORTED, network_code

    return [*network_code(path), *links] if (path / EXPORTED).is_file() else links


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
    TrustError
        If files would be written elsewhere, and its user has not allowed it.
    """
    trust.require(path, written_by(_viewed(path).config, path))
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
