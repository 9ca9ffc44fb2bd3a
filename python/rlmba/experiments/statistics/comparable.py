"""Strategies that may be compared, because they were tried under the same conditions, run by run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import UsageError
from rlmba.experiments.group import Array, Group
from rlmba.experiments.protocol import (
    method_options,
    protocol,
    say_differences,
    say_seeds,
    say_versions,
)
from rlmba.experiments.statistics.measures import aubc
from rlmba.types import MULTIMODAL

__all__ = [
    "ComparableRuns",
    "Measure",
    "NoteList",
    "Pairing",
    "StrategyRuns",
    "comparable_runs",
    "pair",
]

Measure = Literal["aubc", "final"]


class NoteList:
    """Notes in order of addition, without duplicates."""

    def __init__(self) -> None:
        self._notes: dict[str, None] = {}

    def add(self, *notes: str) -> None:
        """Add the notes that are not empty."""
        self._notes |= dict.fromkeys(note for note in notes if note)

    def all(self) -> tuple[str, ...]:
        """Return all notes."""
        return tuple(self._notes)


@dataclass(frozen=True, eq=False)
class Curve:
    """Numbers of labels [T] and Top-1 of the fused head [T] of one seed."""

    labels: NDArray[np.int64]
    top1: Array


@dataclass(frozen=True, eq=False)
class StrategyRuns:
    """One strategy: its curves by seed, which may have different numbers of rounds."""

    name: str
    predictor: str
    runs: dict[int, Curve]


@dataclass(frozen=True, eq=False)
class ComparableRuns:
    """Strategies that were tried under the same conditions, on one data set and with one fusion."""

    dataset: str
    fusion: str
    entries: tuple[StrategyRuns, ...]

    @property
    def where(self) -> str:
        """Data set and fusion, for messages."""
        return f"{self.dataset}, {self.fusion} fusion"


@dataclass(frozen=True, eq=False)
class Pairing:
    """Measures [K, n] of K strategies on the n seeds they share, over the same numbers of labels."""

    seeds: tuple[int, ...]
    values: Array


def comparable_runs(groups: Iterable[Group], notes: NoteList) -> list[ComparableRuns]:
    """Collect groups that may be compared with each other.

    Parameters
    ----------
    groups : iterable of Group
    notes : NoteList
        Receives the notes of the groups, the conditions that separate strategies on a data set, several
        versions of the code, and the runs left out because an accuracy is NaN.

    Returns
    -------
    list of ComparableRuns
        In order of first appearance; so are the entries of each. An entry is named by its strategy, with
        the options that distinguish it from others of the same name and predictor.

    Raises
    ------
    UsageError
        If a seed of a strategy appears twice with the same number of rounds.
    """
    by_place: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        notes.add(*group.notes)
        by_place.setdefault((group.dataset, group.fusion), []).append(group)
    found = []
    for (dataset, fusion), members in by_place.items():
        where = f"{dataset}, {fusion} fusion"
        by_protocol: dict[Any, list[Group]] = {}
        for group in members:
            key = group.on, int(group.labels[0]), tuple(sorted(protocol(group).items()))
            by_protocol.setdefault(key, []).append(group)
        if len(by_protocol) > 1:
            notes.add(
                f"{where}: compared separately, because the conditions differ: {_why(members)}"
            )
        for same in by_protocol.values():
            if versions := say_versions(same):
                notes.add(f"{where}: {versions}")
            found.append(ComparableRuns(dataset, fusion, tuple(_entries(same, where, notes))))
    return found


def _why(groups: Sequence[Group]) -> str:
    parts = [say_differences(groups)]
    parts.append(_by_value("Top-1 on", [(g.on, g.strategy) for g in groups]))
    parts.append(_by_value("labels of round 0", [(str(g.labels[0]), g.strategy) for g in groups]))
    return "; ".join(part for part in parts if part)


def _by_value(what: str, owners: Sequence[tuple[str, str]]) -> str:
    values = {v: ", ".join(dict.fromkeys(o for w, o in owners if w == v)) for v, _ in owners}
    said = [f"{value} ({who})" for value, who in values.items()]
    return f"{what} = {', '.join(said)}" if len(values) > 1 else ""


def _entries(groups: Sequence[Group], where: str, notes: NoteList) -> list[StrategyRuns]:
    by_method: dict[Any, list[Group]] = {}
    for g in groups:
        options = tuple(sorted(method_options(g).items())) if g.options else g.variant
        by_method.setdefault((g.strategy, g.predictor, options), []).append(g)
    entries = []
    for (strategy, predictor, _), members in by_method.items():
        rivals = [
            other[0]
            for key, other in by_method.items()
            if key[:2] == (strategy, predictor) and other is not members
        ]
        name = _name(members[0], rivals)
        runs: dict[int, Curve] = {}
        for group in members:
            _collect(group, name, where, runs, notes)
        entries.append(StrategyRuns(name, predictor, runs))
    return entries


def _name(group: Group, rivals: Sequence[Group]) -> str:
    if not rivals:
        return group.strategy
    own, others = method_options(group), [method_options(rival) for rival in rivals]
    differing = [
        f"{key}={own.get(key, 'unset')}"
        for key in sorted(set(own).union(*others))
        if any(other.get(key) != own.get(key) for other in others)
    ]
    said = ", ".join(differing) or group.variant
    return f"{group.strategy} ({said})" if said else group.strategy


def _collect(group: Group, name: str, where: str, runs: dict[int, Curve], notes: NoteList) -> None:
    for seed, top1 in zip(group.seeds, group.top1[MULTIMODAL], strict=True):
        if not np.isfinite(top1).all():
            labels = group.labels[np.argmin(np.isfinite(top1))]
            notes.add(
                f"{where}: seed {seed} of {name} is left out, its Top-1 at {labels} labels is NaN"
            )
            continue
        other = runs.get(seed)
        if other is not None and len(other.labels) == len(group.labels):
            raise UsageError(
                f"{where}: seed {seed} of {name} was found twice; leave one of them out"
            )
        if other is not None:
            notes.add(f"{where}: seed {seed} of {name} was found twice; the longer curve is used")
        if other is None or len(group.labels) > len(other.labels):
            runs[seed] = Curve(group.labels, top1)


def pair(entries: Sequence[StrategyRuns], where: str, measure: Measure, notes: NoteList) -> Pairing:
    """Measure K strategies on the seeds they share, over the numbers of labels that all have in common.

    Parameters
    ----------
    entries : sequence of StrategyRuns [K]
    where : str
        Data set and fusion, for notes.
    measure : {"aubc", "final"}
        Mean Top-1 over rounds, or Top-1 at the last common number of labels.
    notes : NoteList
        Receives the seeds left out, and the curves truncated because another ends earlier.

    Returns
    -------
    Pairing

    Raises
    ------
    UsageError
        If the measure is unknown.
    """
    if measure not in ("aubc", "final"):
        raise UsageError(f'expected measure "aubc" or "final", got {measure!r}')
    every = set().union(*(entry.runs for entry in entries))
    seeds = sorted(every.intersection(*(entry.runs for entry in entries)))
    for entry in entries:
        if missing := sorted(every - set(entry.runs)):
            notes.add(
                f"{where}: pairs with {entry.name} exclude {say_seeds(missing)}, which it does not have"
            )
    if not seeds:
        return Pairing((), np.empty((len(entries), 0)))
    grids = [entry.runs[seed].labels for entry in entries for seed in seeds]
    common = _common_prefix(grids)
    if any(len(grid) > common for grid in grids):
        notes.add(_say_cut(entries, seeds, common, where))
    labels = grids[0][:common]
    curves = [np.stack([entry.runs[seed].top1[:common] for seed in seeds]) for entry in entries]
    values = [aubc(labels, top1) if measure == "aubc" else top1[:, -1] for top1 in curves]
    return Pairing(tuple(seeds), np.stack(values))


def _common_prefix(grids: Sequence[NDArray[np.int64]]) -> int:
    shortest = min(map(len, grids))
    same = np.ones(shortest, dtype=bool)
    for a, b in pairwise(grids):
        same &= a[:shortest] == b[:shortest]
    return shortest if same.all() else int(np.argmin(same))


def _say_cut(entries: Sequence[StrategyRuns], seeds: Sequence[int], common: int, where: str) -> str:
    first = entries[0].runs[seeds[0]].labels
    ends = [
        f"{say_seeds(short)} of {entry.name}"
        for entry in entries
        if (short := [s for s in seeds if len(entry.runs[s].labels) == common])
    ]
    # Only the curves that end early are named, so that the note is the same for all pairs with them.
    why = f"{' and '.join(ends)} ended there" if ends else "the numbers of labels differ after that"
    return (
        f"{where}: curves truncated to {first[0]} to {first[common - 1]} labels ({common} rounds including "
        f"round 0) in some comparisons: {why}"
    )
