"""Initial labels from a file of ids, ours or those of BMMAL's run folders."""

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

# "<class>_<file>" of a file "<class>_<n>.jpg", as BMMAL's lists of Food101 name a sample.
_FOOD = re.compile(r"(?P<name>.+)_(?P=name)_(?P<number>[0-9-]+)\.(?:jpe?g|png)", re.IGNORECASE)


def known_id(given: str, known: Container[str]) -> str | None:
    """The one of ``known`` that an id means: itself, or the same sample as BMMAL names it.

    BMMAL names an image of Food101 ``<class>_<class>_<n>.jpg``, which is our ``<class>_<n>``, and a
    clip by its sound file, ``<video>_<start>_<end>`` or ``<video>_<start>`` with seconds of one to six
    digits; ours have six, KineticsSound's with the end, VGGSound's without.

    Parameters
    ----------
    given : str
    known : container of str

    Returns
    -------
    str or None
        None where it means none of them.
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
    """Ids of training samples of a data set from a file, in its order.

    Parameters
    ----------
    path : path
        Text in UTF-8, an id a line; empty lines do not count. BMMAL's ``version_0/label.txt`` is one;
        see :func:`known_id` and :class:`rlmba.cells.NameIndex` for what its ids mean.
    dataset : MultimodalDataset

    Returns
    -------
    list of str
        Ids of ``dataset``, distinct.

    Raises
    ------
    UsageError
        If the file is missing or cannot be read.
    DataError
        If it is empty or no text, or an id is unknown, there twice, or of a test sample.
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
                f"initial_ids: expected training samples, {path}, line {number}: {given!r} is in the "
                f"test split of {dataset.name!r}"
            )
        elif first.setdefault(name, number) != number:
            raise DataError(
                f"initial_ids: expected each sample once, {path} has {name!r} in line {first[name]} and "
                f"in line {number}; leave one out"
            )
    if unknown:
        raise DataError(
            f"initial_ids: {len(unknown)} of the {len(lines)} ids in {path} are of no sample of "
            f"{dataset.name!r}, the first in line {unknown[0][0]}: {unknown[0][1]!r} (a training sample "
            f"there: {str(dataset.ids[dataset.train_positions[0]])!r}); give ids of this data set, or "
            "leave out the lines of samples that you do not have"
        )
    return list(first)


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of the lines that are not empty."""
    advice = (
        "give initial_ids a file of ids in UTF-8, such as version_0/label.txt of BMMAL's folders"
    )
    require_file(path, advice=advice, error=UsageError)
    text = read_text(path, advice=advice)
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise DataError(f"initial_ids: expected an id a line in {path}, got an empty file")
    return lines
