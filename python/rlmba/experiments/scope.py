"""Groups that share a table or figure, their names and their budgets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rlmba.errors import UsageError
from rlmba.experiments import paper
from rlmba.experiments.content import Cell, Subject, TableData
from rlmba.experiments.curves import Group

__all__ = ["ORDER", "OURS", "Scope", "StrategyVariant", "is_variant", "scopes", "slug"]

ORDER = (
    "random", "entropy", "margin", "gcnal", "coreset", "deepfool", "bald", "badge", "bmmal",
    "maxherding", "uherding", "typiclust", "tcm", "probcover", "dropquery", "alfa-mix", "galaxy",
    "amcb-only", "efda-only", "no-diversity", "greedy", "uniform-draw", "reward-absolute",
    "reward-incremental", "reward-relative", "rlmba", "rlmba-evidential", "rlmba-x",
    "rlmba-h",
)  # fmt: skip
"""Strategies and ablations in the order of the paper's tables, then ours; others follow as they appear."""

OURS = ("rlmba", "rlmba-x", "rlmba-h")
"""The strategies of this package whose labeled variants are ablations."""


class StrategyVariant(NamedTuple):
    """A row of a table: a strategy (or a label), and the options that distinguish its variant."""

    strategy: str
    variant: str


def slug(name: str) -> str:
    """Make a name usable as a part of a file name."""
    return re.sub(r"[^\w.-]+", "-", name)


def is_variant(group: Group) -> bool:
    """Whether a group is an ablation: ``rlmba`` or ``rlmba-x`` with a label or other options.

    A group that differs only by its numbers of labels, such as an unfinished run, is not.
    """
    named = group.strategy in paper.TABLE2 and group.strategy not in paper.TABLE1
    of_ours = group.options.get("strategy", group.strategy) in OURS
    return named or (of_ours and (group.strategy not in OURS or "=" in group.variant))


@dataclass(frozen=True, eq=False)
class Scope:
    """Groups that may be compared, because they have the same fusion and predictor.

    Attributes
    ----------
    fusion, predictor : str
    groups : tuple of Group
    budget : int or None
        Number of labels at which accuracies are read; None: in each data set the largest number that all
        its groups have.
    """

    fusion: str
    predictor: str
    groups: tuple[Group, ...]
    budget: int | None = None

    @property
    def key(self) -> str:
        """Its part of a file name: the fusion, and the predictor unless it is "fused"."""
        return self.fusion if self.predictor == "fused" else f"{self.fusion}_{self.predictor}"

    @property
    def heading(self) -> str:
        """Its part of a title."""
        return f"{self.fusion} fusion, {self.predictor} predictor"

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets: those of the paper first, then in order of appearance."""
        met = list(dict.fromkeys(g.dataset for g in self.groups))
        known = {name: i for i, name in enumerate(paper.DATASETS)}
        return tuple(sorted(met, key=lambda name: known.get(name.split(":")[0], len(known))))

    @cached_property
    def rows(self) -> tuple[StrategyVariant, ...]:
        """Rows of its tables, in :data:`ORDER`."""
        met = list(dict.fromkeys(StrategyVariant(g.strategy, g.variant) for g in self.groups))
        place = {name: i for i, name in enumerate(ORDER)}
        return tuple(sorted(met, key=lambda row: place.get(row.strategy, len(ORDER))))

    @cached_property
    def _variants(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.variant for row in self.rows if row.variant))

    def name(self, row: StrategyVariant) -> str:
        """Name a row: the strategy, and the number of the note that lists its options."""
        if not row.variant:
            return row.strategy
        return f"{row.strategy} [{self._variants.index(row.variant) + 1}]"

    def find(self, row: StrategyVariant, dataset: str) -> Group | None:
        """Return the row's group on a data set, or None."""
        for group in self.groups:
            if (group.strategy, group.variant, group.dataset) == (*row, dataset):
                return group
        return None

    def of(self, dataset: str) -> list[Group]:
        """List a data set's groups in the order of rows."""
        found = (self.find(row, dataset) for row in self.rows)
        return [group for group in found if group is not None]

    def members(self) -> Iterator[tuple[StrategyVariant, Group]]:
        """Iterate over the groups with their rows, data set by data set."""
        for dataset in self.datasets:
            for row in self.rows:
                if (group := self.find(row, dataset)) is not None:
                    yield row, group

    def budget_of(self, dataset: str) -> int | None:
        """Number of labels at which a data set is read; None if its groups share none, or lack the budget."""
        members = self.of(dataset)
        if self.budget is not None:
            return self.budget if any(self.budget in g.labels for g in members) else None
        common = set.intersection(*(set(map(int, g.labels)) for g in members))
        return max(common, default=None)

    def column_of(self, group: Group) -> int | None:
        """Return the round of a group at the budget of its data set, or None."""
        budget = self.budget_of(group.dataset)
        found = np.flatnonzero(group.labels == budget)
        return int(found[0]) if len(found) else None

    def notes(self, *more: str) -> tuple[str, ...]:
        """Notes for the reader: fusion, ``more``, caveats, and the numbered variants."""
        numbered = [f"[{i}] {variant}" for i, variant in enumerate(self._variants, start=1)]
        return (f"Under {self.heading}.", *more, *self.caveats, *numbered)

    def table(
        self,
        name: str,
        title: str,
        columns: Sequence[str],
        rows: Sequence[tuple[Cell, ...]],
        notes: Sequence[str],
        *,
        bold: frozenset[tuple[int, int]] | set[tuple[int, int]] = frozenset(),
        worse: frozenset[tuple[int, int]] | set[tuple[int, int]] = frozenset(),
        row_datasets: Sequence[str] = (),
        column_datasets: Sequence[str | None] = (),
    ) -> TableData:
        """Make a table of this scope: its key and title are completed, and its subject is set.

        ``row_datasets`` and ``column_datasets`` are the data sets that rows and columns are about.
        """
        return TableData(
            key=f"{name}_{self.key}",
            title=f"{title}, {self.heading}",
            columns=tuple(columns),
            rows=tuple(rows),
            notes=tuple(notes),
            bold=frozenset(bold),
            worse=frozenset(worse),
            subject=Subject(fusion=self.fusion),
            scope=self.heading,
            row_subjects=tuple(map(Subject, row_datasets)),
            column_subjects=tuple(map(Subject, column_datasets)),
        )

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """What limits the comparability of a data set's groups: seeds, ends of curves, samples."""
        notes = []
        for dataset in self.datasets:
            members = self.of(dataset)
            seeds = {g.seeds for g in members}
            if len(seeds) > 1:
                shared = sorted(set.intersection(*map(set, seeds)))
                notes.append(
                    f"{dataset}: the strategies have different seeds ({_spans(shared)} are shared); each "
                    "mean is over a strategy's own seeds"
                )
            last = max(int(g.labels[-1]) for g in members)
            short = [g for g in members if int(g.labels[-1]) < last]
            if short:
                ends = ", ".join(
                    f"{self.name(StrategyVariant(g.strategy, g.variant))} at {g.labels[-1]}"
                    for g in short
                )
                notes.append(f"{dataset}: curves that end before {last} labels: {ends}")
            if {g.on for g in members} != {"test"}:
                on = ", ".join(sorted({g.on for g in members}))
                notes.append(f"{dataset}: measured on {on}")
        return tuple(notes)

    def seeds(self) -> str:
        """Number of seeds of its groups, such as ``8`` or ``5 to 8``."""
        counts = sorted({len(g.seeds) for g in self.groups})
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    @cached_property
    def main(self) -> Scope:
        """Its groups without labeled ablations (all, if there is nothing else)."""
        rows = {
            StrategyVariant(g.strategy, g.variant)
            for g in self.groups
            if g.variant or not is_variant(g)
        }
        return self.only([row for row in self.rows if row in rows]) if rows else self

    @cached_property
    def ablations(self) -> Scope | None:
        """Its ablations, with ``bmmal`` and the strategies they are variants of; None if there are none."""
        if not any(is_variant(g) for g in self.groups):
            return None
        references = ("bmmal", *OURS)
        rows = {
            StrategyVariant(g.strategy, g.variant)
            for g in self.groups
            if is_variant(g) or g.strategy in references
        }
        return self.only([row for row in self.rows if row in rows])

    def only(self, rows: Sequence[StrategyVariant]) -> Scope:
        """Return a scope with only these rows."""
        kept = tuple(g for g in self.groups if StrategyVariant(g.strategy, g.variant) in rows)
        return Scope(self.fusion, self.predictor, kept, self.budget)


def _spans(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) if seeds else "none"


def scopes(groups: Sequence[Group], budget: int | None = None) -> list[Scope]:
    """Split groups by fusion and predictor.

    Parameters
    ----------
    groups : sequence of Group
    budget : int or None
        Number of labels at which accuracies are read; None: the last that a data set's groups share.

    Raises
    ------
    UsageError
        If no round of any group has ``budget`` labels.
    """
    if budget is not None and not any(budget in g.labels for g in groups):
        common = sorted({int(labels) for g in groups for labels in g.labels})
        raise UsageError(
            f"--budget {budget}: expected the number of labels of some round, one of "
            f"{_listed(common)}; choose one of these, or omit --budget"
        )
    keys = dict.fromkeys((g.fusion, g.predictor) for g in groups)
    return [
        Scope(
            fusion,
            predictor,
            tuple(g for g in groups if (g.fusion, g.predictor) == (fusion, predictor)),
            budget,
        )
        for fusion, predictor in sorted(keys)
    ]


def _listed(numbers: Sequence[int], most: int = 20) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return shown if len(numbers) <= most else f"{shown}, ... {numbers[-1]}"
