"""Strategies by name: the built-in ones and those of installed packages."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, cast

from rlmba.errors import UsageError
from rlmba.strategies.base import Strategy

__all__ = ["create", "describe", "names", "options"]

_BUILT_IN: Mapping[str, str] = {
    "rlmba": "rlmba.strategies.rlmba:Rlmba",
    "rlmba-x": "rlmba.strategies.rlmba_x:RlmbaX",
    "random": "rlmba.strategies.random:Random",
    "entropy": "rlmba.strategies.uncertainty:Entropy",
    "margin": "rlmba.strategies.uncertainty:Margin",
}
_GROUP = "rlmba.strategies"


def _installed() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=_GROUP)}


def names() -> tuple[str, ...]:
    """Every registered name: built-in ones first, then those of the entry points `rlmba.strategies`."""
    return (*_BUILT_IN, *sorted(set(_installed()) - set(_BUILT_IN)))


def _find(name: str) -> type[Strategy]:
    target = _BUILT_IN.get(name) or _installed().get(name)
    if target is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"unknown strategy {name!r}: expected one of {', '.join(names())}{hint}")
    module, _, attribute = target.partition(":")
    return cast("type[Strategy]", getattr(importlib.import_module(module), attribute))


def options(name: str) -> dict[str, Any]:
    """A strategy's options and their defaults.

    Raises
    ------
    UsageError
        If the name is unknown.
    """
    fields = dataclasses.fields(cast("Any", _find(name)))
    return {f.name: f.default for f in fields if f.init}


def describe(name: str) -> str:
    """One line on what a strategy does."""
    return _find(name).summary


def create(name: str, **given: Any) -> Strategy:
    """A strategy by name with its options.

    Raises
    ------
    UsageError
        If the name or an option is unknown, or an option's value has the wrong type or range.
    """
    defaults = options(name)
    for key, value in given.items():
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(defaults) or "none"
            raise UsageError(f"strategy {name!r} has no option {key!r}; its options: {known}{hint}")
        default = defaults[key]
        wanted = type(default) if default is not None else float
        ok = isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            given[key], ok = float(value), True
        if key == "advantage_clip" and value is None:
            ok = True
        if not ok:
            raise UsageError(
                f"strategy option {name}.{key}: expected {wanted.__name__}, got {value!r}"
            )
    return _find(name)(**given)
