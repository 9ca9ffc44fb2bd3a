"""A project's folder: a run folder with a log of labels and a pending batch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlmba import annotators, trust
from rlmba.annotators import Annotator
from rlmba.config import FREE_KEYS, RunConfig
from rlmba.data import MultimodalDataset
from rlmba.errors import RunFolderError, UsageError
from rlmba.learner.labels import own_labels
from rlmba.runfolder.code import code_of
from rlmba.runfolder.labels import LabelLog
from rlmba.runfolder.pending import PendingRound, read_pending
from rlmba.runfolder.store import RunStore, RunView, read_run, read_split
from rlmba.storage import is_plain_name
from rlmba.types import RoundRecord

__all__ = [
    "DECODED",
    "PROJECT_FREE_KEYS",
    "Project",
    "acts_of",
    "log_own_labels",
    "most_decoded",
    "open_project",
    "read_project",
    "written_by",
]

DECODED = "decoded"
"""Subfolder with the decoded media of a project whose encoders are trained; it can be deleted."""

PROJECT_FREE_KEYS = (
    *FREE_KEYS,
    "data",
    "data_root",
    "dataset_options",
    "batch_size",
    "rounds",
    "initial_labels",
    "budgets",
    "budgets_per_class",
    "validation_fraction",
)
"""Keys of a project's configuration that may be changed at any time."""


MANIFEST = "manifest"
"""Source, in the log, of labels that the data set itself has."""


@dataclass
class Project:
    """A project's folder, opened for writing by :func:`open_project` or read by :func:`read_project`."""

    path: Path
    config: RunConfig
    log: LabelLog
    records: list[RoundRecord]
    """Records of the complete rounds."""
    store: RunStore | None = None

    @property
    def rounds(self) -> int:
        """Number of complete rounds; the last one is ``rounds - 1``."""
        return len(self.records)

    @property
    def classes_are_given(self) -> bool:
        """Whether the classes are a given list; otherwise new names become classes."""
        return self.config.dataset_options.get("classes") is not None

    def writable(self) -> RunStore:
        """The run folder, if it is open for writing."""
        if self.store is None:
            raise RunFolderError(f"{self.path} is open for reading only; use open_project to write")
        return self.store

    def split(self) -> dict[str, list[str]]:
        """Ids of the initial validation set (``validation``) and labeled set (``initial``)."""
        return dict(read_split(self.path))

    def pending(self) -> PendingRound | None:
        """The last batch, if it has not been used for training yet."""
        pending = read_pending(self.path)
        # A crash just after a round was committed leaves its batch behind.
        return pending if pending and pending.ids and pending.round == self.rounds else None

    def annotator(self, name: str | None = None) -> Annotator:
        """The project's annotator, or the one with the given name.

        Raises
        ------
        UsageError
            If it is unknown, or an option is invalid.
        TrustError
            If its acts are not allowed by this user; its code is not imported then.
        """
        name, options = self._named(name)
        trust.require(self.path, annotators.acts(name, self.path, options))
        return annotators.create(name, self.path, options)

    def acts(self) -> list[str]:
        """Acts of the project outside its folder: those of annotators, files written, targets of links."""
        pending = self.pending()
        waiting = [pending.annotator] if pending and pending.annotator else []
        asked = dict.fromkeys((self.config.project.annotator, *waiting))
        acts = (annotators.acts(n, self.path, o) for n, o in map(self._named, asked))
        written = written_by(self.config, self.path)
        return list(dict.fromkeys([*itertools.chain(*acts), *written, *trust.links_out(self.path)]))

    def tickets(self) -> list[tuple[str, str]]:
        """Annotator and ticket of every requested batch, oldest first.

        Only built-in annotators and the project's own are considered; other folders are ignored.
        """
        built_in, own = annotators.BUILT_IN, self.config.project.annotator
        files = (self.path / "tickets").glob("*/round_*.json")
        found = {(p.parent.name, p.stem) for p in files if p.parent.name in (*built_in, own)}
        if own not in built_in:
            # It may store its tickets anywhere, but tickets with answers are in the log.
            sources = (answer.source.rpartition("/") for answer in self.log.answers)
            found |= {(own, t) for name, _, t in sources if name == own and is_plain_name(t)}
        if (pending := self.pending()) is not None and pending.ticket:
            found.add((pending.annotator, pending.ticket))
        return sorted(found, key=lambda t: (t[1], t[0]))

    def _named(self, name: str | None) -> tuple[str, dict[str, Any]]:
        """An annotator and its options; only the configured annotator has the configured options."""
        project = self.config.project
        if name is None or name == project.annotator:
            return project.annotator, project.annotator_options
        return name, {}


def written_by(config: RunConfig, folder: Path) -> list[str]:
    """What a configuration asks for: code to run, and folders elsewhere in which files are kept."""
    media = config.dataset_options.get("media")
    kept = {"features": config.model.features_folder, "media": media}
    return [*code_of(config), *folders_kept(kept, folder)]


def folders_kept(places: Mapping[str, Path | str | None], folder: Path) -> list[str]:
    """Acts of keeping files in places outside a folder, by what is kept there."""
    # Unlike an annotator's paths, these are relative to the working directory.
    real = {w: trust.outside(folder, Path.cwd() / str(p)) for w, p in places.items() if p}
    return [f"keep {what} in the folder {place!r}" for what, place in real.items() if place]


def acts_of(path: Path) -> list[str]:
    """Acts outside a folder that its files request, as :mod:`rlmba.trust` stores them.

    Raises
    ------
    UsageError
        If there is no such folder.
    RunFolderError
        If the folder is a damaged project's.
    """
    if not path.is_dir():
        raise UsageError(f"expected a folder, there is none at {path}")
    links = trust.links_out(path)
    if (path / "run.json").is_file():
        run = read_run(path)
        return (
            read_project(path).acts() if run.info.get("project") else [*code_of(run.config), *links]
        )
    from rlmba.learner.trained import EXPORTED, network_code

    return [*network_code(path), *links] if (path / EXPORTED).is_file() else links


def read_project(path: Path) -> Project:
    """Read a project, which another process may be writing.

    Raises
    ------
    RunFolderError
        If the folder is not a project's, or is damaged.
    """
    view = _viewed(path)
    return Project(path, view.config, LabelLog(path / "labels.jsonl"), view.records)


@contextlib.contextmanager
def open_project(path: Path) -> Iterator[Project]:
    """Open a project for writing, locked against other processes.

    Raises
    ------
    RunFolderError
        If the folder is not a project's, is damaged, or another process is writing it.
    TrustError
        If it would write files elsewhere and this user has not allowed it.
    """
    trust.require(path, written_by(_viewed(path).config, path))
    with RunStore.resume(path) as store:
        log = LabelLog(path / "labels.jsonl")
        yield Project(path, store.config, log, store.records, store)


def _viewed(path: Path) -> RunView:
    """Read the run folder of a project."""
    if not (path / "run.json").exists():
        raise RunFolderError(
            f"{path}: expected a project's folder, found {'none' if not path.exists() else 'another'}; "
            "create one with `rlmba init DIR --manifest FILE`"
        )
    view = read_run(path)
    if not view.info.get("project"):
        raise RunFolderError(
            f"{path}: expected a project, found a run of `rlmba run`, whose labels come from its data set; "
            "create a project with `rlmba init DIR --manifest FILE`"
        )
    return view


def most_decoded(config: RunConfig) -> int:
    """Bytes of decoded media that may be kept."""
    return round(config.project.decoded_gigabytes * 1e9)


def log_own_labels(log: LabelLog, source: MultimodalDataset) -> None:
    """Write the training labels of the data set itself that are new into the log."""
    own = own_labels(source)
    train = map(str, source.ids[source.train_positions])
    log.append(log.news(MANIFEST, {i: own[i] for i in train if i in own}))
