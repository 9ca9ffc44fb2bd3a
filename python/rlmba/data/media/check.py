"""Checking a data set's files: the reading that preparing does, without keeping what is read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from rlmba.data.media.catalogue import Catalogue, Sample
from rlmba.data.media.content import Recipe
from rlmba.data.media.outcome import CRASHED, Decode, Outcome, default_decode, examine, missing
from rlmba.data.media.report import Progress, Report
from rlmba.data.media.tokens import with_vocabulary
from rlmba.data.media.work import TaskQueue
from rlmba.errors import DataError, StorageError
from rlmba.reading.files import find_bytes
from rlmba.reading.structured import parse_json
from rlmba.storage import atomic_write_text, cache_folder
from rlmba.workers import Died, cores

__all__ = ["Examine", "check", "default_index", "known_outcomes"]

_FORMAT = 1
_CHUNK = 16
_T = TypeVar("_T")


@dataclass(frozen=True)
class Examine:
    """Task: read samples and say what became of each."""

    samples: Sequence[Sample]
    recipe: Recipe
    decode: Decode

    def run(self, tick: Callable[[], None]) -> list[Outcome]:
        """Outcomes of the samples, in their order."""
        outcomes = []
        for sample in self.samples:
            outcomes.append(examine(sample, self.recipe, self.decode)[1])
            tick()
        return outcomes


def check(
    catalogue: Catalogue,
    recipe: Recipe,
    *,
    workers: int | None = None,
    decode: Decode | None = None,
    progress: Progress | None = None,
    index: str | Path | None = None,
    quick: bool = False,
) -> Report:
    """Read every sample a catalogue lists and count what is missing, unreadable or odd.

    Results are appended to an index as they come, so that a check that was stopped goes on where
    it was, and one that is run again reads only files that have changed: those of another size or
    time of change.

    Parameters
    ----------
    catalogue : Catalogue
    recipe : Recipe
    workers : int, optional
        Processes; as many as there are cores by default. A script that calls this must do so
        below ``if __name__ == "__main__":``.
    decode : Decode, optional
        :func:`rlmba.data.media.decode.decode_sample` by default. A sample that ends its process is
        found and counted as unreadable.
    progress : callable, optional
        Called with the number of samples done, and of all.
    index : path, optional
        The file of results; :func:`default_index` by default.
    quick : bool
        Only look for files: nothing is read, no index used.

    Returns
    -------
    Report

    Raises
    ------
    DataError
        If the index is of another data set or recipe, or no index.
    StorageError
        If the index cannot be written.
    UsageError
        If there is no tokenizer, or workers cannot start.
    """
    if quick:
        return _report(catalogue, [missing(s) for s in catalogue.samples], None, quick=True)
    recipe = with_vocabulary(recipe)
    file = Path(index) if index is not None else default_index(catalogue, recipe)
    outcomes = dict(known_outcomes(catalogue, recipe, file))
    todo = [s for s in catalogue.samples if s.id not in outcomes]
    if progress is not None:
        progress(len(outcomes), len(catalogue.samples))
    chunks = [todo[i : i + _CHUNK] for i in range(0, len(todo), _CHUNK)]
    decode = decode or default_decode()
    tasks = [Examine(chunk, recipe, decode) for chunk in chunks]
    with _opened(file, catalogue, recipe) as log, TaskQueue(workers or cores(), tasks) as pool:
        for event in pool.outcomes():
            if event is not None:
                for sample, outcome in _settle(pool, *event):
                    outcomes[sample.id] = outcome
                    _append(log, file, {"id": sample.id, **outcome.to_dict()})
            if progress is not None:
                progress(len(outcomes) + pool.in_flight, len(catalogue.samples))
    return _report(catalogue, [outcomes[s.id] for s in catalogue.samples], file)


def _settle(pool: TaskQueue, task: Any, result: Any) -> Iterator[tuple[Sample, Outcome]]:
    """What a task found; one that died is done again sample by sample."""
    if not isinstance(result, Died):
        yield from zip(task.samples, result, strict=True)
    elif len(task.samples) > 1:
        pool.submit(Examine((s,), task.recipe, task.decode) for s in task.samples)
    else:
        (sample,) = task.samples
        yield sample, examine(sample, task.recipe, task.decode, f"{CRASHED} ({result})")[1]


def default_index(catalogue: Catalogue, recipe: Recipe) -> Path:
    """Where the results of checking these files by this recipe are kept, in the user's cache folder."""
    facts = json.dumps(_facts(catalogue, recipe), sort_keys=True)
    digest = hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()
    return cache_folder() / "index" / f"{digest}.jsonl"


def known_outcomes(
    catalogue: Catalogue, recipe: Recipe, index: str | Path | None = None
) -> Mapping[str, Outcome]:
    """What earlier checks found, by id, of samples whose files are still what they were.

    Reads the index alone, and looks at each file's size and time. Empty where there is none.

    Raises
    ------
    DataError
        If the index is of another data set or recipe, or no index.
    """
    file = Path(index) if index is not None else default_index(catalogue, recipe)
    data = find_bytes(file, advice="give another --index")
    if not data:
        return {}
    lines = data.split(b"\n")[:-1] or [b""]  # what follows the last line's end is torn
    facts = _line(lines[0], dict[str, Any])
    if facts is None or "format" not in facts:
        raise DataError(f"{file} is no index of a check; give another --index")
    if facts != _facts(catalogue, recipe):
        raise DataError(
            f"{file} is the index of {facts.get('name')} in {facts.get('root')}, or of another recipe or "
            "version; give another --index"
        )
    samples = {s.id: s for s in catalogue.samples}
    known: dict[str, Outcome] = {}
    for line in lines[1:]:
        said = _line(line, _Known)
        if said is not None and said.id in samples:
            known[said.id] = Outcome(said.problems, said.flags, said.keys)
    return {i: outcome for i, outcome in known.items() if outcome.current(samples[i])}


def _facts(catalogue: Catalogue, recipe: Recipe) -> dict[str, Any]:
    facts = {
        "format": _FORMAT,
        "name": catalogue.name,
        "root": str(catalogue.root.resolve()),
        "recipe": asdict(recipe),
    }
    loaded: dict[str, Any] = json.loads(json.dumps(facts))  # tuples as they come back
    return loaded


@dataclass(frozen=True, kw_only=True)
class _Known(Outcome):
    """A line of an index: what became of a sample."""

    id: str


def _line(line: bytes, type_: type[_T]) -> _T | None:
    """A line of an index; None where it is torn, as one is after a crash."""
    try:
        return parse_json(line, type_, "", advice="")
    except DataError:
        return None


def _opened(file: Path, catalogue: Catalogue, recipe: Recipe) -> BinaryIO:
    """The index, ready to be appended to."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.stat().st_size == 0:
            atomic_write_text(file, json.dumps(_facts(catalogue, recipe)) + "\n")
        with file.open("rb") as read:
            read.seek(-1, os.SEEK_END)
            torn = read.read(1) != b"\n"
        log = file.open("ab", buffering=0)
        if torn:
            log.write(b"\n")
    except OSError as error:
        raise StorageError(f"could not write {file} ({error}); give another --index") from error
    return log


def _append(log: BinaryIO, file: Path, line: Mapping[str, Any]) -> None:
    data = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    try:
        written = log.write(data)
    except OSError as error:
        raise StorageError(
            f"could not write {file} ({error.strerror}); what it holds stays: free some space or give "
            "another --index, then run the same command again"
        ) from error
    if written != len(data):
        raise StorageError(
            f"could not write {len(data):,} bytes to {file}; what it holds stays: free some space or give "
            "another --index, then run the same command again"
        )


def _report(
    catalogue: Catalogue, outcomes: Sequence[Outcome], place: Path | None, quick: bool = False
) -> Report:
    samples = catalogue.samples
    return Report(
        name=catalogue.name,
        layout=catalogue.layout,
        root=str(catalogue.root),
        modalities=catalogue.modalities,
        classes=catalogue.classes,
        published=catalogue.published,
        ids=[s.id for s in samples],
        labels=[s.label for s in samples],
        test=[s.test for s in samples],
        outcomes=outcomes,
        notes=tuple(catalogue.notes),
        place=place,
        quick=quick,
    )
