"""The folder of a comparison: its plan, and how far each run of it is.

``sweep.yaml`` holds what was asked for and every run's configuration: what all have in common once,
and for each strategy on a data set what it has of its own.
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
from rlmba.config import FREE_KEYS, PLACES, flat, yaml12
from rlmba.errors import DataError, RunFolderError, UsageError
from rlmba.experiments.sweep.plan import SweepPlan
from rlmba.experiments.sweep.schema import SweepConfig, load_sweep
from rlmba.experiments.sweep.variants import PlannedRun
from rlmba.reading.files import find_bytes
from rlmba.reading.structured import parse_json, said
from rlmba.storage import atomic_write_text, locked, make_folder
from rlmba.types import MULTIMODAL

__all__ = [
    "LatestFigures",
    "RunFailure",
    "clear_failure",
    "drop_model",
    "latest_figures",
    "open_folder",
    "stored_sweep",
    "write_failure",
]

FORMAT = 1
_FILE = "sweep.yaml"
_UNCOMPARED = {*FREE_KEYS, *PLACES}


class _StoredRuns(BaseModel):
    """What one strategy on a data set has of its own."""

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
    """Hold a comparison's folder and write its plan into it.

    Raises
    ------
    UsageError
        If the folder holds something else, a comparison and ``resume`` is false, or one that ``plan``
        does not continue: the same or with more strategies, data sets, fusions or seeds.
    RunFolderError
        If another process is writing it, or its plan is damaged.
    StorageError
        If it cannot be written.
    """
    stored = _read(output)
    if stored is None and output.exists():
        known = {"lock"}
        if not output.is_dir() or any(p.name not in known for p in output.iterdir()):
            raise UsageError(
                f"{output} already holds files that are not a comparison: give another --output"
            )
    if stored is not None and not resume:
        raise UsageError(
            f"{output} already holds a comparison: add --resume to go on with it, or give another "
            "--output"
        )
    fresh = _contents(plan)
    if stored is not None:
        _check_continues(stored, fresh, output)
    make_folder(output)
    trust.require_inside(output)
    with locked(output, lambda holder: _busy(output, holder)):
        atomic_write_text(output / _FILE, yaml12.dump(fresh))
        yield


def stored_sweep(output: Path) -> SweepConfig | None:
    """What was asked for in a comparison's folder; None where there is none.

    Raises
    ------
    RunFolderError
        If it is damaged.
    """
    stored = _read(output)
    try:
        return None if stored is None else load_sweep(stored["sweep"])
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
                f"{file}: format {stored['format']}, this version reads {FORMAT}; use the version of "
                f"rlmba that wrote it ({stored.get('rlmba', 'unknown')})"
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
    """Raise unless a plan has every run of the stored one, unchanged."""
    problems: dict[str, list[str]] = {}
    for name, checksum in stored["data"].items():
        if fresh["data"].get(name, checksum) != checksum:
            problems.setdefault("the data are others now (checksums differ)", []).append(name)
    for name, run in stored["runs"].items():
        if name not in fresh["runs"]:
            problems.setdefault("not in this plan", []).append(name)
            continue
        new = fresh["runs"][name]
        if gone := sorted(set(run["seeds"]) - set(new["seeds"])):
            seeds = ", ".join(map(str, gone))
            problems.setdefault(f"seeds {seeds} are not in this plan", []).append(name)
        before, now = {**stored["common"], **run["own"]}, {**fresh["common"], **new["own"]}
        for key in sorted({*before, *now} - _UNCOMPARED):
            if before.get(key) != now.get(key):
                text = f"{key} is {before.get(key)!r} there and {now.get(key)!r} here"
                problems.setdefault(text, []).append(name)
    if problems:
        lines = [
            f"{output} holds another comparison; a plan that goes on with it has all of its runs:"
        ]
        for text, (first, *others) in problems.items():
            lines.append(f"{first}{f' and {len(others)} more' if others else ''}: {text}")
        lines.append(
            f"`rlmba compare --resume --output {output}` alone takes its plan from the folder"
        )
        raise UsageError("\n".join(lines))


@dataclass(frozen=True)
class RunFailure:
    """Why a run failed: ``error`` in a line, the whole ``traceback``, and when (ISO 8601, UTC)."""

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
    """Record a failure as ``failure.json`` in a run's folder, whole or not at all."""
    make_folder(folder)
    atomic_write_text(folder / "failure.json", json.dumps(asdict(failure), indent=1) + "\n")


def clear_failure(folder: Path) -> None:
    """Forget an earlier failure: the run is tried again."""
    (folder / "failure.json").unlink(missing_ok=True)


@dataclass(frozen=True)
class LatestFigures:
    """How far a run is: complete rounds (round 0 counts), and figures of the last (None: none yet)."""

    rounds: int = 0
    labels: int | None = None
    top1: float | None = None


@dataclass(frozen=True)
class _Top1:
    top1: float


@dataclass(frozen=True)
class _Figures:
    heads: dict[str, _Top1]


@dataclass(frozen=True)
class _Last:
    """What :func:`newest` looks at in a run's last line."""

    labels: int
    test: _Figures | None = None
    validation: _Figures | None = None


def latest_figures(folder: Path) -> LatestFigures:
    """Read a run's newest figures, while it goes on or after; Top-1 on test, else on V.

    What cannot be read counts as nothing: the run itself will say what is wrong.
    """
    file = folder / "rounds.jsonl"
    try:
        lines = (find_bytes(file, advice="") or b"").split(b"\n")[:-1]
        if not lines:
            return LatestFigures()
        last = parse_json(lines[-1], _Last, str(file), advice="")
        figures = last.test or last.validation
        return LatestFigures(
            len(lines), last.labels, figures.heads[MULTIMODAL].top1 if figures else None
        )
    except (DataError, KeyError):
        return LatestFigures()


def drop_model(run: PlannedRun) -> None:
    """Delete the model of a complete run; what its strategy has learned stays."""
    for file in (run.folder / "checkpoints").glob("round_*/model.safetensors"):
        file.unlink(missing_ok=True)
