"""The critical-difference diagram of mean ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmba.experiments.content import FigureData, Subject
from rlmba.experiments.figures.style import canvas, export, finish
from rlmba.experiments.scope import OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlmba.experiments.statistics import Ranking

__all__ = ["critical_difference"]

_STEP = 0.34  # inches between names
_CLIQUE_STEP = 0.13


def critical_difference(ranking: Ranking, *, key: str, heading: str, fusion: str) -> FigureData:
    """Draw mean ranks on a line, names on both sides, and bars through ranks that do not differ.

    Parameters
    ----------
    ranking : Ranking
        Has two or more strategies and a critical difference.
    key : str
        The end of the figure's name.
    heading : str
        The fusion and predictor, for the title.
    fusion : str
    """
    order = sorted(range(len(ranking.names)), key=lambda k: ranking.mean_rank[k])
    ranks = [float(ranking.mean_rank[k]) for k in order]
    names = [ranking.names[k] for k in order]
    place = {k: i for i, k in enumerate(order)}
    cliques = [
        (min(place[k] for k in clique), max(place[k] for k in clique))
        for clique in ranking.cliques
        if len(clique) > 1
    ]
    rows = -(-len(names) // 2)
    under = 0.25 + _CLIQUE_STEP * len(cliques)
    height = 0.85 + under + _STEP * rows + 0.5
    margin = 0.7 + 0.085 * max(map(len, names))
    width = 4.2 + 2 * margin
    figure = canvas(width, height)
    figure.set_layout_engine("none")
    axis = figure.add_axes((margin / width, 0.0, 4.2 / width, 1.0))
    axis.set_axis_off()
    difference = ranking.critical_difference or 0.0
    axis.set_xlim(1, max(len(names), 1 + difference))
    axis.set_ylim(-(under + _STEP * rows), height - (under + _STEP * rows))
    _scale(axis, len(names), difference)
    for i, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        left = i < rows
        depth = -(under + _STEP * (i if left else len(names) - 1 - i))
        edge = axis.get_xlim()[0 if left else 1]
        axis.plot(
            [rank, rank, edge], [0, depth, depth], color="#000000", linewidth=0.9, clip_on=False
        )
        axis.annotate(
            f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}",
            (edge, depth), xytext=(-5 if left else 5, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", fontsize=9, annotation_clip=False,
            fontweight="bold" if name in OURS else "normal",
        )  # fmt: skip
    for level, (first, last) in enumerate(cliques):
        y = -(0.16 + _CLIQUE_STEP * level)
        reach = 0.012 * (len(names) - 1)
        axis.plot(
            [ranks[first] - reach, ranks[last] + reach], [y, y],
            color="#D55E00", linewidth=3.6, solid_capstyle="butt", clip_on=False,
        )  # fmt: skip
    title = f"Mean ranks by AUBC, {heading}"
    finish(figure, title, [])
    return FigureData(
        subject=Subject(fusion=fusion),
        scope=heading,
        key=f"ranks_{key}",
        title=title,
        caption=f"Mean rank by AUBC over {ranking.blocks} blocks (a data set and a seed each); 1 is best. "
        f"{_friedman(ranking.friedman_p)} Strategies joined by a bar differ by less than the "
        f"critical difference of Nemenyi's test at {ranking.alpha:g}, {difference:.2f}.",
        files=export(figure),
        columns=("strategy", "mean rank", "bars it is under"),
        rows=[
            (name, rank, sum(first <= i <= last for first, last in cliques))
            for i, (name, rank) in enumerate(zip(names, ranks, strict=True))
        ],
    )


def _friedman(p: float | None) -> str:
    return "" if p is None else f"Friedman's test that all are equal: p = {p:.2g}."


def _scale(axis: Axes, names: int, difference: float) -> None:
    """Draw the line of ranks and, above it, the length of the critical difference."""
    last = max(names, 2)
    axis.plot([1, last], [0, 0], color="#000000", linewidth=1.2, clip_on=False)
    for rank in range(1, last + 1):
        axis.plot([rank, rank], [0, 0.07], color="#000000", linewidth=1.0, clip_on=False)
        axis.text(rank, 0.11, str(rank), ha="center", va="bottom", fontsize=8)
    y = 0.46
    end = 1 + difference
    axis.plot([1, end], [y, y], color="#D55E00", linewidth=1.6, clip_on=False)
    for x in (1, end):
        axis.plot([x, x], [y - 0.05, y + 0.05], color="#D55E00", linewidth=1.6, clip_on=False)
    axis.text(1, y + 0.07, f"critical difference {difference:.2f}", fontsize=8, va="bottom")
