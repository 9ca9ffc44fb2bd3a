"""Shared by the readers of layouts: class lists, remarks, folder listings and the catalogue's order."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from rlmba.data.encoding import decode_text
from rlmba.data.media.catalogue import Catalogue, Sample
from rlmba.errors import DataError
from rlmba.ids import not_storable
from rlmba.markup import visible
from rlmba.reading.files import read_bytes

__all__ = [
    "PUBLISHED",
    "Remarks",
    "catalogue",
    "class_key",
    "class_labels",
    "csv_rows",
    "list_folder",
    "not_found",
    "published_classes",
    "read_list",
    "split_name",
]

PUBLISHED: Mapping[str, Mapping[str, int]] = {
    "food101": {"train": 45_719, "test": 15_294},
    "kineticssound": {"train": 14_739, "test": 2_594},
    "vggsound": {"train": 105_243, "test": 7_109},
}
"""Numbers of samples in the RL-MBA paper."""

_EXAMPLES = 3


@cache
def published_classes(name: str) -> tuple[str, ...]:
    """The published class names of a data set, sorted."""
    file = resources.files("rlmba.data.media.layouts") / "classes" / f"{name}.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines())


def class_key(name: str) -> str:
    """A class name without case and punctuation, which differ between copies of a data set."""
    return re.sub(r"[^a-z0-9]+", " ", name.casefold()).strip()


@cache
def class_labels(name: str) -> Mapping[str, int]:
    """The labels of all classes of a data set, by :func:`class_key`."""
    return {class_key(c): k for k, c in enumerate(published_classes(name))}


class Remarks:
    """Remarks about files, lines or samples; equal remarks are counted."""

    def __init__(self) -> None:
        self._instances: defaultdict[str, list[str]] = defaultdict(list)
        self._lines: list[str] = []

    def add(self, remark: str, instance: str) -> None:
        """Add an instance of a remark."""
        self._instances[remark].append(visible(instance))

    def say(self, line: str) -> None:
        """Add a remark without instances."""
        self._lines.append(line)

    def lines(self) -> tuple[str, ...]:
        """One line per remark, with the number of instances and the first few in alphabetical order."""
        return (
            *self._lines,
            *(f"{k}: {len(v):,} ({examples(v)})" for k, v in sorted(self._instances.items())),
        )


def examples(names: Iterable[str], most: int = _EXAMPLES) -> str:
    """The first few names in alphabetical order, as text."""
    names = sorted(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def list_folder(path: Path | str) -> list[os.DirEntry[str]]:
    """Entries of a folder, sorted by name; none if there is no such folder.

    They are sorted because the order on disk differs between machines.
    """
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(
            f"{path}: expected a folder that can be read, got: {error.strerror or error}; "
            "check its permissions"
        ) from error


def split_name(name: str) -> tuple[str, str]:
    """A file's name without its suffix, and the suffix in lower case with its dot, or ""."""
    stem, point, suffix = name.rpartition(".")
    return (stem, point + suffix.lower()) if stem else (name, "")


def csv_rows(path: Path, notes: Remarks) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file, each with the number of the line that it ends on; blank lines are skipped."""
    found = decode_text(read_list(path))
    if found.bad is not None:
        notes.say(f"{path.name} is not UTF-8; it was read as Windows-1252")
    reader = csv.reader(io.StringIO(found.text.replace("\0", ""), newline=""))
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{path}: expected comma-separated values, but line {reader.line_num} cannot be read "
            f"({error}); get the file again"
        ) from error


def read_list(path: Path) -> bytes:
    """The bytes of a list of samples."""
    return read_bytes(path, advice="give a list of samples")


def unique(candidates: Iterable[Sample], notes: Remarks) -> list[Sample]:
    """Samples sorted by (test, class, id); if an id occurs twice, only the first in this order.

    So a clip that is in both splits stays in the training split, and no test sample is trained on.
    """
    taken: dict[str, Sample] = {}
    for sample in sorted(candidates, key=lambda s: (s.test, s.label, s.id)):
        if sample.id in taken:
            notes.add(
                "samples that occur again (in another class, split or file), left out", sample.id
            )
        elif not_storable(sample.id):
            notes.add(
                "samples whose file name is not UTF-8 or ends in a blank, left out", sample.id
            )
        else:
            taken[sample.id] = sample
    return list(taken.values())


def catalogue(
    name: str,
    root: Path,
    candidates: Iterable[Sample],
    *,
    layout: str,
    modalities: Sequence[str],
    notes: Remarks,
) -> Catalogue:
    """The catalogue of the candidates that are not left out, with the remarks."""
    samples = unique(candidates, notes)
    if not samples:
        found = "; ".join(notes.lines()) or "nothing"
        raise DataError(
            f"{root}: expected samples of {name} in the layout {layout!r}, found none with a published "
            f"class and a split ({found}); check that the folder is complete"
        )
    return Catalogue(
        name=name,
        root=root,
        layout=layout,
        modalities=tuple(modalities),
        classes=published_classes(name),
        samples=samples,
        published=PUBLISHED[name],
        notes=notes.lines(),
    )


def not_found(
    name: str, root: Path, layouts: Mapping[str, str], marks: Iterable[str], source: str
) -> DataError:
    """The error about a folder that has no layout of a data set.

    Parameters
    ----------
    name, root :
        The data set and the folder.
    layouts : mapping of layout to str
        The layouts that were looked for.
    marks : iterable of str
        Names at the top of such a folder. A subfolder that contains one is suggested instead.
    source : str
        Where to get the data.
    """
    entries = list_folder(root)
    if entries:
        shown = [e.name + ("/" if e.is_dir() else "") for e in entries[:5]]
        there = ", ".join(shown) + (f", ... ({len(entries):,} in all)" if entries[5:] else "")
    else:
        there = "an empty folder"
    marks = {m.casefold() for m in marks}
    inner = [
        e.name
        for e in entries[:50]
        if e.is_dir() and any(i.name.casefold() in marks for i in list_folder(e.path))
    ]
    looked = "".join(f"\n  {layout}: {what}" for layout, what in layouts.items())
    hint = f"\nIt may be {root / inner[0]}: give that folder." if inner else ""
    return DataError(
        f"{root}: expected a folder of {name} in one of the layouts{looked}\n"
        f"Found instead: {there}.{hint}\nThe data: {source}"
    )
