"""The run folder: everything a run leaves on disk, written so that kill -9 loses at most a round.

A round exists exactly when its line in ``rounds.jsonl`` is complete. Its selection and checkpoint are
written before that line, each file whole or not at all, so a line never points at something missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rlmba import trust
from rlmba.config import RunConfig, dump_config, with_earlier_options, yaml12
from rlmba.errors import RunFolderError, StorageError, UsageError
from rlmba.reading.structured import read_json, read_json_lines, read_versioned
from rlmba.runfolder.code import code_of
from rlmba.storage import atomic_write_text, locked, make_folder, open_own
from rlmba.types import RoundRecord

__all__ = ["FORMAT", "RunStore", "RunView", "places", "read_run", "read_split"]

FORMAT = 1
_RESTORE = "restore it or start a new run"
_PATHS = ("data", "data_root", "initial_ids")
"""Keys of the configuration that are paths to what a run is made of."""


@dataclass(frozen=True)
class RunView:
    """A run folder as reports read it; the run may still be going on."""

    path: Path
    config: RunConfig
    records: list[RoundRecord]
    info: Mapping[str, Any]


class _Info(BaseModel, extra="allow"):
    """What readers look for in ``run.json``."""

    format: int
    rlmba: str = ""
    project: bool = False
    fingerprint: str = ""
    folder: str = ""


@dataclass(frozen=True)
class _Selected:
    """What a round has labeled, in the order chosen."""

    ids: list[str]
    labels: list[int]


def _dump_json(data: Any) -> str:
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _parse_lines(path: Path) -> tuple[list[RoundRecord], int]:
    """Complete records and the length in bytes they take; an incomplete last line is left out."""
    records, size = read_json_lines(path, RoundRecord, advice=_RESTORE, error=RunFolderError)
    for number, record in enumerate(records):
        if record.round != number:
            raise RunFolderError(
                f"{path}, line {number + 1}: expected round {number}, got {record.round}; "
                "the folder was changed by hand"
            )
    return records, size


def _read_info(path: Path) -> Mapping[str, Any]:
    if not path.is_dir():
        raise RunFolderError(
            f"{path}: expected a run folder, found none; give a folder made by `rlmba run`"
        )
    if not (path / "run.json").is_file():
        raise RunFolderError(
            f"{path} has no run.json: it is not a run folder; give a folder made by `rlmba run`"
        )
    info = read_versioned(
        path / "run.json",
        _Info,
        FORMAT,
        what="run folder",
        advice=_RESTORE,
        foreign="give a folder made by `rlmba run`",
        error=RunFolderError,
    )
    return info.model_dump(exclude_unset=True)


def _read_config(path: Path, info: Mapping[str, Any]) -> RunConfig:
    file = path / "config.yaml"
    try:
        values = yaml12.read(file, regular=True)
        if isinstance(values, dict):
            values = with_earlier_options(values)
        config = RunConfig.model_validate(values)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} is missing or damaged: {error}") from error
    return _placed(config, info.get("folder", ""), path)


def read_run(path: Path) -> RunView:
    """Read a run folder, finished or not, without locking it.

    Raises
    ------
    RunFolderError
        If it is no run folder, of another format, or damaged. A last line that is still being
        written is no damage.
    """
    path = Path(path)
    info = _read_info(path)
    records, _ = _parse_lines(path / "rounds.jsonl")
    return RunView(path, _read_config(path, info), records, info)


def read_split(path: Path) -> Mapping[str, list[str]]:
    """Ids of a run's validation and initial samples.

    Raises
    ------
    RunFolderError
        If ``split.json`` is missing or damaged.
    """
    file = path / "split.json"
    split = read_json(file, dict[str, list[str]], advice=_RESTORE, error=RunFolderError)
    if not {"validation", "initial"} <= set(split):
        raise RunFolderError(f"{file} is damaged: expected validation and initial ids; {_RESTORE}")
    return split


class RunStore:
    """A run folder opened for writing, locked against other processes.

    Use :meth:`create` or :meth:`resume` as a context manager.
    """

    def __init__(self, path: Path, config: RunConfig, info: Mapping[str, Any]) -> None:
        self.path = path
        self.config = config
        self.info = info
        self.records: list[RoundRecord] = []

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
        """A new run in a folder that does not exist or is empty.

        The code that ``config`` names is allowed for the folder: whoever makes it has asked for that.

        Raises
        ------
        UsageError
            If the folder holds something.
        StorageError
            If it cannot be written.
        """
        if path.exists() and (not path.is_dir() or not _only_leftovers(path)):
            if not (path / "run.json").exists():
                raise UsageError(
                    f"{path} already holds files that are not a run; give a folder that is new or empty"
                )
            raise UsageError(
                f"{path} already holds a run: add --resume to go on with it, or give another --output"
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
            # Written last: a folder with run.json has all the rest.
            atomic_write_text(path / "run.json", _dump_json(full))
            yield cls(path, config, full)

    @classmethod
    @contextlib.contextmanager
    def resume(cls, path: Path) -> Iterator[RunStore]:
        """An existing run; a torn last line of ``rounds.jsonl`` is cut off.

        Raises
        ------
        RunFolderError
            If it is no run folder, damaged, or another process is writing it.
        TrustError
            If its sub-folders are links that lead out of it, and its user has not allowed that.
        """
        info = _read_info(path)
        trust.require_inside(path)
        with locked(path, partial(_busy, path)):
            store = cls(path, _read_config(path, info), info)
            store.records, end = _parse_lines(path / "rounds.jsonl")
            _cut(path / "rounds.jsonl", end)
            yield store

    def moved(self, config: RunConfig) -> None:
        """Keep where the data are now: the next time they are looked for there.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        update = {k: getattr(config, k) for k in (*_PATHS, "dataset_options")}
        now = self.config.model_copy(update=update)
        if now != self.config:
            atomic_write_text(self.path / "config.yaml", dump_config(now))
            self.config, self.info = now, {**self.info, "folder": str(self.path.absolute())}
            atomic_write_text(self.path / "run.json", _dump_json(self.info))

    @property
    def training_file(self) -> Path:
        """Where the training of the round in flight is saved; gone once the round is complete."""
        return self.path / "training.safetensors"

    def split(self) -> Mapping[str, list[str]]:
        """Ids of the validation and initial samples."""
        return read_split(self.path)

    def labeled(self) -> tuple[list[str], list[int]]:
        """Ids in the order they were labeled and their labels, over all complete rounds."""
        ids: list[str] = []
        labels: list[int] = []
        for record in self.records:
            file = self.path / "selected" / f"round_{record.round:03d}.json"
            selected = read_json(file, _Selected, advice=_RESTORE, error=RunFolderError)
            if len(selected.ids) != len(selected.labels):
                raise RunFolderError(
                    f"{file} is damaged: {len(selected.ids)} ids, but {len(selected.labels)} labels; "
                    f"{_RESTORE}"
                )
            ids += selected.ids
            labels += selected.labels
        return ids, labels

    def checkpoint(self) -> Path:
        """Folder with the checkpoint of the last complete round.

        Raises
        ------
        RunFolderError
            If there is none.
        """
        folder = self._checkpoint_folder(self.records[-1].round)
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
    ) -> None:
        """Make a round permanent: selection, checkpoint, then its line; then drop the older checkpoint.

        Parameters
        ----------
        record : RoundRecord
        ids, labels, scores : sequences
            The samples it labeled, in the order chosen.
        save : callable
            Writes the checkpoint into the folder it is given, each file whole or not at all.

        Raises
        ------
        StorageError
            If something could not be written; the rounds before are unharmed.
        """
        selection = {
            "round": record.round,
            "ids": list(ids),
            "labels": list(labels),
            "scores": list(scores),
        }
        name = f"round_{record.round:03d}.json"
        atomic_write_text(self.path / "selected" / name, _dump_json(selection))
        folder = self._checkpoint_folder(record.round)
        make_folder(folder)
        save(folder)
        self._append(json.dumps(record.to_dict(), allow_nan=False) + "\n")
        self.records.append(record)
        self.training_file.unlink(missing_ok=True)
        for old in (self.path / "checkpoints").glob("round_*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def _checkpoint_folder(self, round_number: int) -> Path:
        return self.path / "checkpoints" / f"round_{round_number:03d}"

    def _append(self, line: str) -> None:
        path = self.path / "rounds.jsonl"
        before = path.stat().st_size if path.exists() else 0
        try:
            with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as log:
                log.write(line.encode())
                log.flush()
                os.fsync(log.fileno())
        except StorageError:
            raise
        except OSError as error:
            with contextlib.suppress(OSError):
                _cut(path, before)
            raise StorageError(
                f"could not append to {path} ({error.strerror or error}); earlier rounds are unharmed: free "
                f"some space and go on with `rlmba run --resume --output {self.path}`"
            ) from error


def _cut(log: Path, end: int) -> None:
    """Cut off what a log has beyond its complete lines."""
    if not log.exists():
        return
    descriptor = open_own(log, os.O_WRONLY)
    try:
        if os.fstat(descriptor).st_size > end:
            os.ftruncate(descriptor, end)
    finally:
        os.close(descriptor)


def places(config: RunConfig) -> dict[str, Path]:
    """Paths to what a run is made of, by key of the configuration, as far as they are given."""
    return {k: p for k in _PATHS if (p := getattr(config, k)) is not None}


def _placed(config: RunConfig, was: str, path: Path) -> RunConfig:
    """The configuration with paths of what was moved along with the folder, which was at ``was`` before."""
    here = path.absolute()
    if was in ("", str(here)):
        return config

    def along(place: Path, *, gone: bool) -> Path:
        moved = Path(os.path.normpath(here / os.path.relpath(place, was)))
        stays = not place.is_absolute() or (gone and place.exists()) or not moved.exists()
        return place if stays else moved

    # What a run is compared with is its own copy even where the original is still there.
    curves = [along(p, gone=False) for p in config.reward.curves]
    update: dict[str, Any] = {k: along(p, gone=True) for k, p in places(config).items()}
    update["reward"] = config.reward.model_copy(update={"curves": curves})
    options = dict(config.strategy_options)
    if isinstance(policy := options.get("policy_file"), str):
        options["policy_file"] = str(along(Path(policy), gone=True))
    return config.model_copy(update={**update, "strategy_options": options})


def _only_leftovers(path: Path) -> bool:
    """Whether a folder is empty or holds just what :meth:`RunStore.create` writes before run.json."""
    known = {"lock", "config.yaml", "environment.json", "split.json", "selected", "checkpoints"}
    return all(p.name in known or p.name.endswith(".tmp") for p in path.iterdir())


def _busy(path: Path, holder: str) -> RunFolderError:
    return RunFolderError(f"{path} is being written by {holder}; wait for it or stop it first")
