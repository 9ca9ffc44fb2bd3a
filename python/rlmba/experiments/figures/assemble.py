"""All figures of a report, in reading order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlmba.experiments.content import FigureData
from rlmba.experiments.figures.ablation import figure7
from rlmba.experiments.figures.ranks import critical_difference
from rlmba.experiments.figures.scoped import calibration, figure5, figure6, weights
from rlmba.experiments.scope import Scope
from rlmba.experiments.tables.comparisons import ranking
from rlmba.progress import counted

__all__ = ["scope_figures"]


def scope_figures(scopes: Sequence[Scope]) -> Iterator[FigureData]:
    """Draw all figures that the groups have numbers for, one after another."""
    for scope in scopes:
        ranks = ranking(scope)
        if ranks is not None and ranks.critical_difference is not None:
            yield critical_difference(
                ranks, key=scope.key, heading=scope.heading, fusion=scope.fusion
            )
    wanted = [
        (draw, scope, dataset)
        for draw in (figure5, figure6, figure7, calibration, weights)
        for scope in scopes
        for dataset in scope.datasets
    ]
    for draw, scope, dataset in counted("drawing figures", wanted, len(wanted)):
        figure = draw(scope, dataset)
        if figure is not None:
            yield figure
