"""A cache of a data set: media files that were decoded once, in shards that are memory-mapped.

A cache is a folder with ``cache.json`` (what it will hold, and by which recipe), the list of samples
that this file points to, and ``shards/`` (see :mod:`rlmba.data.media.shards`). It can be used while it
is being made: the content of finished shards is available.
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
from rlmba.data.media.catalogue import SampleTable, split_checksum
from rlmba.data.media.content import Recipe
from rlmba.data.media.outcome import DecodeOutcome
from rlmba.data.media.plan import HEADER, NOWHERE, CachePlan, read_plan, recipe_differences
from rlmba.data.media.report import MediaReport, OnProgress
from rlmba.errors import DataError
from rlmba.workers import cores

__all__ = ["CacheInfo", "CacheReader", "is_cache", "read_cache_info", "verify"]

_OPEN_SHARDS = 256
"""Shards mapped at a time. Each needs a file descriptor, and the limit of a process is often 1,024."""

_FINE = DecodeOutcome()


@dataclass(frozen=True, kw_only=True)
class CacheInfo(SampleTable):
    """What a cache holds now: the samples of its finished shards that have any content.

    Samples are in the order of (test, label, id), which does not depend on how the cache was made. Each
    has at least one modality.

    Parameters
    ----------
    path : path
    fingerprint : str
        Checksum of the samples, the recipe and the content: equal only for equal data.
    problems : mapping of id to mapping of modality to str
        Modalities that could not be read, and why; also for samples that are not in ``ids``.
    flags : mapping of id to mapping of modality to tuple of str
        What is odd about a modality.
    planned : int
        Number of samples that the data set lists.
    waiting : int
        How many of them are in shards that are not finished.
    """

    path: Path
    fingerprint: str
    problems: Mapping[str, Mapping[str, str]]
    flags: Mapping[str, Mapping[str, tuple[str, ...]]]
    planned: int
    waiting: int


@dataclass(frozen=True)
class _Contents:
    """A cache's plan, the notes of its finished shards, and the shard and row of each sample."""

    plan: CachePlan
    notes: Mapping[int, shards.ShardNote]
    place: Mapping[str, tuple[int, int]]

    def usable(self) -> list[str]:
        """Ids with content, in order of (test, label, id)."""
        every = zip(self.plan.test, self.plan.labels, self.plan.ids, strict=True)
        return [i for _, _, i in sorted(every) if i in self.place]

    def outcomes(self) -> list[DecodeOutcome | None]:
        """The outcome of each planned sample; None while its shard is not finished."""
        plan = self.plan
        nowhere = DecodeOutcome(dict.fromkeys(plan.modalities, "no file"))
        return [
            nowhere
            if number == NOWHERE
            else None
            if (note := self.notes.get(number)) is None
            else note.outcomes.get(sample, _FINE)
            for sample, number in zip(plan.ids, plan.shard, strict=True)
        ]


def is_cache(path: str | Path) -> bool:
    """Whether a folder is a cache, finished or not."""
    return (Path(path) / HEADER).is_file()


def read_cache_info(
    path: str | Path, *, name: str | None = None, recipe: Recipe | None = None
) -> CacheInfo:
    """Read what a cache holds, finished or not, without locking it.

    Parameters
    ----------
    path : path
    name : str, optional
        The data set that the cache must be of.
    recipe : Recipe, optional
        The recipe that the cache must follow.

    Raises
    ------
    DataError
        If the folder is not a cache, has another format, name or recipe, or is damaged.
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
    known = {s: o for s, o in zip(plan.ids, outcomes, strict=True) if o is not None}
    present = np.ones((len(usable), len(plan.modalities)), np.bool_)
    for row, i in enumerate(usable):
        if lacking := known[i].problems:
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
        problems={s: o.problems for s, o in known.items() if o.problems},
        flags={s: o.flags for s, o in known.items() if o.flags},
        planned=len(plan.ids),
        waiting=outcomes.count(None),
    )


class CacheReader:
    """A :class:`~rlmba.data.media.content.Reader` that returns views into the files of a cache.

    Threads may share it. It can be pickled: a copy keeps the list of samples and opens the files itself.

    Parameters
    ----------
    path : path
        The cache, finished or not.
    ids : sequence of str, optional
        The samples by position; by default those of :func:`read_cache_info`.
    open_shards : int
        How many shards stay mapped; the least recently used one is closed first.

    Raises
    ------
    DataError
        As :func:`read_cache_info`, or if the cache does not hold an id (yet).
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
                f"{self._path} lacks {len(lacking):,} of {len(wanted):,} samples, the first is "
                f"{lacking[0]!r}: leave them out, or let `rlmba data prepare` finish"
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
        """Arrays of a sample by modality; None for a modality that it lacks.

        The arrays are read-only views into a file of the cache, which stays open as long as they exist.

        Raises
        ------
        DataError
            If the sample's shard is damaged.
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
    progress: OnProgress | None = None,
) -> MediaReport:
    """Read every finished shard and compare it with its checksum.

    Parameters
    ----------
    path : path
    name : str, optional
        The data set that the cache must be of.
    workers : int, optional
        Number of threads; by default one per core.
    progress : callable, optional
        Called with the number of shards that are done and their total.

    Raises
    ------
    DataError
        If shards are damaged; the message names all of them.
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
            f"{len(wrong):,} of {len(numbers):,} shards of {folder} are damaged; delete the .json file of "
            "each and run `rlmba data prepare` again, which makes these shards again:\n"
            + "\n".join(wrong)
        )
    return _report(folder, contents)


def cache_report(path: Path, notes: Sequence[str] = ()) -> MediaReport:
    """The counts of what a cache holds, with ``notes`` added."""
    return _report(path, _read(path), notes)


def _report(path: Path, contents: _Contents, notes: Sequence[str] = ()) -> MediaReport:
    plan = contents.plan
    return MediaReport(
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


def _require(path: Path, plan: CachePlan, name: str | None, recipe: Recipe | None) -> None:
    if name is not None and name != plan.name:
        raise DataError(
            f"{path} is a cache of {plan.name!r}, expected one of {name!r}; give the cache of that data set"
        )
    if recipe is not None and (lines := recipe_differences(plan.recipe, recipe)):
        raise DataError(
            f"{path} was made by another recipe; prepare another folder, or use the recipe of this one:\n"
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
