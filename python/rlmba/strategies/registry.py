"""Strategies by name: built in, registered by an installed package, or ``module:Class``."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from rlmba.errors import UsageError
from rlmba.plugins import PluginKind, blamed, load_class, nearest, origin
from rlmba.reading.options import explained
from rlmba.strategies.base import Strategy

__all__ = ["create", "describe", "names", "options"]

_BUILT_IN: Mapping[str, str] = {
    "rlmba": "rlmba.strategies.rlmba:Rlmba",
    "rlmba-x": "rlmba.strategies.rlmba_x:RlmbaX",
    "rlmba-h": "rlmba.strategies.rlmba_h:RlmbaH",
    "random": "rlmba.strategies.random:Random",
    "entropy": "rlmba.strategies.uncertainty:Entropy",
    "margin": "rlmba.strategies.uncertainty:Margin",
    "gcnal": "rlmba.strategies.gcnal:Gcnal",
    "coreset": "rlmba.strategies.coreset:CoreSet",
    "deepfool": "rlmba.strategies.deepfool:DeepFool",
    "bald": "rlmba.strategies.bald:Bald",
    "badge": "rlmba.strategies.badge:Badge",
    "bmmal": "rlmba.strategies.bmmal:Bmmal",
    "maxherding": "rlmba.strategies.maxherding:MaxHerding",
    "uherding": "rlmba.strategies.uherding:UHerding",
    "typiclust": "rlmba.strategies.typiclust:TypiClust",
    "tcm": "rlmba.strategies.tcm:Tcm",
    "probcover": "rlmba.strategies.probcover:ProbCover",
    "dropquery": "rlmba.strategies.dropquery:DropQuery",
    "alfa-mix": "rlmba.strategies.alfa_mix:AlfaMix",
    "galaxy": "rlmba.strategies.galaxy:Galaxy",
}
_PLUGINS = PluginKind("strategy", "rlmba.strategies", base=Strategy)


def names() -> tuple[str, ...]:
    """Names of all strategies: first the built-in ones, then those of the entry points `rlmba.strategies`.

    A strategy whose package cannot be loaded is among them; the other functions raise for its name.
    """
    return (*_BUILT_IN, *_PLUGINS.installed(_BUILT_IN))


def _find(name: str) -> type[Strategy]:
    if name in _BUILT_IN:
        return load_class(_BUILT_IN[name], kind="strategy")
    found = _PLUGINS.find(name, tuple(_BUILT_IN))
    lacking = [a for a in ("name", "summary") if not isinstance(getattr(found, a, None), str)]
    if lacking or not dataclasses.is_dataclass(found):
        raise UsageError(
            f"strategy {name!r} of {origin(found)}: expected a dataclass with a name and a summary, "
            f"found one without {lacking[0] if lacking else '@dataclass'}; repair it"
        )
    return cast("type[Strategy]", found)


def options(name: str) -> dict[str, Any]:
    """A strategy's options and their defaults.

    Raises
    ------
    UsageError
        If the name is unknown, or the strategy cannot be imported.
    """
    found = {}
    for f in dataclasses.fields(cast("Any", _find(name))):
        if f.init:
            factory = f.default_factory
            found[f.name] = f.default if factory is dataclasses.MISSING else factory()
    return found


def describe(name: str) -> str:
    """One line on what a strategy does.

    Raises
    ------
    UsageError
        If the name is unknown, or the strategy cannot be imported.
    """
    return _find(name).summary


def create(name: str, **given: Any) -> Strategy:
    """A strategy by name with its options.

    Parameters
    ----------
    name : str
        One of :func:`names`, or ``module:Class``, which is imported: a name that comes out of a
        folder's file needs the user's permission first (:mod:`rlmba.trust`).
    **given
        Its options.

    Raises
    ------
    UsageError
        If the name or an option is unknown, an option's value has the wrong type or range, or the
        strategy cannot be imported.
    PluginError
        If the constructor of a strategy from elsewhere raises.
    """
    strategy = _find(name)
    known = options(name)
    hints = typing.get_type_hints(strategy)
    for key, value in given.items():
        if key not in known:
            raise UsageError(
                f"strategy {name!r} has no option {key!r}; its options: {', '.join(known) or 'none'}"
                f"{nearest(key, known)}"
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
