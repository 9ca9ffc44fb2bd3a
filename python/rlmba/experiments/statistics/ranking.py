"""Comparisons of all strategies with each other: wins, mean ranks, critical difference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rlmba.errors import UsageError
from rlmba.experiments.group import Array, Group
from rlmba.experiments.statistics.comparable import (
    ComparableRuns,
    NoteList,
    StrategyRuns,
    comparable_runs,
    pair,
)
from rlmba.experiments.statistics.significance import EQUAL, holm, paired, tied

__all__ = ["Ranking", "WinMatrix", "critical_difference", "rank", "win_matrix"]


@dataclass(frozen=True, eq=False)
class WinMatrix:
    """How often each of K strategies beats each other.

    Attributes
    ----------
    names : tuple of str [K]
        Most wins first; with the predictor if there are several.
    wins : float array [K, K]
        Share of (data set, seed) pairs in which the row's AUBC is above the column's. Ties count half, so
        that ``wins + wins.T`` is 1. NaN on the diagonal and for two strategies without a common seed.
    significant : int64 array [K, K]
        Number of data sets on which the row is significantly above the column: paired t test over seeds,
        Holm's correction over all pairs of strategies on that data set.
    pairs : int64 array [K, K]
        Number of (data set, seed) pairs behind ``wins``.
    blocks : int
        Number of (data set, seed) combinations that two or more strategies have.
    datasets : tuple of str
    notes : tuple of str
    """

    names: tuple[str, ...]
    wins: Array
    significant: NDArray[np.int64]
    pairs: NDArray[np.int64]
    blocks: int
    datasets: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Mean ranks of K strategies over blocks, and which of them differ.

    Attributes
    ----------
    names : tuple of str [K]
        Best mean rank first; ties in alphabetical order.
    mean_rank : float array [K]
        Over the blocks. Rank 1 has the highest AUBC; ties share their mean rank. NaN without blocks.
    blocks : int
        Number of (data set, seed) combinations that all K strategies have.
    friedman_p : float or None
        p value of Friedman's test that all strategies are equal, corrected for ties; None for fewer than
        2 blocks or strategies.
    critical_difference : float or None
        Nemenyi's: mean ranks that are further apart differ at level ``alpha``. None as above.
    cliques : tuple of tuples of int
        Maximal sets of consecutive positions in ``names`` that do not differ, with 2 or more members.
    datasets : tuple of str
        The data sets of the blocks.
    alpha : float
    notes : tuple of str
    """

    names: tuple[str, ...]
    mean_rank: Array
    blocks: int
    friedman_p: float | None
    critical_difference: float | None
    cliques: tuple[tuple[int, ...], ...]
    datasets: tuple[str, ...]
    alpha: float
    notes: tuple[str, ...]


def win_matrix(
    groups: Iterable[Group],
    *,
    fusion: str,
    strategies: Sequence[str] | None = None,
    alpha: float = 0.05,
) -> WinMatrix:
    """Count how often each strategy beats each other by AUBC, with one fusion.

    Two strategies are compared if they were tried under the same conditions, on the seeds that both have
    and over the numbers of labels that their runs have in common.

    Parameters
    ----------
    groups : iterable of Group
        Groups with other fusions are ignored.
    fusion : str
    strategies : sequence of str or None
        The names to include, as in ``WinMatrix.names``; None: all.
    alpha : float
        Significance level of ``significant``.

    Returns
    -------
    WinMatrix

    Raises
    ------
    UsageError
        If no group has that fusion, a name is unknown, or a seed of a strategy appears twice.
    """
    notes = NoteList()
    places, names = _contestants(groups, fusion, strategies, notes)
    k = len(names)
    ahead, count = np.zeros((k, k)), np.zeros((k, k), dtype=np.int64)
    significant = np.zeros((k, k), dtype=np.int64)
    blocks: set[tuple[int, int]] = set()
    for place, (comparable, entries) in enumerate(places):
        tests = []
        for i, j in combinations([names.index(name) for name in entries], 2):
            a, b = entries[names[i]], entries[names[j]]
            pairing = pair([a, b], comparable.where, "aubc", notes)
            blocks |= {(place, seed) for seed in pairing.seeds}
            d = pairing.values[0] - pairing.values[1]
            half = 0.5 * (np.abs(d) < EQUAL).sum()
            ahead[i, j] += (d >= EQUAL).sum() + half
            ahead[j, i] += (d <= -EQUAL).sum() + half
            count[[i, j], [j, i]] += len(d)
            tests.append((i, j, paired(pairing.values[0], pairing.values[1])))
        corrected = holm([test.p for _, _, test in tests])
        for (i, j, test), p in zip(tests, corrected, strict=True):
            if p is not None and p < alpha:
                significant[(i, j) if test.difference > 0 else (j, i)] += 1
        if tests and max(test.n for _, _, test in tests) == 1:
            notes.add(f"{comparable.where}: one seed, so no p value")
    with np.errstate(invalid="ignore"):
        wins = np.where(count > 0, ahead / count, np.nan)
    total = [float(np.nanmean(row)) if np.isfinite(row).any() else -1.0 for row in wins]
    order = sorted(range(k), key=lambda i: (-round(total[i], 12), names[i]))
    square = np.ix_(order, order)
    return WinMatrix(
        names=tuple(names[i] for i in order),
        wins=wins[square],
        significant=significant[square],
        pairs=count[square],
        blocks=len(blocks),
        datasets=tuple(dict.fromkeys(comparable.dataset for comparable, _ in places)),
        notes=notes.all(),
    )


def rank(
    groups: Iterable[Group],
    *,
    fusion: str,
    strategies: Sequence[str] | None = None,
    alpha: float = 0.05,
) -> Ranking:
    """Rank strategies by AUBC in every block (data set x seed) that all have, with one fusion.

    Parameters
    ----------
    groups : iterable of Group
        Groups with other fusions are ignored.
    fusion : str
    strategies : sequence of str or None
        The names to include, as in ``Ranking.names``; None: all. If a strategy was not run on a data set,
        that data set is excluded for all strategies, unless the strategy is left out here.
    alpha : float
        Significance level of the critical difference.

    Returns
    -------
    Ranking
        Blocks of one data set are not independent, so the critical difference is too small if there are
        many seeds and few data sets; a note gives the numbers.

    Raises
    ------
    UsageError
        If no group has that fusion, a name is unknown, or a seed of a strategy appears twice.

    References
    ----------
    J. Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.
    """
    notes = NoteList()
    places, names = _contestants(groups, fusion, strategies, notes)
    ranks, sets = [], []
    for comparable, entries in places:
        missing = [name for name in names if name not in entries]
        if missing:
            notes.add(
                f"{comparable.where}: left out of the ranks, because it lacks {', '.join(missing)}"
            )
            continue
        pairing = pair([entries[name] for name in names], comparable.where, "aubc", notes)
        if not pairing.seeds:
            notes.add(
                f"{comparable.where}: left out of the ranks, because the strategies share no seed"
            )
            continue
        ranks.append(np.array([stats.rankdata(tied(-column)) for column in pairing.values.T]))
        sets.append(comparable.dataset)
    table = np.concatenate(ranks) if ranks else np.empty((0, len(names)))
    n, k = table.shape
    mean = table.mean(axis=0) if n else np.full(k, np.nan)
    order = sorted(range(k), key=lambda i: (round(float(mean[i]), 9) if n else 0.0, names[i]))
    distance = critical_difference(k, n, alpha=alpha) if k >= 2 and n >= 2 else None
    datasets = tuple(dict.fromkeys(sets))
    if n < 2:
        notes.add(
            f"{fusion} fusion: ranks are not tested: {n or 'no'} data set x seed has all strategies"
        )
    elif n > len(datasets):
        notes.add(
            f"{fusion} fusion: ranks over {n} blocks, data sets ({len(datasets)}) x seeds; blocks of one "
            "data set are not independent, so the critical difference is probably too small"
        )
    return Ranking(
        names=tuple(names[i] for i in order),
        mean_rank=mean[order],
        blocks=n,
        friedman_p=_friedman(table) if distance is not None else None,
        critical_difference=distance,
        cliques=() if distance is None else _cliques(mean[order], distance),
        datasets=datasets,
        alpha=alpha,
        notes=notes.all(),
    )


def critical_difference(k: int, blocks: int, *, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks.

    q sqrt(k (k + 1) / (6 blocks)), where q is the upper ``alpha`` quantile of the studentized range of k
    means with infinitely many degrees of freedom, divided by sqrt(2).

    Parameters
    ----------
    k : int
        Number of strategies, >= 2.
    blocks : int
        Number of blocks, >= 1.
    alpha : float
        Significance level, within (0, 1).

    Returns
    -------
    float
        In ranks.

    Raises
    ------
    UsageError
        If a number is out of range.
    """
    if k < 2 or blocks < 1 or not 0 < alpha < 1:
        raise UsageError(
            "critical_difference: expected k >= 2, blocks >= 1 and alpha in (0, 1), got "
            f"{k}, {blocks} and {alpha}"
        )
    q = float(stats.studentized_range.ppf(1 - alpha, k, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(k * (k + 1) / (6 * blocks)))


def _contestants(
    groups: Iterable[Group], fusion: str, strategies: Sequence[str] | None, notes: NoteList
) -> tuple[list[tuple[ComparableRuns, dict[str, StrategyRuns]]], list[str]]:
    """Comparable runs with their entries by name, and all names in alphabetical order."""
    groups = list(groups)
    chosen = [group for group in groups if group.fusion == fusion]
    if not chosen:
        there = ", ".join(sorted({group.fusion for group in groups})) or "none"
        raise UsageError(f"expected groups under {fusion!r} fusion, got fusions: {there}")
    several = len({group.predictor for group in chosen}) > 1
    places = []
    for comparable in comparable_runs(chosen, notes):
        entries = {f"{e.name}, {e.predictor}" if several else e.name: e for e in comparable.entries}
        places.append((comparable, entries))
    names = sorted({name for _, entries in places for name in entries})
    if strategies is not None:
        unknown = [name for name in strategies if name not in names]
        if unknown:
            raise UsageError(f"expected strategies among {'; '.join(names)}, got {unknown[0]!r}")
        names = [name for name in names if name in strategies]
        places = [(a, {n: e for n, e in entries.items() if n in names}) for a, entries in places]
    return places, names


def _friedman(ranks: Array) -> float:
    """Friedman's chi-squared test of ranks [n, k], with the correction for ties."""
    n, k = ranks.shape
    spread = ((ranks - (k + 1) / 2) ** 2).sum()
    if spread < EQUAL:
        return 1.0
    between = n * ((ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum()
    statistic = n * (k - 1) * between / spread
    return float(stats.chi2.sf(statistic, k - 1))


def _cliques(mean_rank: Array, distance: float) -> tuple[tuple[int, ...], ...]:
    """Maximal intervals of the ascending ranks whose ends differ by at most ``distance``."""
    found: list[tuple[int, ...]] = []
    reach = 0
    for i in range(len(mean_rank)):
        end = int(np.searchsorted(mean_rank, mean_rank[i] + distance, side="right"))
        if end > reach and end - i >= 2:
            found.append(tuple(range(i, end)))
        reach = max(reach, end)
    return tuple(found)
