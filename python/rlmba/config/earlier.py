"""Options that earlier versions did not write, with the values that match their behavior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlmba.config.schema import EvidentialConfig

__all__ = ["with_earlier_options", "with_present_keys", "without_earlier_options"]

_STRATEGY_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "gcnal": {"embedding": "hidden"},
    "rlmba": {"baseline": "moving", "uncertainty": "variance"},
    "rlmba-x": {"baseline": "moving"},
}
_KEYS: Mapping[str, Any] = {"budgets": None, "budgets_per_class": None}
_SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "reward": {"baselines": None, "measure": "top1"},
    "training": {
        "head_learning_rate": None,
        "loss": "cross-entropy",
        "semi_supervised": False,
        "evidential": EvidentialConfig().model_dump(mode="json"),
    },
}


def _earlier(values: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    options = _STRATEGY_OPTIONS.get(str(values.get("strategy")), {})
    return {**_SECTIONS, "strategy_options": options}


def with_present_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Translate keys of earlier versions: ``tensorboard`` (true or false) is now part of ``tracking``."""
    given, flag = dict(values), values.get("tensorboard")
    names = values.get("tracking", [])
    if isinstance(flag, bool) and isinstance(names, list):
        del given["tensorboard"]
        others = [name for name in names if name != "tensorboard"]
        given["tracking"] = ["tensorboard"] * flag + others
    return given


def with_earlier_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a run folder's configuration with options that did not exist when it was written.

    A run folder contains every option, so a missing option is newer than the folder. The run then
    continues as it began, whatever the defaults are now. A section without options does not come from a
    run folder and does not change.
    """
    filled = with_present_keys(values)
    for section, earlier in _earlier(values).items():
        given = filled.get(section)
        if earlier and given and isinstance(given, Mapping):
            filled[section] = {**earlier, **given}
    return filled


def without_earlier_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Remove options that earlier versions did not have, if their values repeat what those versions did.

    The configuration of a run folder of an earlier version then equals the same configuration today.
    """
    left = {k: v for k, v in values.items() if k not in _KEYS or v != _KEYS[k]}
    for section, earlier in _earlier(values).items():
        if isinstance(left.get(section), Mapping):
            left[section] = {
                k: v for k, v in left[section].items() if k not in earlier or v != earlier[k]
            }
    return left
