"""Find and read the run folders that the user names, singly or as a tree of folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlmba.errors import DataError, RunFolderError
from rlmba.experiments.curves import group_runs
from rlmba.experiments.foreign import group_bmmal, is_bmmal_run, read_bmmal_run
from rlmba.experiments.group import Group
from rlmba.progress import counted
from rlmba.reading.structured import find_json
from rlmba.runfolder.store import round_lines

__all__ = ["FoundRuns", "find_runs", "read_groups"]

# The round 0 that the strategies of a comparison share: each of their runs contains it already.
_SHARED = "round0"


@dataclass(frozen=True)
class FoundRuns:
    """Run folders without duplicates, and one line for each run that was skipped."""

    runs: tuple[Path, ...]
    skipped: tuple[str, ...]


def find_runs(paths: Sequence[Path]) -> FoundRuns:
    """Find the run folders at or below ``paths``.

    Parameters
    ----------
    paths : sequence of Path
        Run folders of rlmba or of BMMAL's code, or folders that contain some at any depth. In the latter,
        folders named ``round0`` are not searched, and runs that failed (with a ``failure.json``) or have
        no complete round yet are skipped.

    Raises
    ------
    RunFolderError
        If a path is not a folder, or contains no run that can be reported.
    """
    runs: dict[Path, Path] = {}
    skipped: dict[str, None] = {}
    for path in paths:
        if not path.is_dir():
            raise RunFolderError(
                f"{path}: expected a run folder or a folder that contains some, found no folder; give a "
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
            why = "; ".join(skipped) or "neither it nor a folder below it has a run.json"
            raise RunFolderError(
                f"{path} is not a run folder and contains none that can be reported: {why}; give a "
                "folder made by `rlmba run` or `rlmba compare`"
            )
    return FoundRuns(tuple(runs.values()), tuple(skipped))


def read_groups(paths: Sequence[Path], *, strict: bool = False) -> list[Group]:
    """Read run folders of rlmba and of BMMAL's code into groups.

    Parameters
    ----------
    paths : sequence of path
    strict : bool
        Passed to :func:`~rlmba.experiments.group_runs`; applies to the runs of rlmba.

    Returns
    -------
    list of Group
        Ordered by data set, then runs of rlmba first, then by first appearance.

    Raises
    ------
    RunFolderError
        If a folder is neither, or is damaged.
    UsageError
        If there is no folder, a seed appears twice, or a folder of BMMAL's code does not say what it holds.
    """
    from rlmba.runfolder.store import read_run

    foreign = [path for path in map(Path, paths) if is_bmmal_run(path)]
    own = [path for path in map(Path, paths) if path not in foreign]
    groups = (
        group_runs(
            [read_run(path) for path in counted("reading the runs", own, len(own))], strict=strict
        )
        if own or not foreign
        else []
    )
    others = [read_bmmal_run(path) for path in counted("reading the runs", foreign, len(foreign))]
    groups += group_bmmal(others, datasets=[group.dataset for group in groups])
    return sorted(groups, key=lambda group: group.dataset)


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
    """Say why a run cannot be reported; None if it can."""
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
