"""Options that configurations written by earlier versions lack, at the values that those versions had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["with_earlier_options", "without_earlier_options"]

_STRATEGY_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "gcnal": {"embedding": "hidden"},
    "rlmba": {"baseline": "moving"},
    "rlmba-x": {"baseline": "moving"},
}
_SECTIONS: Mapping[str, Mapping[str, Any]] = {"reward": {"baselines": None}}


def _earlier(values: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    options = _STRATEGY_OPTIONS.get(str(values.get("strategy")), {})
    return {**_SECTIONS, "strategy_options": options}


def with_earlier_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """A run folder's configuration, with the options that were not there yet when it was written.

    A run folder names every option, so one that is missing is younger than the folder. Such a run
    goes on as it began, whatever the defaults are now. A section without any option is none of a run
    folder's, and stays as it is.
    """
    filled = dict(values)
    for section, earlier in _earlier(values).items():
        given = filled.get(section)
        if earlier and given and isinstance(given, Mapping):
            filled[section] = {**earlier, **given}
    return filled


def without_earlier_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the options that say what earlier versions did without being told.

    So a run of an earlier version and the checkpoints it left are one and the same.
    """
    left = dict(values)
    for section, earlier in _earlier(values).items():
        if isinstance(left.get(section), Mapping):
            left[section] = {
                k: v for k, v in left[section].items() if k not in earlier or v != earlier[k]
            }
    return left
