"""Make a cache: decode every sample once, in several processes; it can be interrupted and resumed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rlmba import trust
from rlmba.data.media import shards
from rlmba.data.media.cache import cache_report
from rlmba.data.media.catalogue import Catalogue, Sample
from rlmba.data.media.check import Examine
from rlmba.data.media.content import Recipe
from rlmba.data.media.outcome import CRASHED, Decode, DecodeOutcome, default_decode, examine
from rlmba.data.media.plan import HEADER, NOWHERE, CachePlan, differences, read_plan, write_plan
from rlmba.data.media.report import MediaReport, OnProgress
from rlmba.data.media.tokens import with_vocabulary
from rlmba.data.media.work import TaskQueue
from rlmba.errors import DataError, StorageError, UsageError
from rlmba.storage import locked, make_folder
from rlmba.workers import Died, cores

__all__ = ["prepare"]

_LOCK = "lock"
_MOST_DEATHS = 3
"""How many workers may die on one shard. After each death, samples are read alone to find the cause."""


def prepare(
    catalogue: Catalogue,
    recipe: Recipe,
    out: str | Path,
    *,
    workers: int | None = None,
    decode: Decode | None = None,
    progress: OnProgress | None = None,
) -> MediaReport:
    """Decode the samples of a catalogue into a cache, or continue an unfinished cache.

    Finished shards stay, and if all are finished, nothing is done. Samples that are new in the
    catalogue, or whose missing or unreadable file has changed, are put into new shards. If the process
    is killed, only the shards that were being made are lost. The content of a shard depends only on its
    samples, not on workers or interruptions.

    Parameters
    ----------
    catalogue : Catalogue
    recipe : Recipe
    out : path
        The cache: a folder that is empty or does not exist, or a cache of the same name and recipe.
    workers : int, optional
        Number of processes; by default one per core. Each holds a shard of up to 256 MB in memory. A
        script must call this function below ``if __name__ == "__main__":``.
    decode : Decode, optional
        :func:`rlmba.data.media.decode.decode_sample` by default. A sample that crashes its process is
        identified and left out.
    progress : callable, optional
        Called with the number of samples that are done and the number that have a file.

    Returns
    -------
    MediaReport

    Raises
    ------
    UsageError
        If the folder holds something else, the tokenizer cannot be loaded, or workers cannot start.
    DataError
        If the folder is a cache with another name, recipe or format, is damaged, or is being written by
        another process.
    StorageError
        If the disk is too small or becomes full; finished shards stay.
    """
    out = Path(out)
    recipe = with_vocabulary(recipe)
    _require_cache_or_nothing(out)
    make_folder(out)
    trust.require_inside(out)
    with locked(out, partial(_busy, out)):
        plan = _plan(catalogue, recipe, out)
        _require_space(out, plan)
        make_folder(out / shards.FOLDER)
        if not (out / HEADER).is_file() or read_plan(out) != plan:
            write_plan(out, plan)
        _clean(out, plan)
        job = _Preparation(catalogue, plan, decode or default_decode(), out)
        try:
            job.run(workers or cores(), progress)
        finally:
            _clean(out, plan)
        return cache_report(out, catalogue.notes)


@dataclass(frozen=True)
class _MakeShard:
    """Task: decode the samples of a shard and write it, except samples in ``crashes``."""

    cache: Path
    number: int
    modalities: tuple[str, ...]
    recipe: Recipe
    decode: Decode
    samples: Sequence[Sample]
    crashes: Mapping[str, str] = field(default_factory=dict)

    def run(self, tick: Callable[[], None]) -> None:
        rows: dict[str, shards.Arrays] = {}
        outcomes: dict[str, DecodeOutcome] = {}
        for sample in self.samples:
            crash = self.crashes.get(sample.id, "")
            arrays, outcome = examine(sample, self.recipe, self.decode, crash)
            if any(a is not None for a in arrays.values()):
                rows[sample.id] = {m: arrays.get(m) for m in self.modalities}
            if outcome.problems or outcome.flags:
                keys = {m: k for m, k in outcome.keys.items() if m in outcome.problems}
                outcomes[sample.id] = DecodeOutcome(outcome.problems, outcome.flags, keys)
            tick()
        shards.write_shard(self.cache, self.number, rows, outcomes, self.recipe)


class _Preparation:
    """Makes all shards that are not finished."""

    def __init__(
        self,
        catalogue: Catalogue,
        plan: CachePlan,
        decode: Decode,
        out: Path,
    ) -> None:
        self._plan = plan
        self._out = out
        self._decode = decode
        self._members = plan.members()
        self._todo = _unfinished(out, plan)
        self._samples = {s.id: s for s in catalogue.samples}
        self._place = {sample: i for i, sample in enumerate(plan.ids)}
        self._crashes: dict[int, dict[str, str]] = {}
        self._deaths: Counter[int] = Counter()
        self._probing: dict[str, int] = {}

    def run(self, workers: int, progress: OnProgress | None) -> None:
        total = sum(map(len, self._members.values()))
        done = total - sum(len(self._members[n]) for n in self._todo)
        shown = done
        if progress is not None:
            progress(done, total)
        with TaskQueue(workers, [self._task(n) for n in self._todo]) as pool:
            try:
                for event in pool.outcomes():
                    if event is not None:
                        done += self._take(pool, *event)
                    if progress is not None:
                        shown = max(shown, min(total, done + pool.in_flight))
                        progress(shown, total)
            except StorageError as error:
                raise StorageError(self._explain(error)) from error

    def _task(self, number: int) -> _MakeShard:
        return _MakeShard(
            self._out,
            number,
            self._plan.modalities,
            self._plan.recipe,
            self._decode,
            [self._samples.get(i) or self._vanished(i) for i in self._members[number]],
            self._crashes.get(number, {}),
        )

    def _vanished(self, sample: str) -> Sample:
        """A sample that was planned but is no longer listed."""
        i = self._place[sample]
        nothing = dict.fromkeys(self._plan.modalities)
        return Sample(sample, self._plan.labels[i], self._plan.test[i], nothing)

    def _take(self, pool: TaskQueue, task: object, outcome: object) -> int:
        """Record how a task ended; returns how many samples it finished."""
        if isinstance(task, _MakeShard):
            if not isinstance(outcome, Died):
                return len(task.samples)
            self._probe(pool, task, outcome)
        elif isinstance(task, Examine):
            self._probed(pool, task, outcome)
        return 0

    def _probe(self, pool: TaskQueue, task: _MakeShard, died: Died) -> None:
        """Read each sample of a shard alone after its worker died, to find the one that causes it."""
        self._deaths[task.number] += 1
        if self._deaths[task.number] > _MOST_DEATHS:
            raise DataError(
                f"worker processes die on shard {task.number} ({died}), although each of its samples can be "
                "read alone: memory probably runs out; run the command again with fewer --workers"
            )
        crashes = self._crashes.setdefault(task.number, {})
        suspects = [s for s in task.samples if s.id not in crashes]
        self._probing |= {s.id: task.number for s in suspects}
        pool.submit(Examine((s,), task.recipe, task.decode) for s in suspects)

    def _probed(self, pool: TaskQueue, task: Examine, outcome: object) -> None:
        sample = task.samples[0].id
        number = self._probing.pop(sample)
        if isinstance(outcome, Died):
            self._crashes[number][sample] = f"{CRASHED} ({outcome})"
        if number not in self._probing.values():
            pool.submit([self._task(number)])

    def _explain(self, error: StorageError) -> str:
        lacking = _unfinished(self._out, self._plan)
        count = sum(len(self._members[n]) for n in lacking)
        _, typical = shards.sample_bytes(self._plan.modalities, self._plan.recipe)
        return (
            f"{error}\n{len(self._members) - len(lacking):,} of {len(self._members):,} shards are finished "
            f"and stay; the others need about {count * typical:,} bytes. Free this space, then run the same "
            "command again: it continues from there"
        )


def _plan(catalogue: Catalogue, recipe: Recipe, out: Path) -> CachePlan:
    """The cache's plan, extended by samples that are new in the catalogue."""
    fresh = CachePlan.empty(catalogue, recipe)
    if not (out / HEADER).is_file():
        return fresh.extended(catalogue.samples)
    plan = read_plan(out)
    if lines := differences(plan, fresh):
        raise DataError(
            f"{out} is a cache of other content; give another --cache, or request the same content:\n"
            + "\n".join(lines)
        )
    return plan.extended(catalogue.samples, _repaired(catalogue, plan, out))


def _repaired(catalogue: Catalogue, plan: CachePlan, out: Path) -> set[str]:
    """Ids of samples that could not be read when their shard was made, and whose files have changed."""
    shard = dict(zip(plan.ids, plan.shard, strict=True))
    samples = {s.id: s for s in catalogue.samples}
    repaired: set[str] = set()
    for number in set(plan.shard) - {NOWHERE}:
        note = shards.read_note(out, number)
        for sample, outcome in note.outcomes.items() if note else ():
            here = shard.get(sample) == number and sample in samples
            if here and outcome.repaired(samples[sample]):
                repaired.add(sample)
    return repaired


def _unfinished(out: Path, plan: CachePlan) -> list[int]:
    """Shards that are missing or have another length than was written."""
    lacking = []
    for number in sorted(set(plan.shard) - {NOWHERE}):
        note = shards.read_note(out, number)
        file = shards.shard_file(out, number)
        if note is None or not file.is_file() or file.stat().st_size != note.size:
            lacking.append(number)
    return lacking


def _clean(out: Path, plan: CachePlan) -> None:
    """Remove temporary files and shards without a note, which a killed process leaves behind."""
    lacking = {shards.shard_file(out, n) for n in _unfinished(out, plan)}
    leftover = [*out.glob(".*.tmp"), *(out / shards.FOLDER).glob(".*.tmp")]
    for file in [*leftover, *lacking, *(f.with_suffix(".json") for f in lacking)]:
        file.unlink(missing_ok=True)


def _require_cache_or_nothing(out: Path) -> None:
    if not out.exists() or (out / HEADER).is_file():
        return
    ours = {_LOCK, shards.FOLDER}
    if not out.is_dir() or any(
        p.name not in ours and not p.name.startswith(("samples-", ".")) for p in out.iterdir()
    ):
        raise UsageError(
            f"{out} holds something other than a cache: give a folder that is empty or does not exist"
        )


def _require_space(out: Path, plan: CachePlan) -> None:
    todo = set(_unfinished(out, plan))
    samples = sum(n in todo for n in plan.shard)
    least, typical = shards.sample_bytes(plan.modalities, plan.recipe)
    free = shutil.disk_usage(out).free
    if samples * least > free:
        raise StorageError(
            f"{samples:,} samples need about {samples * typical:,} bytes, at least {samples * least:,}, but "
            f"{out} has {free:,} free: give a --cache on a larger disk, or free some space"
        )


def _busy(out: Path, holder: str) -> DataError:
    return DataError(f"{out} is being prepared by {holder}; wait for it or stop it first")
