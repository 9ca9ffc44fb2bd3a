"""The outcome of reading one sample, which is stored on disk and counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from rlmba.data.media.catalogue import Sample, Source
from rlmba.data.media.content import MediaContent, Recipe
from rlmba.errors import DataError, RlmbaError

__all__ = [
    "CRASHED",
    "Decode",
    "DecodeOutcome",
    "FileKey",
    "default_decode",
    "examine",
    "key_of",
    "missing",
]

Decode: TypeAlias = Callable[[Sample, Recipe], Mapping[str, MediaContent]]
"""A function that reads a sample: content by modality. A worker process must be able to import it."""

FileKey: TypeAlias = tuple[int, int] | None
"""Size and modification time (nanoseconds) of a file, to detect changes; None if there is no file."""

CRASHED = "the decoder crashed on it"
_NO_FILE = "no file"


@dataclass(frozen=True)
class DecodeOutcome:
    """The outcome of reading one sample.

    Parameters
    ----------
    problems : mapping of modality to str
        Modalities without content, and why.
    flags : mapping of modality to tuple of str
        What is odd about modalities with content.
    keys : mapping of modality to FileKey
        The files when they were read; a modality that is not listed had no file.
    """

    problems: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keys: Mapping[str, FileKey] = field(default_factory=dict)

    @property
    def missing(self) -> bool:
        """Whether a modality has no file."""
        return any(self.keys.get(m) is None for m in self.problems)

    @property
    def unreadable(self) -> bool:
        """Whether a modality has a file that cannot be read."""
        return any(self.keys.get(m) is not None for m in self.problems)

    def current(self, sample: Sample) -> bool:
        """Whether the files have not changed since they were read."""
        return all(key_of(s) == self.keys.get(m) for m, s in sample.sources.items())

    def repaired(self, sample: Sample) -> bool:
        """Whether a file that was missing or unreadable now exists or has changed."""
        keys = {m: key_of(sample.sources.get(m)) for m in self.problems}
        return any(k is not None and k != self.keys.get(m) for m, k in keys.items())

    def to_dict(self) -> dict[str, Any]:
        """As JSON; empty parts are left out."""
        parts = {"problems": self.problems, "flags": self.flags, "keys": self.keys}
        return {name: dict(part) for name, part in parts.items() if part}


def key_of(source: Source | None) -> FileKey:
    """The key of a source's file, of all files of its folder, or of its text."""
    if source is None:
        return None
    if source.path is None:
        digest = hashlib.blake2b((source.text or "").encode(), digest_size=6).digest()
        return len(source.text or ""), int.from_bytes(digest, "big")
    try:
        stats = [source.path.stat()]
        if source.form == "frames":
            stats = [p.stat() for p in sorted(Path(source.path).iterdir())]
    except OSError:
        return None
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def missing(sample: Sample) -> DecodeOutcome:
    """The outcome without reading: modalities without a file are missing, all others count as good."""
    return DecodeOutcome({m: _NO_FILE for m, s in sample.sources.items() if s is None})


def default_decode() -> Decode:
    """The package's own decoder."""
    from rlmba.data.media.decode import decode_sample

    return decode_sample


def examine(
    sample: Sample, recipe: Recipe, decode: Decode, crash: str = ""
) -> tuple[dict[str, NDArray[Any] | None], DecodeOutcome]:
    """Read a sample: its arrays by modality, and the outcome.

    A failure to read the sample's own files is recorded in the outcome and raises no error.

    Parameters
    ----------
    sample, recipe : Sample, Recipe
    decode : Decode
    crash : str
        If not empty, the sample is not read, and this is its problem.

    Raises
    ------
    RlmbaError
        For a failure that affects all samples, such as a missing tokenizer.
    """
    keys = {m: key for m, s in sample.sources.items() if (key := key_of(s)) is not None}
    contents = _decoded(sample, recipe, decode, crash) if keys else {}
    problems: dict[str, str] = {}
    flags: dict[str, tuple[str, ...]] = {}
    arrays: dict[str, NDArray[Any] | None] = {}
    for modality in sample.sources:
        content = contents.get(modality, MediaContent(None))
        arrays[modality] = content.array if modality in keys else None
        if modality not in keys:
            problems[modality] = _NO_FILE
        elif content.array is None:
            problems[modality] = " ".join(content.problem.split()) or "the decoder returned nothing"
        elif content.flags:
            flags[modality] = content.flags
    return arrays, DecodeOutcome(problems, flags, keys)


def _decoded(
    sample: Sample, recipe: Recipe, decode: Decode, crash: str
) -> Mapping[str, MediaContent]:
    if crash:
        return {m: MediaContent(None, crash) for m in sample.sources}
    try:
        return decode(sample, recipe)
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, RlmbaError) and not isinstance(error, DataError):
            raise
        return {m: MediaContent(None, f"{type(error).__name__}: {error}") for m in sample.sources}
