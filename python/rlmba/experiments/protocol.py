"""The conditions that must be equal before two strategies are compared, and their differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from rlmba.experiments.group import Group

__all__ = [
    "method_options",
    "protocol",
    "protocol_differences",
    "say_differences",
    "say_seeds",
    "say_versions",
]

# Options that define a method. All others are conditions that it is tried under.
_METHOD = ("strategy", "label", "policy")
_METHOD_SECTIONS = ("strategy_options.", "amcb.", "reward.", "policy.")
_UNSET = "unset"


def _of_method(key: str) -> bool:
    return key in _METHOD or key.startswith(_METHOD_SECTIONS)


def method_options(group: Group) -> dict[str, str]:
    """Options that define the method of a group: those of the strategy, ``amcb.*``, ``reward.*``."""
    return {k: v for k, v in group.options.items() if _of_method(k)}


def protocol(group: Group) -> dict[str, str]:
    """Options that define the conditions of a group.

    Epochs, batch size, initial labels, model, training, data: all except the method's options, the seed,
    and options that cannot affect the results. Empty for runs of other programs.
    """
    free = () if group.fusion == "adaptive" else ("adaptive_penalty",)
    return {k: v for k, v in group.options.items() if not _of_method(k) and k not in free}


def protocol_differences(groups: Iterable[Group]) -> dict[str, tuple[str, ...]]:
    """Find the conditions that differ between groups.

    Parameters
    ----------
    groups : iterable of Group
        Groups of one data set and one fusion; data sets differ in most of their options.

    Returns
    -------
    dict of str to tuple of str
        The values of each option that differs, in order of first appearance; "unset" for groups without
        it. The options are in alphabetical order.
    """
    protocols = [protocol(group) for group in groups]
    values = {
        key: tuple(dict.fromkeys(p.get(key, _UNSET) for p in protocols))
        for key in sorted(set().union(*protocols))
    }
    return {key: found for key, found in values.items() if len(found) > 1}


def say_differences(groups: Sequence[Group]) -> str:
    """Describe the conditions that differ, with the strategies of each value; empty if none differ."""
    foreign = [g.strategy for g in groups if not g.options]
    known = [g for g in groups if g.options]
    parts = []
    for key, values in protocol_differences(known).items():
        by_value = [
            f"{value} ({', '.join(dict.fromkeys(_owners(known, key, value)))})" for value in values
        ]
        parts.append(f"{key} = " + ", ".join(by_value))
    if foreign and known:
        parts.append(f"unknown for {', '.join(dict.fromkeys(foreign))}")
    return "; ".join(parts)


def _owners(groups: Sequence[Group], key: str, value: str) -> list[str]:
    return [g.strategy for g in groups if protocol(g).get(key, _UNSET) == value]


def say_versions(groups: Sequence[Group]) -> str:
    """Describe the versions of rlmba that made the runs; empty if it was one."""
    versions = sorted({v for g in groups for v in g.versions})
    if len(versions) < 2:
        return ""
    who = [
        f"{v} ({', '.join(dict.fromkeys(g.strategy for g in groups if v in g.versions))})"
        for v in versions
    ]
    return f"runs of several versions of rlmba: {', '.join(who)}"


def say_seeds(seeds: Sequence[int]) -> str:
    """Describe ascending seeds, consecutive ones as a range."""
    cuts = [0, *(i for i in range(1, len(seeds)) if seeds[i] != seeds[i - 1] + 1), len(seeds)]
    runs = [(seeds[a], seeds[b - 1]) for a, b in pairwise(cuts)]
    said = [str(a) if a == b else f"{a}{', ' if b == a + 1 else ' to '}{b}" for a, b in runs]
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(said)}"
