"""Strategies by name: the built-in ones and those of installed packages."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from rlmba.errors import UsageError
from rlmba.plugins import blamed, load_class, registered
from rlmba.reading.options import explained
from rlmba.strategies.base import Strategy

__all__ = ["create", "describe", "names", "options"]

_BUILT_IN: Mapping[str, str] = {
    "rlmba": "rlmba.strategies.rlmba:Rlmba",
    "rlmba-x": "rlmba.strategies.rlmba_x:RlmbaX",
    "random": "rlmba.strategies.random:Random",
    "entropy": "rlmba.strategies.uncertainty:Entropy",
    "margin": "rlmba.strategies.uncertainty:Margin",
    "gcnal": "rlmba.strategies.gcnal:Gcnal",
    "coreset": "rlmba.strategies.coreset:CoreSet",
    "deepfool": "rlmba.strategies.deepfool:DeepFool",
    "bald": "rlmba.strategies.bald:Bald",
    "badge": "rlmba.strategies.badge:Badge",
    "bmmal": "rlmba.strategies.bmmal:Bmmal",
}
_GROUP = "rlmba.strategies"


def names() -> tuple[str, ...]:
    """Every registered name: built-in ones first, then those of the entry points `rlmba.strategies`.

    A package whose strategy cannot be loaded is among them; the other functions raise for its name.
    """
    return (*_BUILT_IN, *sorted(set(registered(_GROUP)) - set(_BUILT_IN)))


def _find(name: str) -> type[Strategy]:
    point = None if name in _BUILT_IN else registered(_GROUP).get(name)
    if name not in _BUILT_IN and point is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"unknown strategy {name!r}: expected one of {', '.join(names())}{hint}")
    if point is None:
        return load_class(_BUILT_IN[name], kind="strategy")
    package = point.dist.name if point.dist is not None else ""
    found = load_class(point.value.strip(), kind="strategy", base=Strategy, package=package)
    lacking = [a for a in ("name", "summary") if not isinstance(getattr(found, a, None), str)]
    if lacking or not dataclasses.is_dataclass(found):
        raise UsageError(
            f"strategy {name!r} of the package {package!r}: expected a dataclass with a name and a summary, "
            f"found one without {lacking[0] if lacking else '@dataclass'}; repair or uninstall the package"
        )
    return cast("type[Strategy]", found)


def options(name: str) -> dict[str, Any]:
    """A strategy's options and their defaults.

    Raises
    ------
    UsageError
        If the name is unknown, or its package is broken.
    """
    found = {}
    for f in dataclasses.fields(cast("Any", _find(name))):
        if f.init:
            factory = f.default_factory
            found[f.name] = f.default if factory is dataclasses.MISSING else factory()
    return found


def describe(name: str) -> str:
    """One line on what a strategy does."""
    return _find(name).summary


def create(name: str, **given: Any) -> Strategy:
    """A strategy by name with its options.

    Raises
    ------
    UsageError
        If the name or an option is unknown, an option's value has the wrong type or range, or the
        strategy's package is broken.
    PluginError
        If a strategy of another package raises.
    """
    strategy = _find(name)
    known = options(name)
    hints = typing.get_type_hints(strategy)
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"strategy {name!r} has no option {key!r}; its options: {', '.join(known) or 'none'}{hint}"
            )
        try:
            given[key] = TypeAdapter(hints[key]).validate_python(value, strict=True)
        except ValidationError:
            wanted = getattr(hints[key], "__name__", str(hints[key]))
            raise UsageError(
                f"strategy option {name}.{key}: expected {wanted}, got {value!r}"
            ) from None
    owner = f"strategy {name!r}"
    with blamed(strategy, owner), explained(strategy.__init__, given, owner):
        return strategy(**given)
