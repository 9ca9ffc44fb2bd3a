"""The numbers of a round's record, with the names under which trackers store them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlmba.types import RoundRecord

__all__ = ["numbers"]

_PLAIN = re.compile(r"[\w-][\w .-]{0,99}")
"""Class names that every tracker accepts as a part of a name."""
_REWARDS = ("raw_reward", "reward", "advantage")


def numbers(record: RoundRecord, classes: Sequence[str]) -> dict[str, float]:
    """Return every number of a record by its path, such as ``test/mm/top1``.

    Parameters
    ----------
    record : RoundRecord
    classes : sequence of str [C]
        Class names. The accuracy of a class is named by the class, or by its position in this list if
        some tracker might not accept the name.

    Returns
    -------
    dict of str to float
        Values that the record does not have (None) are left out.
    """
    values = record.to_dict()
    for split in ("validation", "test"):
        if (found := values[split]) is not None:
            missed = {_class(classes, c): n for c, n in found.pop("never_predicted")}
            values[split] = {**found.pop("heads"), **found, "never_predicted": missed}
            for head in values[split].values():
                if isinstance(head, dict) and "per_class" in head:
                    accuracies = enumerate(head["per_class"])
                    head["per_class"] = {_class(classes, c): a for c, a in accuracies}
    values["reward"] = {name: values.pop(name) for name in _REWARDS}
    return dict(_flat(values, ""))


def _class(classes: Sequence[str], position: int) -> str:
    name = classes[position] if position < len(classes) else ""
    return name if _PLAIN.fullmatch(name) and name.isascii() else f"class {position}"


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)
