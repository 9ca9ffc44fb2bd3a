"""A prepared data set: media files decoded once, in shards that are read at the speed of memory.

A folder with ``cache.json`` (what is to be in it, by which recipe), the list of samples it points to,
and ``shards/`` as :mod:`rlmba.data.media.shards` has them. It can be used while it is being made: what
its finished shards hold is there.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media import shards
from rlmba.data.media.catalogue import split_checksum
from rlmba.data.media.content import Recipe
from rlmba.data.media.outcome import Outcome
from rlmba.data.media.plan import HEADER, NOWHERE, Plan, read_plan, recipe_differences
from rlmba.data.media.report import Progress, Report
from rlmba.errors import DataError
from rlmba.workers import cores

__all__ = ["CacheInfo", "CacheReader", "is_cache", "read_cache_info", "verify"]

_OPEN_SHARDS = 256
"""Shards mapped at a time: each costs a file descriptor, of which a process often has 1,024."""

_FINE = Outcome()


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds now: of its finished shards, the samples with any content.

    Parameters
    ----------
    path : path
    name : str
        The data set.
    classes, modalities : tuple of str
        As the catalogue had them.
    recipe : Recipe
        How its content was made.
    ids : str array [n]
        In order of (test, label, id), however the cache came about.
    labels : int64 array [n]
    test : bool array [n]
    present : bool array [n, M]
        Which modalities there are, at least one of each sample.
    fingerprint : str
        Checksum of all that and of the content: equal only for the same.
    problems : mapping of id to mapping of modality to str
        What could not be had, and why; also of samples that are not in ``ids``.
    flags : mapping of id to mapping of modality to tuple of str
        What is odd.
    planned : int
        Samples the data set lists.
    waiting : int
        Those among them whose shard is not there yet.
    """

    path: Path
    name: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    recipe: Recipe
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    test: NDArray[np.bool_]
    present: NDArray[np.bool_]
    fingerprint: str
    problems: Mapping[str, Mapping[str, str]]
    flags: Mapping[str, Mapping[str, tuple[str, ...]]]
    planned: int
    waiting: int


@dataclass(frozen=True)
class _Contents:
    """A cache as its files say: its plan, its finished shards, where each sample with content lies."""

    plan: Plan
    notes: Mapping[int, shards.Note]
    place: Mapping[str, tuple[int, int]]

    def usable(self) -> list[str]:
        """Ids with content, in order of (test, label, id)."""
        every = zip(self.plan.test, self.plan.labels, self.plan.ids, strict=True)
        return [i for _, _, i in sorted(every) if i in self.place]

    def outcomes(self) -> list[Outcome | None]:
        """Of each sample planned; None while its shard is not there."""
        plan = self.plan
        nowhere = Outcome(dict.fromkeys(plan.modalities, "no file"))
        return [
            nowhere
            if number == NOWHERE
            else None
            if (note := self.notes.get(number)) is None
            else note.outcomes.get(sample, _FINE)
            for sample, number in zip(plan.ids, plan.shard, strict=True)
        ]


def is_cache(path: str | Path) -> bool:
    """Whether a folder is a cache, or the beginning of one."""
    return (Path(path) / HEADER).is_file()


def read_cache_info(
    path: str | Path, *, name: str | None = None, recipe: Recipe | None = None
) -> CacheInfo:
    """Read what a cache holds, finished or not, without locking it.

    Parameters
    ----------
    path : path
    name : str, optional
        The data set it has to be of.
    recipe : Recipe, optional
        The recipe it has to follow.

    Raises
    ------
    DataError
        If the folder is no cache, of another format, name or recipe, or damaged.
    """
    contents = _read(Path(path))
    plan = contents.plan
    _require(Path(path), plan, name, recipe)
    outcomes = contents.outcomes()
    usable = contents.usable()
    about = dict(zip(plan.ids, zip(plan.labels, plan.test, strict=True), strict=True))
    ids = np.array(usable, dtype=np.str_)
    labels = np.array([about[i][0] for i in usable], dtype=np.int64)
    test = np.array([about[i][1] for i in usable], dtype=np.bool_)
    said = {s: o for s, o in zip(plan.ids, outcomes, strict=True) if o is not None}
    present = np.ones((len(usable), len(plan.modalities)), np.bool_)
    for row, i in enumerate(usable):
        if lacking := said[i].problems:
            present[row] = [m not in lacking for m in plan.modalities]
    return CacheInfo(
        path=Path(path),
        name=plan.name,
        classes=plan.classes,
        modalities=plan.modalities,
        recipe=plan.recipe,
        ids=ids,
        labels=labels,
        test=test,
        present=present,
        fingerprint=_fingerprint(contents, split_checksum(plan.classes, ids, labels, test)),
        problems={s: o.problems for s, o in said.items() if o.problems},
        flags={s: o.flags for s, o in said.items() if o.flags},
        planned=len(plan.ids),
        waiting=outcomes.count(None),
    )


class CacheReader:
    """Reads samples of a cache as views into its files; a :class:`~rlmba.data.media.content.Reader`.

    Threads may share it. Pickled, it takes its list of samples along and opens files when it reads.

    Parameters
    ----------
    path : path
        The cache, finished or not.
    ids : sequence of str, optional
        The samples in the order of their positions; by default those of :func:`read_cache_info`.
    open_shards : int
        Shards mapped at a time, those used last.

    Raises
    ------
    DataError
        As :func:`read_cache_info`, or if an id is not there (yet).
    """

    def __init__(
        self,
        path: str | Path,
        ids: Sequence[str] | NDArray[np.str_] | None = None,
        *,
        open_shards: int = _OPEN_SHARDS,
    ) -> None:
        self._path = Path(path)
        contents = _read(self._path)
        wanted = contents.usable() if ids is None else [str(i) for i in ids]
        lacking = [i for i in wanted if i not in contents.place]
        if lacking:
            raise DataError(
                f"{self._path} does not hold {len(lacking):,} of {len(wanted):,} samples, {lacking[0]!r} "
                "first: leave them out, or run `rlmba data prepare` to its end"
            )
        places = np.array([contents.place[i] for i in wanted], np.int32).reshape(-1, 2)
        self._places = places
        self._modalities = contents.plan.modalities
        self._sizes = {number: note.size for number, note in contents.notes.items()}
        self._limit = max(1, open_shards)
        self._reset()

    def _reset(self) -> None:
        self._open: OrderedDict[int, shards.Shard] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __len__(self) -> int:
        return len(self._places)

    def read(self, position: int) -> dict[str, NDArray[Any] | None]:
        """Arrays of a sample by modality, None where it lacks one.

        They are read-only and lie in the cache's file, which stays open while one of them is there.

        Raises
        ------
        DataError
            If its shard is damaged.
        """
        number, row = self._places[position].tolist()
        return self._shard(number).row(row, self._modalities)

    def _shard(self, number: int) -> shards.Shard:
        with self._lock:
            shard = self._open.get(number)
            if shard is None:
                while len(self._open) >= self._limit:
                    self._open.popitem(last=False)
                file = shards.shard_file(self._path, number)
                shard = self._open[number] = shards.Shard(file, self._sizes[number])
            self._open.move_to_end(number)
            return shard


def verify(
    path: str | Path,
    *,
    name: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Read every finished shard and compare it with its checksum.

    Parameters
    ----------
    path : path
    name : str, optional
        The data set it has to be of.
    workers : int, optional
        Threads; as many as there are cores by default.
    progress : callable, optional
        Called with the number of shards done, and of all.

    Raises
    ------
    DataError
        If shards are damaged: all of them are named.
    """
    folder = Path(path)
    contents = _read(folder)
    _require(folder, contents.plan, name, None)
    numbers = sorted(contents.notes)
    wrong: list[str] = []
    with ThreadPoolExecutor(workers or cores()) as pool:
        found = pool.map(lambda n: shards.verify_shard(folder, n, contents.notes[n]), numbers)
        for done, fault in enumerate(found, start=1):
            if fault:
                wrong.append(fault)
            if progress is not None:
                progress(done, len(numbers))
    if wrong:
        raise DataError(
            f"{len(wrong):,} of {len(numbers):,} shards of {folder} are damaged; delete the .json beside "
            "each and run `rlmba data prepare` again, which makes those that are not there:\n"
            + "\n".join(wrong)
        )
    return _report(folder, contents)


def cache_report(path: Path, notes: Sequence[str] = ()) -> Report:
    """What a cache holds, counted; ``notes`` are handed on."""
    return _report(path, _read(path), notes)


def _report(path: Path, contents: _Contents, notes: Sequence[str] = ()) -> Report:
    plan = contents.plan
    return Report(
        name=plan.name,
        layout=plan.layout,
        root=plan.root,
        modalities=plan.modalities,
        classes=plan.classes,
        published=plan.published,
        ids=plan.ids,
        labels=plan.labels,
        test=plan.test,
        outcomes=contents.outcomes(),
        notes=tuple(notes),
        place=path,
    )


def _read(path: Path) -> _Contents:
    plan = read_plan(path)
    numbers = sorted({n for n in plan.shard if n != NOWHERE})
    notes = {n: note for n in numbers if (note := shards.read_note(path, n)) is not None}
    shard = dict(zip(plan.ids, plan.shard, strict=True))
    place = {
        sample: (number, row)
        for number, note in notes.items()
        for row, sample in enumerate(note.ids)
        if shard.get(sample) == number
    }
    return _Contents(plan, notes, place)


def _require(path: Path, plan: Plan, name: str | None, recipe: Recipe | None) -> None:
    if name is not None and name != plan.name:
        raise DataError(
            f"{path} is a cache of {plan.name!r}, {name!r} was asked for; give the cache of that one"
        )
    if recipe is not None and (lines := recipe_differences(plan.recipe, recipe)):
        raise DataError(
            f"{path} was made by another recipe; prepare one into another folder, or ask for this one:\n"
            + "\n".join(lines)
        )


def _fingerprint(contents: _Contents, split: str) -> str:
    plan = contents.plan
    facts = {
        "name": plan.name,
        "modalities": plan.modalities,
        "recipe": asdict(plan.recipe),
        "split": split,
        "shards": [note.checksum for _, note in sorted(contents.notes.items())],
    }
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()
