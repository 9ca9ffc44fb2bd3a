"""The settings that decide a run's results, and the differences between two configurations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rlmba.config.earlier import without_earlier_options
from rlmba.config.schema import FREE_KEYS, RunConfig

__all__ = [
    "COMPARED",
    "PLACES",
    "deciding",
    "differing",
    "flat",
    "identity",
    "is_among",
    "say_differing",
]

PLACES = (
    "data",
    "data_root",
    "initial_ids",
    "dataset_options.root",
    "dataset_options.media",
)
"""Dotted keys that are paths. Their content is compared in another way, so it may be moved."""
COMPARED = ("reward.curves", "strategy_options.policy_file")
"""Other keys that are paths. Their content is not compared, so a run may not be resumed with other paths."""


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key; an empty mapping counts as a value."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def is_among(key: str, keys: Collection[str]) -> bool:
    """Whether a dotted key, or the section that it is in, is one of ``keys``."""
    return key in keys or key.partition(".")[0] in keys


def identity(config: RunConfig, free: Sequence[str] = FREE_KEYS) -> dict[str, Any]:
    """A configuration as JSON values, without the ``free`` keys, which do not change results.

    Options that earlier versions did not have are left out if they match the behavior of those versions.
    """
    values = config.model_dump(mode="json")
    for key in free:
        section, _, name = key.rpartition(".")
        del (values[section] if section else values)[name]
    return without_earlier_options(values)


def differing(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], *, absent: Any = None
) -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which nested values differ, sorted, with both values; ``absent`` if there is none."""
    a, b = flat(theirs), flat(ours)
    pairs = {k: (a.get(k, absent), b.get(k, absent)) for k in sorted({*a, *b})}
    return {k: (x, y) for k, (x, y) in pairs.items() if x != y}


def deciding(
    differences: Mapping[str, tuple[Any, Any]], places: Sequence[str] = PLACES
) -> dict[str, tuple[Any, Any]]:
    """The differences of :func:`differing` without the keys in ``places``."""
    return {k: v for k, v in differences.items() if k not in places}


def say_differing(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """The differences of :func:`differing` as part of a message."""
    return "; ".join(f"{k} is {a!r} there and {b!r} here" for k, (a, b) in differences.items())
