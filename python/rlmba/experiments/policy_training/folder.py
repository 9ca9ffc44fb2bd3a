"""The folder of a policy training: its checkpoint, the policy, and the curve of the return."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from rlmba import trust
from rlmba.errors import CheckpointError, RunFolderError, UsageError
from rlmba.reading.arrays import read_tensors
from rlmba.reading.structured import parse_json
from rlmba.storage import atomic_write_bytes, atomic_write_text, locked, make_folder
from rlmba.tables import csv_text

__all__ = ["FREE", "TrainingFolder", "TrainingProgress"]

FORMAT = 1
FREE = ("episodes", "patience")
"""Settings that may change when a training is resumed."""

_FIGURES = ("step", "episodes", "return", "moving_return", "entropy", "gradient_norm")
"""Numbers of a step in the history, which also has the returns by task: ``returns``."""

_Arrays = dict[str, NDArray[Any]]


@dataclass
class TrainingProgress:
    """The state of a training between two steps.

    Attributes
    ----------
    history : list of mappings
        One per step: ``step``, ``episodes`` so far, ``return`` (mean reward per round over all episodes
        of the step), ``moving_return``, ``returns`` by task, ``entropy``, ``gradient_norm``.
    agent : mapping of name to array
        The agent's state.
    best : mapping of name to array
        The state with the highest moving return; empty before there is one.
    moving : mapping of task to float64 array [T]
        The moving baselines.
    """

    agent: _Arrays
    history: list[dict[str, Any]] = field(default_factory=list)
    best: _Arrays = field(default_factory=dict)
    moving: _Arrays = field(default_factory=dict)


class TrainingFolder:
    """The folder of a training, which is resumed from ``checkpoint.safetensors`` alone.

    The checkpoint is replaced atomically after each step, so that a killed training loses at most the
    current step. The other files are derived from it.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(dict(identity)))

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, path: Path, identity: Mapping[str, Any], *, resume: bool
    ) -> Iterator[tuple[TrainingFolder, TrainingProgress | None]]:
        """Open the folder of a new training, or of one to resume with its progress.

        Raises
        ------
        UsageError
            If it contains something and ``resume`` is false.
        RunFolderError
            If it contains a different training, or another process is writing to it.
        CheckpointError
            If its checkpoint is damaged.
        """
        file = path / "checkpoint.safetensors"
        if not resume and path.exists() and (not path.is_dir() or _taken(path)):
            what = "a training" if file.exists() else "files that are not a training"
            raise UsageError(
                f"{path} already contains {what}; add --resume to continue it, or give another --output"
            )
        make_folder(path)
        trust.require_inside(path)
        with locked(path, lambda holder: _busy(path, holder)):
            folder = cls(path, identity)
            yield folder, folder._read(file) if file.exists() else None

    def keep(self, progress: TrainingProgress) -> None:
        """Write the checkpoint, then the curve.

        Raises
        ------
        StorageError
            If it cannot be written; the previous checkpoint is unharmed.
        """
        arrays = {f"agent.{k}": a for k, a in progress.agent.items()}
        arrays |= {f"best.{k}": a for k, a in progress.best.items()}
        arrays |= {f"moving.{k}": a for k, a in progress.moving.items()}
        metadata = {
            "rlmba_policy_training": str(FORMAT),
            "identity": json.dumps(self.identity),
            "history": json.dumps(progress.history),
        }
        contiguous = {k: np.ascontiguousarray(a) for k, a in arrays.items()}
        atomic_write_bytes(self.path / "checkpoint.safetensors", save(contiguous, metadata))
        atomic_write_text(self.path / "returns.csv", curve(progress.history))

    def _read(self, file: Path) -> TrainingProgress:
        what, advice = "the checkpoint of a training", "restore it, or give another --output"
        metadata, arrays = read_tensors(file, "np", what=what, advice=advice, error=CheckpointError)
        if (number := metadata.get("rlmba_policy_training")) != str(FORMAT):
            found = f"format {number}" if number else "another file"
            raise CheckpointError(f"{file}: expected {what}, found {found}; {advice}")

        def parsed(key: str, type_: Any) -> Any:
            text, place = metadata.get(key, ""), f"{file}: its {key}"
            return parse_json(
                text, type_, place, advice=advice, error=CheckpointError, finite=False
            )

        history = parsed("history", list[dict[str, int | float | dict[str, float]]])
        identity = parsed("identity", dict[str, Any])
        if not all(map(_is_step, history)):
            raise CheckpointError(
                f"{file}: its history is damaged: expected {', '.join(_FIGURES)} of each step; {advice}"
            )
        differing = _differing(identity, self.identity)
        if differing:
            raise RunFolderError(
                f"{self.path} contains a different training: {'; '.join(differing)}. Resume it with its own "
                "settings, or start in another --output"
            )

        def part(prefix: str) -> _Arrays:
            return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}

        return TrainingProgress(part("agent."), history, part("best."), part("moving."))


def curve(history: list[dict[str, Any]]) -> str:
    """Format the history as CSV, with one column for the return of each task."""
    tasks = sorted(history[0]["returns"]) if history else []
    return csv_text(
        [*_FIGURES, *(f"return:{task}" for task in tasks)],
        (
            [*(row[k] for k in _FIGURES), *(row["returns"][task] for task in tasks)]
            for row in history
        ),
    )


def _is_step(row: Mapping[str, Any]) -> bool:
    numbers = all(isinstance(row.get(key), int | float) for key in _FIGURES)
    return numbers and isinstance(row.get("returns"), dict)


def _taken(path: Path) -> bool:
    return any(p.name != "lock" and not p.name.endswith(".tmp") for p in path.iterdir())


def _busy(path: Path, holder: str) -> RunFolderError:
    return RunFolderError(f"{path} is being written by {holder}; wait for it or stop it first")


def _differing(stored: Any, given: Any, key: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(given, dict):
        return [
            text
            for k in sorted({*stored, *given})
            if f"{key}{k}" not in {f"settings.{free}" for free in FREE}
            for text in _differing(stored.get(k), given.get(k), f"{key}{k}.")
        ]
    return [] if stored == given else [f"{key[:-1]} was {stored!r} and is now {given!r}"]
