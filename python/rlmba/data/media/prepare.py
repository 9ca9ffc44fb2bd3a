"""Making a cache: decode every sample once, in several processes, resumably."""

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
from rlmba.data.media.outcome import CRASHED, Decode, Outcome, default_decode, examine
from rlmba.data.media.plan import HEADER, NOWHERE, Plan, differences, read_plan, write_plan
from rlmba.data.media.report import Progress, Report
from rlmba.data.media.tokens import with_vocabulary
from rlmba.data.media.work import TaskQueue
from rlmba.errors import DataError, StorageError, UsageError
from rlmba.storage import locked, make_folder
from rlmba.workers import Died, cores

__all__ = ["prepare"]

_LOCK = "lock"
_MOST_DEATHS = 3
"""Of workers over one shard: after each, its samples are read alone to find the culprit."""


def prepare(
    catalogue: Catalogue,
    recipe: Recipe,
    out: str | Path,
    *,
    workers: int | None = None,
    decode: Decode | None = None,
    progress: Progress | None = None,
) -> Report:
    """Decode what a catalogue lists into a cache, or go on with one.

    Shards that are finished stay; with all of them there, nothing is done. Samples that the
    catalogue lists since then, or whose missing or unreadable file has changed, get shards of their
    own. Killed at any moment it loses the shards that were being made and nothing else. What a shard
    holds depends on its samples alone, not on workers or interruptions.

    Parameters
    ----------
    catalogue : Catalogue
    recipe : Recipe
    out : path
        The cache: a folder that is empty, not there yet, or a cache of the same name and recipe.
    workers : int, optional
        Processes; as many as there are cores by default. Each holds a shard in memory, up to
        256 MB. A script that calls this must do so below ``if __name__ == "__main__":``.
    decode : Decode, optional
        :func:`rlmba.data.media.decode.decode_sample` by default. A sample that ends its process is
        found and left out.
    progress : callable, optional
        Called with the number of samples done, and of all that have a file.

    Returns
    -------
    Report

    Raises
    ------
    UsageError
        If the folder holds something else, there is no tokenizer, or workers cannot start.
    DataError
        If it is a cache of another name, recipe or format, damaged, or being written by another
        process.
    StorageError
        If the disk is too small or fills up: finished shards stay.
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
        job = _Job(catalogue, plan, decode or default_decode(), out)
        try:
            job.run(workers or cores(), progress)
        finally:
            _clean(out, plan)
        return cache_report(out, catalogue.notes)


@dataclass(frozen=True)
class _MakeShard:
    """Task: decode the samples of a shard and write it; those in ``crashes`` are not read."""

    cache: Path
    number: int
    modalities: tuple[str, ...]
    recipe: Recipe
    decode: Decode
    samples: Sequence[Sample]
    crashes: Mapping[str, str] = field(default_factory=dict)

    def run(self, tick: Callable[[], None]) -> None:
        rows: dict[str, shards.Arrays] = {}
        outcomes: dict[str, Outcome] = {}
        for sample in self.samples:
            crash = self.crashes.get(sample.id, "")
            arrays, outcome = examine(sample, self.recipe, self.decode, crash)
            if any(a is not None for a in arrays.values()):
                rows[sample.id] = {m: arrays.get(m) for m in self.modalities}
            if outcome.problems or outcome.flags:
                keys = {m: k for m, k in outcome.keys.items() if m in outcome.problems}
                outcomes[sample.id] = Outcome(outcome.problems, outcome.flags, keys)
            tick()
        shards.write_shard(self.cache, self.number, rows, outcomes, self.recipe)


class _Job:
    """Making all the shards that are not there."""

    def __init__(
        self,
        catalogue: Catalogue,
        plan: Plan,
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

    def run(self, workers: int, progress: Progress | None) -> None:
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
        """A sample that was planned and is no longer listed."""
        i = self._place[sample]
        nothing = dict.fromkeys(self._plan.modalities)
        return Sample(sample, self._plan.labels[i], self._plan.test[i], nothing)

    def _take(self, pool: TaskQueue, task: object, outcome: object) -> int:
        """Take note of how a task ended; how many samples that finishes."""
        if isinstance(task, _MakeShard):
            if not isinstance(outcome, Died):
                return len(task.samples)
            self._probe(pool, task, outcome)
        elif isinstance(task, Examine):
            self._probed(pool, task, outcome)
        return 0

    def _probe(self, pool: TaskQueue, task: _MakeShard, died: Died) -> None:
        """Read each sample of a shard whose worker died on its own, to find which it dies of."""
        self._deaths[task.number] += 1
        if self._deaths[task.number] > _MOST_DEATHS:
            raise DataError(
                f"worker processes die of shard {task.number} ({died}), though each of its samples can be "
                "read alone: probably memory runs out; run it again with fewer --workers"
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
            f"and stay; the rest needs about {count * typical:,} bytes. Free them, then run the same "
            "command again: it goes on from there"
        )


def _plan(catalogue: Catalogue, recipe: Recipe, out: Path) -> Plan:
    """The cache's plan, with what the catalogue has gained since it was made."""
    fresh = Plan.empty(catalogue, recipe)
    if not (out / HEADER).is_file():
        return fresh.extended(catalogue.samples)
    plan = read_plan(out)
    if lines := differences(plan, fresh):
        raise DataError(
            f"{out} is a cache of something else; give another --cache, or ask for the same:\n"
            + "\n".join(lines)
        )
    return plan.extended(catalogue.samples, _repaired(catalogue, plan, out))


def _repaired(catalogue: Catalogue, plan: Plan, out: Path) -> set[str]:
    """Ids that finished shards could not read, and whose files have changed since."""
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


def _unfinished(out: Path, plan: Plan) -> list[int]:
    """Shards that are not there, or not as long as they were written."""
    lacking = []
    for number in sorted(set(plan.shard) - {NOWHERE}):
        note = shards.read_note(out, number)
        file = shards.shard_file(out, number)
        if note is None or not file.is_file() or file.stat().st_size != note.size:
            lacking.append(number)
    return lacking


def _clean(out: Path, plan: Plan) -> None:
    """Remove temporary files, and shards without a note: what a process left that was killed."""
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
            f"{out} holds something that is no cache: give a folder that is empty or not there yet"
        )


def _require_space(out: Path, plan: Plan) -> None:
    todo = set(_unfinished(out, plan))
    samples = sum(n in todo for n in plan.shard)
    least, typical = shards.sample_bytes(plan.modalities, plan.recipe)
    free = shutil.disk_usage(out).free
    if samples * least > free:
        raise StorageError(
            f"{samples:,} samples need about {samples * typical:,} bytes, {samples * least:,} at least; "
            f"{out} has {free:,} free: give a --cache on a larger disk, or free some space"
        )


def _busy(out: Path, holder: str) -> DataError:
    return DataError(f"{out} is being prepared by {holder}; wait for it or stop it first")
