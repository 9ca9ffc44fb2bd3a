"""The run folder, which holds everything that a run writes. Killing a run loses at most one round.

A round exists exactly when its line in ``rounds.jsonl`` is complete. Its selection and its checkpoint are
written before that line, each file completely or not at all, so a line never refers to a missing file.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from rlmba import trust
from rlmba.config import RunConfig, dump_config
from rlmba.errors import RunFolderError, UsageError
from rlmba.markup import command
from rlmba.reading.structured import read_json
from rlmba.runfolder.code import code_of
from rlmba.runfolder.jsonlines import JsonLog
from rlmba.runfolder.settings import FORMAT, PATH_KEYS, RESTORE, read_config, read_info
from rlmba.storage import atomic_write_text, locked, make_folder
from rlmba.types import RoundRecord

__all__ = [
    "RunStore",
    "RunView",
    "Selected",
    "checkpoint_folder",
    "read_run",
    "read_selected",
    "read_split",
    "round_lines",
]


@dataclass(frozen=True)
class RunView:
    """The content of a run folder for reports; the run may still be in progress."""

    path: Path
    config: RunConfig
    records: list[RoundRecord]
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Selected:
    """The samples that a round labeled, in the order chosen."""

    ids: list[str]
    labels: list[int]
    scores: list[float]


def _dump_json(data: Any) -> str:
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def read_run(path: Path) -> RunView:
    """Read a run folder, finished or not, without locking it.

    Raises
    ------
    RunFolderError
        If it is not a run folder, has another format, or is damaged. A last line that is still being
        written is not damage.
    """
    path = Path(path)
    info = read_info(path)
    return RunView(path, read_config(path), _read_records(_rounds_log(path, info)), info)


def _rounds_log(path: Path, info: Mapping[str, Any]) -> JsonLog:
    project = info.get("project", False)
    again = command("collect", path) if project else command("run", "--resume", "--output", path)
    return JsonLog(
        path / "rounds.jsonl", repair=RESTORE, retry=f"free some space and continue with `{again}`"
    )


def _read_records(log: JsonLog) -> list[RoundRecord]:
    records = log.read(RoundRecord)
    for number, record in enumerate(records):
        if record.round != number:
            raise RunFolderError(
                f"{log.path}, line {number + 1}: expected round {number}, got {record.round}; the folder was "
                f"changed by hand: {RESTORE}"
            )
    return records


def checkpoint_folder(path: Path, round_number: int) -> Path:
    """The folder of a round's checkpoint within a run folder; only that of the last round exists."""
    return path / "checkpoints" / f"round_{round_number:03d}"


def round_lines(path: Path) -> list[bytes]:
    """The lines of a run folder's complete rounds in ``rounds.jsonl``, unparsed.

    Raises
    ------
    RunFolderError
        If the file cannot be read.
    """
    return _rounds_log(path, {}).lines()


def read_split(path: Path) -> Mapping[str, list[str]]:
    """The ids of a run's validation samples and of its initially labeled samples.

    Raises
    ------
    RunFolderError
        If ``split.json`` is missing or damaged.
    """
    file = path / "split.json"
    split = read_json(file, dict[str, list[str]], advice=RESTORE, error=RunFolderError)
    if not {"validation", "initial"} <= set(split):
        raise RunFolderError(f"{file} is damaged: expected validation and initial ids; {RESTORE}")
    return split


def read_selected(path: Path, round_number: int) -> Selected:
    """Return the samples that a complete round of a run labeled, in the order in which they were chosen.

    Raises
    ------
    RunFolderError
        If the file is missing or damaged.
    """
    file = path / "selected" / f"round_{round_number:03d}.json"
    found = read_json(file, Selected, advice=RESTORE, error=RunFolderError)
    if not len(found.ids) == len(found.labels) == len(found.scores):
        raise RunFolderError(
            f"{file} is damaged: {len(found.ids)} ids, but {len(found.labels)} labels and "
            f"{len(found.scores)} scores; {RESTORE}"
        )
    return found


class RunStore:
    """A run folder that is open for writing and locked against other processes.

    :meth:`create` and :meth:`resume` return it as a context manager.
    """

    def __init__(self, path: Path, config: RunConfig, info: Mapping[str, Any]) -> None:
        self.path = path
        self.config = config
        self.info = info
        self.records: list[RoundRecord] = []
        self._log = _rounds_log(path, info)

    @classmethod
    @contextlib.contextmanager
    def create(
        cls,
        path: Path,
        config: RunConfig,
        *,
        info: Mapping[str, Any],
        environment: Mapping[str, Any],
        split: Mapping[str, Sequence[str]],
    ) -> Iterator[RunStore]:
        """Start a new run in a folder that does not exist or is empty.

        The code that ``config`` names is allowed for the folder: whoever makes it has asked for that.

        Raises
        ------
        UsageError
            If the folder is not empty.
        StorageError
            If it cannot be written.
        TrustError
            If its sub-folders are links that lead out of it, and the user has not allowed that.
        """
        if path.exists() and (not path.is_dir() or not _only_leftovers(path)):
            if not (path / "run.json").exists():
                raise UsageError(
                    f"{path} already holds files that are not a run; give a new or empty folder"
                )
            raise UsageError(
                f"{path} already holds a run: add --resume to continue it, or give another --output"
            )
        make_folder(path)
        trust.require_inside(path)
        if code := code_of(config):
            trust.allow(path, [*code, *trust.links_out(path)])
        with locked(path, partial(_busy, path)):
            make_folder(path / "selected")
            make_folder(path / "checkpoints")
            atomic_write_text(path / "config.yaml", dump_config(config))
            atomic_write_text(path / "environment.json", _dump_json(environment))
            atomic_write_text(path / "split.json", _dump_json(split))
            full = {
                "format": FORMAT,
                **info,
                "folder": str(path.absolute()),
                "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
            # run.json is written last: a folder that has it has all the other files.
            atomic_write_text(path / "run.json", _dump_json(full))
            yield cls(path, config, full)

    @classmethod
    @contextlib.contextmanager
    def resume(cls, path: Path) -> Iterator[RunStore]:
        """Open an existing run. A torn last line of ``rounds.jsonl`` is removed.

        Raises
        ------
        RunFolderError
            If it is not a run folder, is damaged, or is being written by another process.
        TrustError
            If its sub-folders are links that lead out of it, and the user has not allowed that.
        """
        info = read_info(path)
        trust.require_inside(path)
        with locked(path, partial(_busy, path)):
            store = cls(path, read_config(path), info)
            store.records = _read_records(store._log)
            store._log.remove_torn_line()
            yield store

    def moved(self, config: RunConfig) -> None:
        """Store the present paths of the data in ``config.yaml``.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        update = {k: getattr(config, k) for k in (*PATH_KEYS, "dataset_options")}
        now = self.config.model_copy(update=update)
        if now != self.config:
            atomic_write_text(self.path / "config.yaml", dump_config(now))
            self.config, self.info = now, {**self.info, "folder": str(self.path.absolute())}
            atomic_write_text(self.path / "run.json", _dump_json(self.info))

    @property
    def training_file(self) -> Path:
        """The file with the state of the training in progress; it is deleted when the round is complete."""
        return self.path / "training.safetensors"

    def split(self) -> Mapping[str, list[str]]:
        """The ids of the validation samples and of the initially labeled samples."""
        return read_split(self.path)

    def set_validation(self, ids: Sequence[str]) -> None:
        """Store the ids of the validation samples."""
        split = {**self.split(), "validation": list(ids)}
        atomic_write_text(self.path / "split.json", _dump_json(split))

    def labeled(self) -> tuple[list[str], list[int]]:
        """The ids of all complete rounds in the order in which they were labeled, and their labels."""
        ids: list[str] = []
        labels: list[int] = []
        for record in self.records:
            some_ids, some_labels, _ = self.selected(record.round)
            ids += some_ids
            labels += some_labels
        return ids, labels

    def selected(self, round_number: int) -> tuple[list[str], list[int], list[float]]:
        """The ids, labels and scores of a round's samples; see :func:`read_selected`."""
        found = read_selected(self.path, round_number)
        return found.ids, found.labels, found.scores

    def checkpoint(self) -> Path:
        """The folder with the checkpoint of the last complete round.

        Raises
        ------
        RunFolderError
            If it is missing.
        """
        folder = checkpoint_folder(self.path, self.records[-1].round)
        if not folder.is_dir():
            raise RunFolderError(f"{folder} is missing: the run cannot be resumed; start a new one")
        return folder

    def commit(
        self,
        record: RoundRecord,
        *,
        ids: Sequence[str],
        labels: Sequence[int],
        scores: Sequence[float],
        save: Callable[[Path], None],
        earlier: Sequence[RoundRecord] = (),
    ) -> None:
        """Make a round permanent: write its selection, its checkpoint, and then its line.

        The previous checkpoint is deleted afterwards.

        Parameters
        ----------
        record : RoundRecord
        ids, labels, scores : sequences
            The samples that the round labeled, in the order chosen.
        save : callable
            Writes the checkpoint into the folder that it is given, each file completely or not at all.
        earlier : sequence of RoundRecord
            Rounds before it that become permanent together with it, without a checkpoint of their own.
            Their selections are written already, by :meth:`write_selected`.

        Raises
        ------
        StorageError
            If a file cannot be written; the earlier rounds are unchanged.
        """
        self.write_selected(record.round, ids=ids, labels=labels, scores=scores)
        folder = checkpoint_folder(self.path, record.round)
        make_folder(folder)
        save(folder)
        records = [*earlier, record]
        self._log.append(json.dumps(r.to_dict(), allow_nan=False) for r in records)
        self.records += records
        self.training_file.unlink(missing_ok=True)
        for old in (self.path / "checkpoints").glob("round_*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def write_selected(
        self,
        round_number: int,
        *,
        ids: Sequence[str],
        labels: Sequence[int],
        scores: Sequence[float],
    ) -> None:
        """Write the samples that a round labeled; they count once :meth:`commit` has written its line."""
        selection = {
            "round": round_number,
            "ids": list(ids),
            "labels": list(labels),
            "scores": list(scores),
        }
        name = f"round_{round_number:03d}.json"
        atomic_write_text(self.path / "selected" / name, _dump_json(selection))


def _only_leftovers(path: Path) -> bool:
    """Whether a folder is empty or holds only what :meth:`RunStore.create` writes before ``run.json``."""
    known = {"lock", "config.yaml", "environment.json", "split.json", "selected", "checkpoints"}
    return all(p.name in known or p.name.endswith(".tmp") for p in path.iterdir())


def _busy(path: Path, holder: str) -> RunFolderError:
    return RunFolderError(f"{path} is being written by {holder}; wait for it or stop it first")
