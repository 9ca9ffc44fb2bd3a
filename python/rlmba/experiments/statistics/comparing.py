"""Comparisons of all strategies with one reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, overload

import numpy as np

from rlmba.errors import UsageError
from rlmba.experiments.group import Group
from rlmba.experiments.statistics.comparable import (
    ComparableRuns,
    Measure,
    NoteList,
    Pairing,
    StrategyRuns,
    comparable_runs,
    pair,
)
from rlmba.experiments.statistics.significance import PairedTest, holm, paired

__all__ = ["ALL_SETS", "Comparison", "Comparisons", "compare_to"]

ALL_SETS = "all data sets"
"""The ``dataset`` of a pooled comparison."""


@dataclass(frozen=True)
class Comparison:
    """A strategy compared with the reference, paired over the seeds that both have.

    Attributes
    ----------
    dataset : str
        :data:`ALL_SETS` if pooled.
    fusion, predictor : str
        Of both.
    strategy : str
        With the options that distinguish it from others of the same name, if there are any.
    reference : str
    test : PairedTest
        Of strategy minus reference; positive means better than the reference.
    p_holm : float or None
        ``test.p`` after correction; None if there is no p value.
    verdict : {"wins", "ties", "loses"}
        "ties": no difference was shown, possibly because there are too few seeds.
    datasets : tuple of str
        The data sets of the pairs.
    """

    dataset: str
    fusion: str
    predictor: str
    strategy: str
    reference: str
    test: PairedTest
    p_holm: float | None
    verdict: Literal["wins", "ties", "loses"]
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparisons(Sequence[Comparison]):
    """Comparisons, with ``notes`` for the reader."""

    items: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Comparison: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Comparison, ...]: ...
    def __getitem__(self, index: int | slice) -> Comparison | tuple[Comparison, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Measures [2, n] of a strategy and the reference under the same conditions, the strategy's first."""

    comparable: ComparableRuns
    entry: StrategyRuns
    pairing: Pairing


def compare_to(
    groups: Iterable[Group],
    reference: str,
    *,
    measure: Measure = "aubc",
    pooled: bool = False,
    alpha: float = 0.05,
) -> Comparisons:
    """Compare all strategies with a reference that has the same fusion and predictor.

    A pair is a seed that both have, with both curves truncated to the numbers of labels that all their
    runs have in common. Strategies that were tried under other conditions than the reference (epochs,
    batch size, initial labels, model, training, data) are not compared with it. Notes list what was left
    out or truncated, and why.

    Parameters
    ----------
    groups : iterable of Group
        Groups of any data sets, fusions and predictors.
    reference : str
        The name of a strategy.
    measure : {"aubc", "final"}
        Mean Top-1 of the fused head over rounds, or its last Top-1.
    pooled : bool
        Make one comparison per strategy over all data sets of a fusion, whose pairs are data sets x
        seeds. Pairs of a data set are not independent, so p refers to these data sets, not to others.
    alpha : float
        The corrected p must be below this for "wins" or "loses".

    Returns
    -------
    Comparisons
        In the order of ``groups``. Holm's correction is applied within a data set and fusion, or within
        a fusion if pooled.

    Raises
    ------
    UsageError
        If there is no such reference, its name is ambiguous, or a seed of a strategy appears twice.
    """
    notes = NoteList()
    places = comparable_runs(groups, notes)
    names = dict.fromkeys(entry.name for comparable in places for entry in comparable.entries)
    pairs = [
        found for comparable in places for found in _pairs(comparable, reference, measure, notes)
    ]
    if not any(_is(reference, name) for name in names):
        raise UsageError(
            f"expected the reference to be one of {', '.join(names) or 'no strategies'}, got {reference!r}"
        )
    rows = list(_pooled(pairs, reference) if pooled else _single(pairs, reference))
    sets = {fusion: _sets(rows, fusion) for fusion in {row.fusion for row in rows}}
    for row in rows:
        where = f"{row.dataset}, {row.fusion} fusion: {row.strategy} against {row.reference}"
        if row.test.n == 1:
            notes.add(f"{where}: one seed, so no p value")
        if pooled and set(row.datasets) != sets[row.fusion]:
            notes.add(f"{where}: pairs only on {', '.join(row.datasets)}")
    return Comparisons(tuple(_corrected(rows, alpha)), notes.all())


def _sets(rows: Sequence[Comparison], fusion: str) -> set[str]:
    return {dataset for row in rows if row.fusion == fusion for dataset in row.datasets}


def _is(reference: str, name: str) -> bool:
    return name == reference or name.startswith(f"{reference} (")


def _pairs(
    comparable: ComparableRuns, reference: str, measure: Measure, notes: NoteList
) -> Iterator[_Pairs]:
    for predictor in dict.fromkeys(entry.predictor for entry in comparable.entries):
        entries = [entry for entry in comparable.entries if entry.predictor == predictor]
        found = [e for e in entries if e.name == reference] or [
            e for e in entries if _is(reference, e.name)
        ]
        if len(found) > 1:
            raise UsageError(
                f"{comparable.where}: the reference {reference!r} is ambiguous: "
                f"{'; '.join(e.name for e in found)}; give one of these names in full"
            )
        if not found:
            left = ", ".join(entry.name for entry in entries)
            notes.add(
                f"{comparable.where}, {predictor} predictor: no {reference} under the conditions of {left}; "
                "not compared"
            )
            continue
        for entry in entries:
            if entry is not found[0]:
                pairing = pair([entry, found[0]], comparable.where, measure, notes)
                if pairing.seeds:
                    yield _Pairs(comparable, entry, pairing)
                else:
                    notes.add(
                        f"{comparable.where}: {entry.name} and {reference} share no seed; not compared"
                    )


def _single(pairs: Iterable[_Pairs], reference: str) -> Iterator[Comparison]:
    for found in pairs:
        yield _compared(found.comparable.dataset, reference, [found])


def _pooled(pairs: Iterable[_Pairs], reference: str) -> Iterator[Comparison]:
    together: dict[tuple[str, str, str], list[_Pairs]] = {}
    for found in pairs:
        key = found.comparable.fusion, found.entry.predictor, found.entry.name
        together.setdefault(key, []).append(found)
    for members in together.values():
        yield _compared(ALL_SETS, reference, members)


def _compared(dataset: str, reference: str, pairs: Sequence[_Pairs]) -> Comparison:
    first = pairs[0]
    values = np.concatenate([p.pairing.values for p in pairs], axis=1)
    return Comparison(
        dataset=dataset,
        fusion=first.comparable.fusion,
        predictor=first.entry.predictor,
        strategy=first.entry.name,
        reference=reference,
        test=paired(values[0], values[1]),
        p_holm=None,
        verdict="ties",
        datasets=tuple(dict.fromkeys(p.comparable.dataset for p in pairs)),
    )


def _corrected(rows: Sequence[Comparison], alpha: float) -> Iterator[Comparison]:
    families: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        families.setdefault((row.dataset, row.fusion), []).append(i)
    corrected: dict[int, float | None] = {}
    for places in families.values():
        ps = holm([rows[i].test.p for i in places])
        corrected |= dict(zip(places, ps, strict=True))
    for i, row in enumerate(rows):
        yield replace(row, p_holm=corrected[i], verdict=_verdict(row.test, corrected[i], alpha))


def _verdict(test: PairedTest, p: float | None, alpha: float) -> Literal["wins", "ties", "loses"]:
    if p is None or p >= alpha:
        return "ties"
    return "wins" if test.difference > 0 else "loses"
