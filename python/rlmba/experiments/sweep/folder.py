"""The folder of a comparison: its plan, and the progress of each run.

``sweep.yaml`` holds the request and the configurations of all runs: the values that all share, stored
once, and for each strategy on a data set the values that differ.
"""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

import rlmba
from rlmba import trust
from rlmba.config import FREE_KEYS, PLACES, flat, is_among, yaml12
from rlmba.errors import DataError, RunFolderError, UsageError
from rlmba.experiments.sweep.plan import SweepPlan
from rlmba.experiments.sweep.schema import SweepConfig, load_sweep
from rlmba.experiments.sweep.variants import PlannedRun, code_of_sweep
from rlmba.reading.structured import parse_json, said
from rlmba.runfolder.code import code_of
from rlmba.runfolder.store import round_lines
from rlmba.storage import atomic_write_text, locked, make_folder
from rlmba.types import MULTIMODAL

__all__ = [
    "LatestFigures",
    "RunFailure",
    "clear_failure",
    "drop_model",
    "latest_figures",
    "open_folder",
    "stored_code",
    "stored_sweep",
    "write_failure",
]

FORMAT = 1
_FILE = "sweep.yaml"
_UNCOMPARED = {*FREE_KEYS, *PLACES}


class _StoredRuns(BaseModel):
    """The values in which a strategy on a data set differs from the common ones."""

    seeds: list[int]
    own: dict[str, Any]


class _SweepFile(BaseModel):
    """The file ``sweep.yaml``."""

    format: int
    rlmba: str = ""
    sweep: dict[str, Any]
    data: dict[str, str]
    common: dict[str, Any]
    runs: dict[str, _StoredRuns]


@contextlib.contextmanager
def open_folder(output: Path, plan: SweepPlan, *, resume: bool) -> Iterator[None]:
    """Lock a comparison's folder and write the plan into it.

    Raises
    ------
    UsageError
        If the folder holds something else; if it holds a comparison and ``resume`` is false; or if
        ``plan`` does not contain all runs of that comparison, unchanged.
    RunFolderError
        If another process is writing to it, or its plan is damaged.
    StorageError
        If it cannot be written.
    """
    stored = _read(output)
    if stored is None and output.exists():
        known = {"lock"}
        if not output.is_dir() or any(p.name not in known for p in output.iterdir()):
            raise UsageError(
                f"{output} already contains files that are not a comparison; give another --output"
            )
    if stored is not None and not resume:
        raise UsageError(
            f"{output} already contains a comparison; add --resume to continue it, or give another "
            "--output"
        )
    fresh = _contents(plan)
    if stored is not None:
        _check_continues(stored, fresh, output)
    make_folder(output)
    trust.require_inside(output)
    named = list(dict.fromkeys(act for job in plan.runs for act in code_of(job.config)))
    if named:  # typed by the user, or read from the folder by stored_sweep, which asks for it
        trust.allow(output, [*named, *trust.links_out(output)])
    with locked(output, lambda holder: _busy(output, holder)):
        atomic_write_text(output / _FILE, yaml12.dump(fresh))
        yield


def stored_sweep(output: Path) -> SweepConfig | None:
    """Read the request that a comparison's folder stores; None if there is none.

    Raises
    ------
    RunFolderError
        If it is damaged.
    TrustError
        If it names code that this user has not allowed for the folder; nothing of it was imported.
    """
    if (sweep := _stored_config(output)) is not None:
        trust.require(output, stored_code(output))
    return sweep


def stored_code(output: Path) -> list[str]:
    """What a comparison's folder asks to run, as :mod:`rlmba.trust` keeps it.

    Raises
    ------
    RunFolderError
        If it is damaged.
    """
    sweep = _stored_config(output)
    with _damage(output):
        return [] if sweep is None else code_of_sweep(sweep)


def _stored_config(output: Path) -> SweepConfig | None:
    stored = _read(output)
    with _damage(output):
        return None if stored is None else load_sweep(stored["sweep"])


@contextlib.contextmanager
def _damage(output: Path) -> Iterator[None]:
    """Report a wrong setting in a block as damage to the folder."""
    try:
        yield
    except UsageError as error:
        raise RunFolderError(
            f"{output / _FILE} is damaged ({error}); give another --output"
        ) from error


def _busy(output: Path, holder: str) -> RunFolderError:
    return RunFolderError(f"{output} is being written by {holder}; wait for it or stop it first")


def _read(output: Path) -> dict[str, Any] | None:
    file = output / _FILE
    try:
        stored = yaml12.read(file, regular=True)
        if stored["format"] != FORMAT:
            raise RunFolderError(
                f"{file}: expected format {FORMAT}, found {stored['format']}; use the version of rlmba "
                f"that wrote it ({stored.get('rlmba', 'unknown')})"
            )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunFolderError(f"{file} cannot be read ({error}); give another --output") from error
    except (UsageError, KeyError, TypeError) as error:
        raise RunFolderError(f"{file} is damaged ({error}); give another --output") from error
    try:
        return _SweepFile.model_validate(stored, strict=True).model_dump()
    except ValidationError as error:
        raise RunFolderError(f"{file} is damaged: {said(error)}; give another --output") from error


def _contents(plan: SweepPlan) -> dict[str, Any]:
    variants: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for run in plan.runs:
        values = flat(run.config.model_dump(mode="json"))
        values = {k: v for k, v in values.items() if k not in ("seed", "round0", "reward.curves")}
        variants.setdefault(run.variant, (values, []))[1].append(run.config.seed)
    first = next(iter(variants.values()))[0]
    every = [values for values, _ in variants.values()]
    common = {k: v for k, v in first.items() if all(k in o and o[k] == v for o in every)}
    return {
        "format": FORMAT,
        "rlmba": rlmba.__version__,
        "sweep": plan.config.model_dump(mode="json"),
        "data": dict(plan.fingerprints),
        "common": common,
        "runs": {
            name: {"seeds": seeds, "own": {k: v for k, v in values.items() if k not in common}}
            for name, (values, seeds) in variants.items()
        },
    }


def _check_continues(stored: Mapping[str, Any], fresh: Mapping[str, Any], output: Path) -> None:
    """Raise unless a plan contains all runs of the stored one, unchanged."""
    problems: dict[str, list[str]] = {}
    for name, checksum in stored["data"].items():
        if fresh["data"].get(name, checksum) != checksum:
            problems.setdefault("the data have changed (the checksums differ)", []).append(name)
    for name, run in stored["runs"].items():
        if name not in fresh["runs"]:
            problems.setdefault("this run is not in the new plan", []).append(name)
            continue
        new = fresh["runs"][name]
        if gone := sorted(set(run["seeds"]) - set(new["seeds"])):
            seeds = ", ".join(map(str, gone))
            problems.setdefault(f"seeds {seeds} are not in the new plan", []).append(name)
        before, now = {**stored["common"], **run["own"]}, {**fresh["common"], **new["own"]}
        for key in sorted({*before, *now}):
            if not is_among(key, _UNCOMPARED) and before.get(key) != now.get(key):
                text = f"{key} was {before.get(key)!r} and is now {now.get(key)!r}"
                problems.setdefault(text, []).append(name)
    if problems:
        lines = [
            f"{output} contains a different comparison; a plan that continues it must contain all its runs:"
        ]
        for text, (first, *others) in problems.items():
            lines.append(f"{first}{f' and {len(others)} more' if others else ''}: {text}")
        lines.append(
            f"`rlmba compare --resume --output {output}` without further options uses the stored plan"
        )
        raise UsageError("\n".join(lines))


@dataclass(frozen=True)
class RunFailure:
    """Why a run failed: ``error`` in one line, the full ``traceback``, and ``time`` (ISO 8601, UTC)."""

    error: str
    traceback: str
    time: str

    @classmethod
    def of(cls, error: BaseException) -> RunFailure:
        """Describe an exception."""
        text = " ".join(str(error).split())
        return cls(
            error=f"{type(error).__name__}: {text}" if text else type(error).__name__,
            traceback="".join(traceback.format_exception(error)),
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )


def write_failure(folder: Path, failure: RunFailure) -> None:
    """Record a failure as ``failure.json`` in a run's folder, atomically."""
    make_folder(folder)
    atomic_write_text(folder / "failure.json", json.dumps(asdict(failure), indent=1) + "\n")


def clear_failure(folder: Path) -> None:
    """Remove the record of an earlier failure, because the run is tried again."""
    (folder / "failure.json").unlink(missing_ok=True)


@dataclass(frozen=True)
class LatestFigures:
    """Number of complete rounds (round 0 counts), and figures of the last (None: no round yet)."""

    rounds: int = 0
    labels: int | None = None
    top1: float | None = None
    majority: float | None = None


@dataclass(frozen=True)
class _Top1:
    top1: float


@dataclass(frozen=True)
class _Figures:
    heads: dict[str, _Top1]
    majority: float | None = None


@dataclass(frozen=True)
class _Last:
    """The fields of a log line that :func:`latest_figures` reads."""

    labels: int
    test: _Figures | None = None
    validation: _Figures | None = None


def latest_figures(folder: Path) -> LatestFigures:
    """Read the latest figures of a run, running or not, on the test set, else on the validation set.

    A log that cannot be read counts as empty; the run itself will report the error.
    """
    file = folder / "rounds.jsonl"
    try:
        lines = round_lines(folder)
        if not lines:
            return LatestFigures()
        last = parse_json(lines[-1], _Last, str(file), advice="")
        figures = last.test or last.validation
        if figures is None:
            return LatestFigures(len(lines), last.labels)
        top1 = figures.heads[MULTIMODAL].top1
        return LatestFigures(len(lines), last.labels, top1, figures.majority)
    except (DataError, RunFolderError, KeyError):
        return LatestFigures()


def drop_model(run: PlannedRun) -> None:
    """Delete the model of a complete run; the state of its strategy is kept."""
    for file in (run.folder / "checkpoints").glob("round_*/model.safetensors"):
        file.unlink(missing_ok=True)
