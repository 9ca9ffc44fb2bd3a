"""Check the files of a data set: read them as preparation does, but without storing the content."""

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
from rlmba.data.media.outcome import (
    CRASHED,
    Decode,
    DecodeOutcome,
    default_decode,
    examine,
    missing,
)
from rlmba.data.media.report import MediaReport, OnProgress
from rlmba.data.media.tokens import with_vocabulary
from rlmba.data.media.work import TaskQueue
from rlmba.errors import DataError, StorageError
from rlmba.markup import visible
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
    """Task: read samples and return the outcome of each."""

    samples: Sequence[Sample]
    recipe: Recipe
    decode: Decode

    def run(self, tick: Callable[[], None]) -> list[DecodeOutcome]:
        """Outcomes of the samples, in order."""
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
    progress: OnProgress | None = None,
    index: str | Path | None = None,
    quick: bool = False,
) -> MediaReport:
    """Read every sample of a catalogue and count what is missing, unreadable or odd.

    Results are appended to an index as they arrive. So an interrupted check continues where it stopped,
    and a later check reads only files whose size or modification time has changed.

    Parameters
    ----------
    catalogue : Catalogue
    recipe : Recipe
    workers : int, optional
        Number of processes; by default one per core. A script must call this function below
        ``if __name__ == "__main__":``.
    decode : Decode, optional
        :func:`rlmba.data.media.decode.decode_sample` by default. A sample that crashes its process is
        identified and counted as unreadable.
    progress : callable, optional
        Called with the number of samples that are done and their total.
    index : path, optional
        The file of results; :func:`default_index` by default.
    quick : bool
        Whether to only look for files, without reading them or using an index.

    Returns
    -------
    MediaReport

    Raises
    ------
    DataError
        If the index belongs to another data set or recipe, or the file is not an index.
    StorageError
        If the index cannot be written.
    UsageError
        If the tokenizer cannot be loaded, or workers cannot start.
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


def _settle(pool: TaskQueue, task: Any, result: Any) -> Iterator[tuple[Sample, DecodeOutcome]]:
    """The outcomes of a task; if its worker died, each sample is submitted again alone."""
    if not isinstance(result, Died):
        yield from zip(task.samples, result, strict=True)
    elif len(task.samples) > 1:
        pool.submit(Examine((s,), task.recipe, task.decode) for s in task.samples)
    else:
        (sample,) = task.samples
        yield sample, examine(sample, task.recipe, task.decode, f"{CRASHED} ({result})")[1]


def default_index(catalogue: Catalogue, recipe: Recipe) -> Path:
    """The file in the user's cache folder for the results of checking these files with this recipe."""
    facts = json.dumps(_facts(catalogue, recipe), sort_keys=True)
    digest = hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()
    return cache_folder() / "index" / f"{digest}.jsonl"


def known_outcomes(
    catalogue: Catalogue, recipe: Recipe, index: str | Path | None = None
) -> Mapping[str, DecodeOutcome]:
    """Outcomes of earlier checks by id, for samples whose files have not changed since.

    It reads only the index, and each file's size and modification time. Empty if there is no index.

    Raises
    ------
    DataError
        If the index belongs to another data set or recipe, or the file is not an index.
    """
    file = Path(index) if index is not None else default_index(catalogue, recipe)
    data = find_bytes(file, advice="give another --index")
    if not data:
        return {}
    lines = data.split(b"\n")[:-1] or [b""]  # a last line without a line end is incomplete
    facts = _line(lines[0], dict[str, Any])
    if facts is None or "format" not in facts:
        raise DataError(f"{file} is not the index of a check; give another --index")
    if facts != _facts(catalogue, recipe):
        raise DataError(
            f"{file} is the index of {facts.get('name')} in {facts.get('root')}, or was written with another "
            "recipe or version; give another --index"
        )
    samples = {s.id: s for s in catalogue.samples}
    known: dict[str, DecodeOutcome] = {}
    for line in lines[1:]:
        entry = _line(line, _Known)
        if entry is not None and entry.id in samples:
            known[entry.id] = DecodeOutcome(entry.problems, entry.flags, entry.keys)
    return {i: outcome for i, outcome in known.items() if outcome.current(samples[i])}


def _facts(catalogue: Catalogue, recipe: Recipe) -> dict[str, Any]:
    facts = {
        "format": _FORMAT,
        "name": catalogue.name,
        "root": visible(str(catalogue.root.resolve())),
        "recipe": asdict(recipe),
    }
    loaded: dict[str, Any] = json.loads(json.dumps(facts))  # tuples become lists, as in the file
    return loaded


@dataclass(frozen=True, kw_only=True)
class _Known(DecodeOutcome):
    """A line of an index: the outcome of a sample."""

    id: str


def _line(line: bytes, type_: type[_T]) -> _T | None:
    """A line of an index; None if it is incomplete, as after a crash."""
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
            f"could not write {file} ({error.strerror}); its results so far are kept: free some space or "
            "give another --index, then run the same command again"
        ) from error
    if written != len(data):
        raise StorageError(
            f"could not write {len(data):,} bytes to {file}; its results so far are kept: free some space or "
            "give another --index, then run the same command again"
        )


def _report(
    catalogue: Catalogue, outcomes: Sequence[DecodeOutcome], place: Path | None, quick: bool = False
) -> MediaReport:
    samples = catalogue.samples
    return MediaReport(
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
