"""Report on the files of a data set, counted by split and class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rlmba.data.media.catalogue import split_checksum
from rlmba.data.media.outcome import DecodeOutcome
from rlmba.markup import visible
from rlmba.storage import atomic_write_text
from rlmba.tables import csv_text

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Counts", "MediaProblem", "MediaReport", "OnProgress"]

OnProgress: TypeAlias = Callable[[int, int], None]
"""A function that is called with the number of items that are done and their total."""

_SHOWN = 20
_NAMED = 5
_KINDS = ("unreadable", "missing", "flagged")


@dataclass
class Counts:
    """Numbers of samples of a split, or of a class in it.

    Parameters
    ----------
    listed : int
        Named by the data set's lists or folders.
    found : int
        With a file for every modality.
    missing : int
        Without a file for some modality: ``listed - found``.
    unreadable : int
        With a file that cannot be read.
    flagged : int
        Readable but odd: still, short, silent, rotated or converted.
    complete : int
        With all modalities.
    usable : int
        With at least one modality.
    waiting : int
        Not prepared yet.
    """

    listed: int = 0
    found: int = 0
    missing: int = 0
    unreadable: int = 0
    flagged: int = 0
    complete: int = 0
    usable: int = 0
    waiting: int = 0

    def add(self, outcome: DecodeOutcome | None, modalities: int) -> None:
        """Count one sample; None is a sample that is not prepared yet."""
        self.listed += 1
        if outcome is None:
            self.waiting += 1
            return
        self.missing += outcome.missing
        self.found += not outcome.missing
        self.unreadable += outcome.unreadable
        self.flagged += bool(outcome.flags)
        self.complete += not outcome.problems
        self.usable += len(outcome.problems) < modalities

    @property
    def clean(self) -> bool:
        """Whether nothing is missing, unreadable, flagged or waiting."""
        return not (self.missing or self.unreadable or self.flagged or self.waiting)


@dataclass(frozen=True)
class MediaProblem:
    """A problem of one modality of one sample; ``kind`` is missing, unreadable or flagged."""

    id: str
    split: str
    label: str
    modality: str
    kind: str
    text: str


@dataclass(frozen=True)
class MediaReport:
    """What is usable, missing or damaged in a data set.

    Parameters
    ----------
    name, layout, root : str
        The data set, its layout and its folder.
    modalities, classes : tuple of str
    published : mapping of split to int
        Published numbers of samples.
    ids, labels, test : sequences, one entry per sample
    outcomes : sequence of DecodeOutcome or None
        The outcome of each sample; None if it is not prepared yet.
    notes : tuple of str
        Remarks about the lists of samples.
    place : path or None
        Where the result is stored: the cache, or the index of the check.
    quick : bool
        Whether files were only looked for, and not read.
    """

    name: str
    layout: str
    root: str
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    published: Mapping[str, int]
    ids: Sequence[str]
    labels: Sequence[int]
    test: Sequence[bool]
    outcomes: Sequence[DecodeOutcome | None]
    notes: tuple[str, ...] = ()
    place: Path | None = None
    quick: bool = False

    @cached_property
    def by_class(self) -> Mapping[tuple[str, str], Counts]:
        """Counts by split and class, including classes without samples."""
        counts = {(s, c): Counts() for s in ("train", "test") for c in self.classes}
        for label, test, outcome in zip(self.labels, self.test, self.outcomes, strict=True):
            counts[_split(test), self.classes[label]].add(outcome, len(self.modalities))
        return counts

    @cached_property
    def totals(self) -> Mapping[str, Counts]:
        """Counts by split."""
        return {
            split: Counts(
                *map(
                    sum,
                    zip(
                        *(astuple(c) for (s, _), c in self.by_class.items() if s == split),
                        strict=True,
                    ),
                )
            )
            for split in ("train", "test")
        }

    @property
    def usable(self) -> int:
        """Samples with at least one modality."""
        return sum(c.usable for c in self.totals.values())

    @property
    def complete(self) -> int:
        """Samples with all modalities, which are those that loaders use by default."""
        return sum(c.complete for c in self.totals.values())

    @cached_property
    def checksum(self) -> str:
        """:func:`split_checksum` of the usable samples."""
        return self._checksum(len(self.modalities) - 1)

    @cached_property
    def complete_checksum(self) -> str:
        """:func:`split_checksum` of the complete samples."""
        return self._checksum(0)

    def _checksum(self, problems: int) -> str:
        """Checksum of the samples that lack at most this many modalities."""
        kept = [
            i for i, o in enumerate(self.outcomes) if o is not None and len(o.problems) <= problems
        ]
        return split_checksum(
            self.classes,
            [self.ids[i] for i in kept],
            [self.labels[i] for i in kept],
            [self.test[i] for i in kept],
        )

    def problems(self) -> Iterator[MediaProblem]:
        """What is missing, unreadable or flagged, in order of the samples."""
        for i, outcome in enumerate(self.outcomes):
            if outcome is None:
                continue
            about = (self.ids[i], _split(self.test[i]), self.classes[self.labels[i]])
            for m, text in outcome.problems.items():
                kind = "missing" if outcome.keys.get(m) is None else "unreadable"
                yield MediaProblem(*about, m, kind, text)
            for m, flags in outcome.flags.items():
                yield MediaProblem(*about, m, "flagged", " ".join(flags))

    def write_problems(self, path: Path) -> None:
        """Write :meth:`problems` as CSV with a header.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        names = [f.name if f.name != "label" else "class" for f in fields(MediaProblem)]
        atomic_write_text(path, csv_text(names, map(astuple, self.problems())))

    def tables(self, every_class: bool = False) -> list[Table]:
        """Tables for a terminal: one by split and one by class.

        ``every_class`` includes classes without problems.
        """
        columns = [f.name for f in fields(Counts)]
        if not any(c.waiting for c in self.totals.values()):
            columns.remove("waiting")
        if self.quick:
            columns = ["listed", "found", "missing"]
        splits = [
            [split, _published(self.published.get(split)), *_cells(counts, columns)]
            for split, counts in self.totals.items()
        ]
        made = [_table(["split", "published", *columns], splits)]
        used = {s for s, c in self.totals.items() if c.listed}
        rows = [
            [split, label, *_cells(counts, columns)]
            for (split, label), counts in self.by_class.items()
            if split in used and (every_class or not counts.clean)
        ]
        if rows:
            made.append(_table(["split", "class", *columns], rows))
        return made

    def head(self) -> list[str]:
        """Lines to print before the tables: what was read, and remarks about it."""
        lines = [f"{self.name} in {self.root}, layout {self.layout}", *self.notes]
        for split, counts in self.totals.items():
            empty = [c for (s, c), n in self.by_class.items() if s == split and not n.listed]
            if empty and counts.listed:
                names = ", ".join(empty[:_NAMED]) + ", ..." * (len(empty) > _NAMED)
                lines.append(
                    f"{split}: {len(empty):,} of {len(self.classes):,} classes have no sample ({names})"
                )
        return lines

    def tail(self, problems: Path | None = None) -> list[str]:
        """Lines to print after the tables: the first problems, the checksum and the place.

        ``problems`` is the file that the problems were written to, if any.
        """
        found = sorted(self.problems(), key=lambda p: _KINDS.index(p.kind))
        lines: list[str] = []
        if problems is not None:
            lines.append(f"{len(found):,} problems, listed in {problems}")
        elif found:
            spoken = _sentences(found)
            lines += spoken[:_SHOWN]
            more = len(spoken) - _SHOWN
            if more > 0:
                lines.append(f"... and {more:,} more; --problems FILE.csv lists all of them")
        looked = "with a file" if self.quick else "usable"
        lines.append(f"split checksum of the {self.usable:,} samples {looked}: {self.checksum}")
        if self.complete != self.usable:
            lines.append(
                f"split checksum of the {self.complete:,} with all modalities: {self.complete_checksum}"
            )
        if self.place is not None:
            lines.append(str(self.place))
        return lines


def _sentences(problems: Sequence[MediaProblem]) -> list[str]:
    """One line per problem; modalities of a sample with the same problem share a line."""
    lines = []
    for (kind, split, label, sample, text), group in groupby(
        problems, key=lambda p: (p.kind, p.split, p.label, p.id, p.text)
    ):
        about = ", ".join(p.modality for p in group)
        lines.append(f"{kind}: {split} {label} {sample}, {about}: {text}")
    return lines


def _split(test: bool) -> str:
    return "test" if test else "train"


def _cells(counts: Counts, columns: Sequence[str]) -> list[str]:
    return [f"{getattr(counts, c):,}" for c in columns]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="")
    for i, column in enumerate(columns):
        number = i > 1 or column == "published"
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table


def _published(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"
