"""Read the initially labeled samples from a file of ids, which may be one of BMMAL's run folders."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from pathlib import Path

from rlmba.cells import NameIndex
from rlmba.data.base import MultimodalDataset
from rlmba.data.media.layouts.clips import parse_name
from rlmba.errors import DataError, UsageError
from rlmba.reading.files import read_text, require_file

__all__ = ["known_id", "read_initial_ids"]

# BMMAL's lists of Food101 name a sample "<class>_<file>", where the file is "<class>_<n>.jpg".
_FOOD = re.compile(r"(?P<name>.+)_(?P=name)_(?P<number>[0-9-]+)\.(?:jpe?g|png)", re.IGNORECASE)


def known_id(given: str, known: Container[str]) -> str | None:
    """The id in ``known`` that an id means: itself, or the id of the sample that BMMAL names so.

    BMMAL names an image of Food101 ``<class>_<class>_<n>.jpg``; here its id is ``<class>_<n>``. It names a
    clip by its sound file, ``<video>_<start>_<end>`` or ``<video>_<start>``, with one to six digits for
    seconds. Here seconds have six digits, and only KineticsSound's ids have the end.

    Parameters
    ----------
    given : str
    known : container of str

    Returns
    -------
    str or None
        None if it means none of them.
    """
    return next((name for name in _meanings(given) if name in known), None)


def _meanings(given: str) -> Iterator[str]:
    yield given
    if food := _FOOD.fullmatch(given):
        yield f"{food['name']}_{food['number']}"
    clip = parse_name(given)
    if clip is not None and clip[1] >= 0:
        video, start, end = clip
        if end >= 0:
            yield f"{video}_{start:06d}_{end:06d}"
        yield f"{video}_{start:06d}"


def read_initial_ids(path: Path, dataset: MultimodalDataset) -> list[str]:
    """Read ids of training samples from a file, in the order of the file.

    Parameters
    ----------
    path : path
        Text in UTF-8 with one id per line; empty lines are ignored. BMMAL's ``version_0/label.txt`` is
        such a file. :func:`known_id` and :class:`rlmba.cells.NameIndex` say what an id means.
    dataset : MultimodalDataset

    Returns
    -------
    list of str
        Distinct ids of ``dataset``.

    Raises
    ------
    UsageError
        If the file is missing or cannot be read.
    DataError
        If the file is empty or not text, or an id is unknown, repeated, or that of a test sample.
    """
    lines = _lines(path)
    names = NameIndex(dataset.ids.tolist())
    position_of = {id_: p for p, id_ in enumerate(dataset.ids.tolist())}
    test = set(dataset.test_positions.tolist())
    unknown: list[tuple[int, str]] = []
    first: dict[str, int] = {}
    for number, given in lines:
        name = known_id(given, position_of) or names.find(given)
        if name is None:
            unknown.append((number, given))
        elif position_of[name] in test:
            raise DataError(
                f"initial_ids: expected training samples, but {path}, line {number}: {given!r} is in the "
                f"test split of {dataset.name!r}; remove the line"
            )
        elif first.setdefault(name, number) != number:
            raise DataError(
                f"initial_ids: expected each sample once, but {path} has {name!r} in lines {first[name]} and "
                f"{number}; remove one of them"
            )
    if unknown:
        raise DataError(
            f"initial_ids: {len(unknown)} of the {len(lines)} ids in {path} are not in the data set "
            f"{dataset.name!r}; the first is in line {unknown[0][0]}: {unknown[0][1]!r} (an id of the data "
            f"set is {str(dataset.ids[dataset.train_positions[0]])!r}). Give ids of this data set, or remove "
            "the lines of samples that you do not have"
        )
    return list(first)


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of the lines that are not empty."""
    advice = "set initial_ids to a file of ids in UTF-8, such as version_0/label.txt of a BMMAL run folder"
    require_file(path, advice=advice, error=UsageError)
    text = read_text(path, advice=advice)
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise DataError(f"initial_ids: expected one id per line in {path}, got an empty file")
    return lines
