"""Run folders below what a reader names: one run, or a tree of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlmba.errors import DataError, RunFolderError
from rlmba.experiments.bmmal import is_bmmal_run
from rlmba.reading.structured import find_json
from rlmba.runfolder.store import round_lines

__all__ = ["Found", "find_runs"]

# Round 0, shared by the strategies of a comparison: each of them has it as its own first round.
_SHARED = "round0"


@dataclass(frozen=True)
class Found:
    """Run folders, each once, and what was passed over: a line each."""

    runs: tuple[Path, ...]
    skipped: tuple[str, ...]


def find_runs(paths: Sequence[Path]) -> Found:
    """Find the run folders that are meant by ``paths``.

    Parameters
    ----------
    paths : sequence of Path
        Run folders, ours or of BMMAL's code, or folders that have some below, at any depth: there
        folders named ``round0`` are not looked into, and runs that failed (with a ``failure.json``) or
        have no complete round yet are passed over.

    Raises
    ------
    RunFolderError
        If a path is no folder, or neither is a run folder nor has any run below that can be reported.
    """
    runs: dict[Path, Path] = {}
    skipped: dict[str, None] = {}
    for path in paths:
        if not path.is_dir():
            raise RunFolderError(
                f"{path}: expected a run folder, or a folder that has some below, found none; give a "
                "folder made by `rlmba run` or `rlmba compare`"
            )
        if (path / "run.json").is_file() or is_bmmal_run(path):
            runs.setdefault(path.resolve(), path)
            continue
        count = 0
        for run in _below(path):
            reason = _unusable(run)
            count += reason is None
            if reason is None:
                runs.setdefault(run.resolve(), run)
            else:
                skipped[f"{run} {reason}"] = None
        if not count:
            why = "; ".join(skipped) or "it has no run.json, and no folder below it has one"
            raise RunFolderError(
                f"{path} is not a run folder and has none below that can be reported: {why}; give a "
                "folder made by `rlmba run` or `rlmba compare`"
            )
    return Found(tuple(runs.values()), tuple(skipped))


def _below(path: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(path):
        folder = Path(name)
        if "run.json" in files or "failure.json" in files or _of_bmmal(folder, folders):
            folders.clear()
            yield folder
        else:
            folders[:] = sorted(f for f in folders if f != _SHARED)


def _of_bmmal(folder: Path, folders: Sequence[str]) -> bool:
    return "version_0" in folders and is_bmmal_run(folder)


def _unusable(run: Path) -> str | None:
    """Say why a run cannot be reported; None where it can."""
    failure = run / "failure.json"
    if failure.is_file():
        try:
            said = find_json(failure, dict[str, str], advice="delete it") or {}
        except DataError:
            said = {}
        return f"failed: {said.get('error') or f'see {failure}'}"
    if is_bmmal_run(run):
        return None
    try:
        complete = bool(round_lines(run))
    except RunFolderError:
        complete = False
    return None if complete else "has no complete round yet"
