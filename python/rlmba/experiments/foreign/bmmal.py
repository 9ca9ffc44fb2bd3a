"""Read and check one run folder of BMMAL's code."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlmba.config import yaml12
from rlmba.errors import RunFolderError, UsageError
from rlmba.reading.files import read_text
from rlmba.types import MULTIMODAL

__all__ = ["CODE", "FIGURES", "BmmalRun", "is_bmmal_run", "read_bmmal_run"]

_VERSION = re.compile(r"version_(\d+)")
_FOLDER = re.compile(r"(?P<dataset>[^-]+)-(?P<strategy>.+)-(?P<seed>\d+)")
_METRICS, _LABELS, _SETTINGS = "al_metrics.csv", "label.txt", "hparams.yaml"
_DATASETS = {"kinetics_sound": "kineticssound"}
# Our name of a strategy, and what its variant adds.
_STRATEGIES = {"gcn": ("gcnal", ""), "uncertain_gcn": ("gcnal", ", variant=uncertain")}
FIGURES: Mapping[str, str] = {
    "top1_macro": "Top-1",
    "f1": "F1Score",
    "auroc": "AUROC",
    "ece": "ECE",
}
CODE = "BMMAL's code"


@dataclass(frozen=True)
class BmmalRun:
    """One run of BMMAL's code: figures of T rounds on its test samples.

    Attributes
    ----------
    path : Path
    dataset, strategy : str
        Under our names, such as ``kineticssound``, and ``gcnal`` for ``gcn`` and ``uncertain_gcn``.
    variant : str
        States that BMMAL's code made the run.
    fusion : str
        "concat" unless the settings say otherwise.
    seed : int
    labels : tuple of int [T]
        Labeled samples after each round.
    figures : mapping of head to mapping of figure to tuple of float [T]
        ``top1_macro``, ``f1``, ``auroc`` and ``ece`` (32 bins); NaN where unknown. The fused head is
        "mm"; the other heads are the modalities in their order.
    contributions : mapping of modality to tuple of float [T]
        Mean over the test samples of each sample's share of the absolute Shapley values.
    seconds : tuple of float [T]
        Of the selection, without prediction; NaN in round 0 and where not measured.
    unfinished : int or None
        A round that has begun but has no figures yet.
    """

    path: Path
    dataset: str
    strategy: str
    variant: str
    fusion: str
    seed: int
    labels: tuple[int, ...]
    figures: Mapping[str, Mapping[str, tuple[float, ...]]]
    contributions: Mapping[str, tuple[float, ...]]
    seconds: tuple[float, ...]
    unfinished: int | None = None

    @property
    def initial_ids(self) -> Path:
        """The file of initially labeled ids, which can be the configuration's ``initial_ids``."""
        return self.path / "version_0" / _LABELS


def is_bmmal_run(path: Path) -> bool:
    """Whether a folder looks like a run of BMMAL's code: it has rounds and no ``run.json``."""
    if (path / "run.json").exists():
        return False
    return any(
        (folder / name).is_file()
        for folder in _versions(path).values()
        for name in (_METRICS, _LABELS)
    )


def read_bmmal_run(
    path: Path,
    *,
    dataset: str | None = None,
    strategy: str | None = None,
    seed: int | None = None,
) -> BmmalRun:
    """Read a folder of BMMAL's code, finished or not.

    Parameters
    ----------
    path : path
        The folder with ``version_0``, ``version_1``, ...
    dataset, strategy, seed : str, str and int, or None
        None: taken from the folder's name ``<data set>-<strategy>-<seed>``, else from the settings of
        the last round. (The settings of round 0 may belong to the run it was copied from.)

    Returns
    -------
    BmmalRun

    Raises
    ------
    RunFolderError
        If the folder is something else; a file is missing, truncated or damaged; rounds are missing;
        the labels do not contain those of the previous round; or an accuracy is not in [0, 1].
    UsageError
        If data set, strategy or seed are neither given nor found in the folder.
    """
    path = Path(path)
    if not is_bmmal_run(path):
        raise RunFolderError(
            f"{path}: expected a run folder of BMMAL's code, with {_METRICS} and {_LABELS} in version_0, "
            "version_1, ...; found none. Give the folder <data set>-<strategy>-<seed> itself"
        )
    versions = _versions(path)
    done = [k for k, folder in versions.items() if (folder / _METRICS).is_file()]
    if not done:
        raise RunFolderError(
            f"{path} has no {_METRICS} yet; wait until round 0 is complete, or leave the run out"
        )
    last = max(done)
    header, rows = _read_metrics(versions[last] / _METRICS, last)
    labels = _read_labels(path, versions, last)
    settings = _read_settings(versions[last] / _SETTINGS)
    heads = _heads(header, settings, versions[last] / _METRICS)
    named = _FOLDER.fullmatch(path.resolve().name if path.name in ("", "..") else path.name)
    told = {**_told(settings), **(named.groupdict() if named else {})}
    name = dataset or _asked("dataset", told, path)
    whose = strategy or _asked("strategy", told, path)
    ours, more = _STRATEGIES.get(whose, (whose, ""))

    def column(title: str) -> tuple[float, ...]:
        if title not in header:
            return (math.nan,) * len(rows)
        return tuple(row[header.index(title)] for row in rows)

    begun = max(versions)
    return BmmalRun(
        path=path,
        dataset=_DATASETS.get(name, name),
        strategy=ours,
        variant=CODE + more,
        fusion=_fusion(settings),
        seed=_seed(told, path) if seed is None else seed,
        labels=labels,
        figures={
            head: {name: column(f"{title}/{what}") for name, what in FIGURES.items()}
            for head, title in heads.items()
        },
        contributions={
            head: column(f"{title}/Contribution")
            for head, title in heads.items()
            if head != MULTIMODAL
        },
        seconds=tuple(s if k and s > 0 else math.nan for k, s in enumerate(column("query_time"))),
        unfinished=begun if begun > last else None,
    )


def _versions(path: Path) -> dict[int, Path]:
    """Folders of the rounds, by ascending number."""
    if not path.is_dir():
        return {}
    found = [(m, p) for p in path.iterdir() if (m := _VERSION.fullmatch(p.name)) and p.is_dir()]
    return dict(sorted((int(m[1]), p) for m, p in found))


def _read_metrics(path: Path, last: int) -> tuple[list[str], list[list[float]]]:
    """Column titles and a row of numbers for each round 0 to ``last``."""
    text = _text(path)
    try:
        lines = list(csv.reader(text.splitlines()))
    except csv.Error as error:
        raise RunFolderError(
            f"{path} is damaged: {error}; restore it, or leave the run out"
        ) from error
    titles = lines[0][1:] if lines else []
    if f"{MULTIMODAL.upper()}/Top-1" not in titles or titles[-1] != "query_time":
        raise RunFolderError(
            f"{path}: expected the columns MM/Top-1, ..., query_time, got {titles[:3]}; the file is "
            "truncated or was written by another program"
        )
    if not text.endswith("\n") or any(len(row) != len(titles) + 1 for row in lines[1:]):
        raise RunFolderError(
            f"{path}: a line is truncated; copy the file again, or repeat the round"
        )
    expected, got = [f"round {k}" for k in range(last + 1)], [row[0] for row in lines[1:]]
    if got != expected:
        raise RunFolderError(
            f"{path}: expected the rows round 0 to round {last}, got {got}; rounds are missing "
            "or out of order"
        )
    rows = []
    for name, *cells in lines[1:]:
        try:
            rows.append([float(cell) if cell else math.nan for cell in cells])
        except ValueError as error:
            raise RunFolderError(f"{path}, {name}: expected numbers, {error}") from error
        for title, value in zip(titles, rows[-1], strict=True):
            if title.endswith("/Top-1") and not 0 <= value <= 1:
                raise RunFolderError(
                    f"{path}, {name}: expected {title} to be a number in [0, 1], got {value}; repeat the "
                    "run, or leave it out"
                )
    return titles, rows


def _read_labels(path: Path, versions: Mapping[int, Path], last: int) -> tuple[int, ...]:
    """Numbers of labeled samples after each round."""
    counts: list[int] = []
    before: set[str] = set()
    for k in range(last + 1):
        file = versions.get(k, path / f"version_{k}") / _LABELS
        if not file.is_file():
            raise RunFolderError(
                f"{file} is missing, so the number of labels in round {k} is unknown; restore it, or "
                "leave the run out"
            )
        ids = _text(file).split("\n")
        if ids[-1]:
            raise RunFolderError(f"{file}: its last line is truncated; copy the file again")
        now = set(ids[:-1])
        if len(now) != len(ids) - 1:
            raise RunFolderError(f"{file}: expected each id once, {len(ids) - 1 - len(now)} repeat")
        if not before < now:
            gone = f"{len(before - now)} are missing" if before - now else "none is new"
            raise RunFolderError(
                f"{file}: expected the {len(before)} ids of the previous round and new ones, got {len(now)} "
                f"ids, {gone}; the file belongs to another run"
            )
        counts.append(len(now))
        before = now
    return tuple(counts)


def _text(path: Path) -> str:
    return read_text(path, advice="restore it, or leave the run out", error=RunFolderError)


def _read_settings(path: Path) -> Mapping[str, Any]:
    """The round's settings; empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        settings = yaml12.read(path)
    except (OSError, UsageError) as error:
        raise RunFolderError(f"{path} is damaged: {error}; restore or remove it") from error
    if not isinstance(settings, dict):
        raise RunFolderError(f"{path}: expected settings by name; restore or remove it")
    return settings


def _told(settings: Mapping[str, Any]) -> dict[str, str]:
    keys = {"dataset": "dataset_name", "strategy": "query_strategy", "seed": "manual_seed"}
    return {name: str(settings[key]) for name, key in keys.items() if key in settings}


def _asked(what: str, told: Mapping[str, str], path: Path) -> str:
    if what not in told:
        raise UsageError(
            f"{path}: its {what} is unknown; name the folder <data set>-<strategy>-<seed> as BMMAL's "
            f"code does (a symbolic link is enough), or give {what} to read_bmmal_run"
        )
    return told[what]


def _seed(told: Mapping[str, str], path: Path) -> int:
    text = _asked("seed", told, path)
    try:
        return int(text)
    except ValueError as error:
        raise RunFolderError(
            f"{path}: expected manual_seed in its {_SETTINGS} to be an integer, got {text[:40]!r}; correct "
            "it, or give seed to read_bmmal_run"
        ) from error


def _fusion(settings: Mapping[str, Any]) -> str:
    if settings.get("model_name") == "avmodel_nl_gate":
        return "nl-gate"
    model = settings.get("model_params")
    return str(model.get("fuse", "concat")) if isinstance(model, dict) else "concat"


def _heads(titles: Sequence[str], settings: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Map heads to their prefixes in column titles: "mm", then modalities in BMMAL's order."""
    found = [t.removesuffix("/Top-1") for t in titles if t.endswith("/Top-1")]
    order = [str(settings[key]) for key in ("m1", "m2") if key in settings]
    modalities = sorted(
        (name for name in found if name != MULTIMODAL.upper()),
        key=lambda name: order.index(name) if name in order else len(order),
    )
    if len({name.lower() for name in found}) != len(found):
        raise RunFolderError(f"{path}: expected Top-1 of each head once, got {found}")
    return {MULTIMODAL: MULTIMODAL.upper(), **{name.lower(): name for name in modalities}}
