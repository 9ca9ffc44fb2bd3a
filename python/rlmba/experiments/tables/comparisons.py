"""Comparisons of strategies: paired tests, wins and losses, the win matrix, ranks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rlmba.errors import UsageError
from rlmba.experiments import statistics
from rlmba.experiments.content import Cell, TableData
from rlmba.experiments.scope import ORDER, Scope
from rlmba.experiments.tables.cells import NONE, best, number, p_value, text
from rlmba.types import MULTIMODAL

__all__ = ["REFERENCES", "against", "contests", "rank_table", "ranking", "verdicts", "win_table"]

REFERENCES = ("random", "badge", "bmmal")
"""Strategies that all others are tested against."""

_ALPHA = 0.05
_TESTED = (
    "Differences are strategy minus reference, paired over the seeds that both have. p: two-sided paired "
    "t test; Holm: corrected over the strategies of one data set and fusion; signed-rank: Wilcoxon's exact "
    f"test. wins and loses: corrected p below {_ALPHA}; —: one seed, no test."
)


def contests(scope: Scope) -> list[tuple[str, Scope]]:
    """List the tests: all strategies against the references, and ablations against ``rlmba``."""
    found = [(name, scope.main) for name in REFERENCES if _takes_part(scope.main, name)]
    if scope.ablations is not None and _takes_part(scope.ablations, "rlmba"):
        found.append(("rlmba", scope.ablations))
    return found


def _takes_part(scope: Scope, reference: str) -> bool:
    sets = {g.dataset for g in scope.groups if g.strategy == reference}
    return any(g.dataset in sets and g.strategy != reference for g in scope.groups)


def _compared(
    scope: Scope, reference: str, measure: statistics.Measure, *, pooled: bool = False
) -> statistics.Comparisons:
    """Compare with a reference; if that is impossible, return only a note that says why."""
    try:
        return statistics.compare_to(
            scope.groups, reference, measure=measure, pooled=pooled, alpha=_ALPHA
        )
    except UsageError as error:
        return statistics.Comparisons((), (f"Not tested against {reference}: {error}",))


def _place(name: str) -> int:
    strategy = name.split(" (", maxsplit=1)[0]
    return ORDER.index(strategy) if strategy in ORDER else len(ORDER)


def _verdict(comparison: statistics.Comparison) -> Cell:
    return NONE if comparison.test.p is None else text(comparison.verdict)


def _difference(test: statistics.PairedTest) -> Cell:
    if np.isnan(test.difference):
        return NONE
    sd = "" if test.sd is None else f" ± {test.sd:.4f}"
    return Cell(f"{test.difference:+.4f}{sd}", test.difference)


def against(scope: Scope, reference: str) -> TableData:
    """Paired tests of all strategies against one reference on each data set, by AUBC and final Top-1.

    Parameters
    ----------
    scope : Scope
        One of those from :func:`contests`, with its reference.
    reference : str
    """
    areas = _compared(scope, reference, "aubc")
    finals = _compared(scope, reference, "final")
    order = {d: i for i, d in enumerate(scope.datasets)}
    both = sorted(
        zip(areas, finals, strict=True), key=lambda c: (order[c[0].dataset], _place(c[0].strategy))
    )
    rows: list[tuple[Cell, ...]] = []
    bold: set[tuple[int, int]] = set()
    worse: set[tuple[int, int]] = set()
    for c, final in both:
        for column, compared in ((7, c), (10, final)):
            _mark(compared, (len(rows), column), bold, worse)
        rows.append(
            (
                text(c.dataset), text(c.strategy), text(c.test.n),
                _difference(c.test), p_value(c.test.p), p_value(c.p_holm),
                p_value(c.test.p_signed_rank), _verdict(c),
                _difference(final.test), p_value(final.p_holm), _verdict(final),
            )
        )  # fmt: skip
    return scope.table(
        f"against-{reference}",
        f"Paired tests against {reference}",
        (
            "data set", "strategy", "pairs", "AUBC difference", "p", "Holm", "signed-rank",
            "verdict", "final Top-1 difference", "final: Holm", "final: verdict",
        ),
        rows,
        _notes(scope, [_TESTED], areas.notes, finals.notes),
        bold=bold,
        worse=worse,
        row_datasets=[c.dataset for c, _ in both],
    )  # fmt: skip


def _mark(
    compared: statistics.Comparison,
    cell: tuple[int, int],
    bold: set[tuple[int, int]],
    worse: set[tuple[int, int]],
) -> None:
    """Add the cell of a verdict to those of its kind."""
    if compared.verdict != "ties":
        (bold if compared.verdict == "wins" else worse).add(cell)


def _notes(scope: Scope, *more: Iterable[str]) -> tuple[str, ...]:
    said = [note for notes in more for note in notes]
    return tuple(dict.fromkeys((f"Under {scope.heading}.", *said)))


def verdicts(scope: Scope) -> TableData | None:
    """Wins, ties and losses over the data sets by AUBC, and the difference pooled over all of them.

    None if there is no reference.
    """
    rows: list[tuple[Cell, ...]] = []
    bold: set[tuple[int, int]] = set()
    worse: set[tuple[int, int]] = set()
    notes: list[str] = []
    for reference, among in contests(scope):
        single = _compared(among, reference, "aubc")
        pooled = _compared(among, reference, "aubc", pooled=True)
        notes += [*single.notes, *pooled.notes]
        for c in sorted(pooled, key=lambda c: _place(c.strategy)):
            each = [s for s in single if s.strategy == c.strategy and s.predictor == c.predictor]
            tested = [s for s in each if s.test.p is not None]
            _mark(c, (len(rows), 11), bold, worse)
            rows.append(
                (
                    text(reference), text(c.strategy), text(len(each)),
                    *(text(sum(s.verdict == v for s in tested)) for v in ("wins", "ties", "loses")),
                    text(c.test.n), _difference(c.test), p_value(c.test.p), p_value(c.p_holm),
                    p_value(c.test.p_signed_rank), _verdict(c),
                )
            )  # fmt: skip
    if not rows:
        return None
    return scope.table(
        "verdicts",
        "Wins, ties and losses by AUBC",
        (
            "against", "strategy", "data sets", "wins", "ties", "losses", "pooled pairs",
            "pooled difference", "p", "Holm", "signed-rank", "pooled verdict",
        ),
        rows,
        _notes(
            scope,
            [
                _TESTED,
                ("Wins, ties and losses: numbers of data sets, tested separately. Pooled: pairs of all data "
                "sets together, so p refers to these data sets, not to others."),
            ],
            notes,
        ),
        bold=bold,
        worse=worse,
    )  # fmt: skip


def _contestants(scope: Scope) -> bool:
    known = [g for g in scope.groups if np.isfinite(g.top1[MULTIMODAL]).all()]
    return len({(g.strategy, g.variant) for g in known}) > 1


def win_table(scope: Scope) -> TableData | None:
    """Win matrix: share of the (data set, seed) pairs in which the row beats the column by AUBC.

    None for fewer than two strategies.
    """
    if not _contestants(scope.main):
        return None
    matrix = statistics.win_matrix(scope.main.groups, fusion=scope.fusion, alpha=_ALPHA)
    rows = tuple(
        (
            text(f"{i + 1} {name}"),
            *(
                Cell("")
                if i == j
                else _share(float(matrix.wins[i, j]), int(matrix.significant[i, j]))
                for j in range(len(matrix.names))
            ),
            number(_mean(matrix.wins[i]), ".2f"),
        )
        for i, name in enumerate(matrix.names)
    )
    return scope.table(
        "wins",
        "Win matrix by AUBC",
        ("strategy", *(str(i + 1) for i in range(len(matrix.names))), "mean"),
        rows,
        _notes(
            scope,
            [
                (
                    f"Share of the {matrix.blocks} (data set, seed) pairs in which the row's AUBC is above "
                    "the column's (numbered like the rows); ties count half. In brackets: number of data "
                    "sets with a significant difference (paired t test over seeds, Holm's correction over "
                    "all pairs of strategies on that data set)."
                ),
            ],
            matrix.notes,
        ),
    )


def _mean(shares: np.ndarray) -> float | None:
    return float(np.nanmean(shares)) if np.isfinite(shares).any() else None


def _share(share: float, significant: int) -> Cell:
    if np.isnan(share):
        return NONE
    return Cell(f"{share:.2f} ({significant})" if significant else f"{share:.2f}", share)


def ranking(scope: Scope) -> statistics.Ranking | None:
    """Rank the strategies; None for fewer than two strategies, or if no block has all of them."""
    if not _contestants(scope.main):
        return None
    found = statistics.rank(scope.main.groups, fusion=scope.fusion, alpha=_ALPHA)
    return found if found.blocks else None


def rank_table(scope: Scope) -> TableData | None:
    """Mean ranks by AUBC over all (data set, seed) blocks, best first; None if :func:`ranking` is."""
    found = ranking(scope)
    if found is None:
        return None
    rows = []
    for i, name in enumerate(found.names):
        similar = {j for clique in found.cliques if i in clique for j in clique} - {i}
        alike = "none" if found.critical_difference is not None else "—"
        shown = ", ".join(found.names[j] for j in sorted(similar)) or alike
        rows.append((text(name), number(float(found.mean_rank[i]), ".2f"), text(shown)))
    tested = (
        []
        if found.critical_difference is None or found.friedman_p is None
        else [
            (
                f"Friedman's test that all are equal: p = {found.friedman_p:.2g}. Mean ranks that are more "
                f"than {found.critical_difference:.2f} apart differ (Nemenyi, {found.alpha:g})."
            ),
        ]
    )
    return scope.table(
        "ranks",
        "Mean ranks by AUBC",
        ("strategy", "mean rank", "not significantly different from"),
        rows,
        _notes(
            scope,
            [f"Over {found.blocks} blocks (a data set and a seed each); rank 1 is best.", *tested],
            found.notes,
        ),
        bold=best(rows, [1], largest=False),
    )
