"""Figures of one data set under one fusion: Figures 5 and 6, calibration, weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlmba.experiments.content import FigureData
from rlmba.experiments.curves import Array, Group
from rlmba.experiments.figures.style import (
    COLOURS,
    curve,
    export,
    finish,
    key_line,
    panels,
    seeds_text,
    slug,
    strategy_styles,
)
from rlmba.experiments.scope import Row, Scope
from rlmba.types import MULTIMODAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["calibration", "draw_weights", "figure5", "figure6", "points", "weights"]

Point = tuple[str | float | int, ...]
_COLUMNS = 3
_COLUMN_NAMES = ("strategy", "variant", "seeds", "figure", "name", "labels", "mean", "sd")
# With more curves than this in a panel bands are drawn fainter, or they would hide one another.
_FEW = 5


def points(group: Group, figure: str, name: str, values: Array) -> list[Point]:
    """Return a curve as rows of the CSV: mean and s.d. (empty for one seed) where known."""
    found: list[Point] = []
    for t, labels in enumerate(group.labels):
        column = values[:, t]
        if not np.isnan(column).any():
            sd = float(np.std(column, ddof=1)) if len(column) > 1 else ""
            found.append(
                (
                    group.strategy, group.variant, len(group.seeds), figure, name, int(labels),
                    float(column.mean()), sd,
                )
            )  # fmt: skip
    return found


def band_of(curves: int) -> float:
    """Return how opaque a band is among so many curves."""
    return 0.15 if curves <= _FEW else 0.06


def _by_strategy(
    scope: Scope,
    dataset: str,
    *,
    key: str,
    what: str,
    caption: str,
    ylabel: str,
    quantity: str,
    of: Callable[[Group], Mapping[str, Array]],
    level: bool = False,
) -> FigureData | None:
    """Draw one panel a head (or modality) and one curve a strategy; None where nothing is known."""
    groups = scope.main.of(dataset)
    curves = {id(g): of(g) for g in groups}
    groups = [g for g in groups if any(not np.isnan(v).all() for v in curves[id(g)].values())]
    heads = list(dict.fromkeys(h for g in groups for h in curves[id(g)]))
    if not heads:
        return None
    names = {id(g): scope.name(Row(g.strategy, g.variant)) for g in groups}
    styles = strategy_styles(names.values())
    figure, axes = panels(len(heads), columns=_COLUMNS, ylabel=ylabel, share_y=level)
    for axis, head in zip(axes, heads, strict=True):
        axis.set_title(_head(head), fontsize=9)
        if level:
            axis.axhline(1 / len(heads), color="#999999", linewidth=0.8, zorder=0)
        for g in groups:
            if head in curves[id(g)]:
                style = styles[names[id(g)]]
                curve(axis, g.labels, curves[id(g)][head], band=band_of(len(groups)), **style)
    handles = [key_line(f"{names[id(g)]}, {seeds_text(g)}", **styles[names[id(g)]]) for g in groups]
    if level:
        handles.append(key_line("all equal", color="#999999", linewidth=0.8))
    title = f"{dataset}, {scope.heading}: {what}"
    finish(figure, title, handles)
    return FigureData(
        key=f"{key}_{slug(dataset)}_{scope.key}",
        title=title,
        caption=_with_notes(scope, groups, caption),
        files=export(figure),
        columns=_COLUMN_NAMES,
        rows=[p for g in groups for h, v in curves[id(g)].items() for p in points(g, quantity, h, v)],
    )


def _head(name: str) -> str:
    return "multimodal (fused)" if name == MULTIMODAL else f"{name} alone"


def _with_notes(scope: Scope, groups: Sequence[Group], caption: str) -> str:
    parts = [caption]
    if any(len(g.seeds) > 1 for g in groups):
        parts.append("Mean over seeds; band: ± 1 s.d.")
    parts += dict.fromkeys(
        f"{scope.name(Row(g.strategy, g.variant))}: {g.variant}." for g in groups if g.variant
    )
    return " ".join(parts)


def figure5(scope: Scope, dataset: str) -> FigureData | None:
    """Figure 5: Top-1 against labels, of the fused head and of each modality alone."""
    on = " and ".join(sorted({g.on for g in scope.of(dataset)}))
    return _by_strategy(
        scope,
        dataset,
        key="figure5",
        what="Top-1 against labels",
        caption="Top-1 of the fused head and of each modality's own head against labeled samples.",
        ylabel=f"Top-1 on {on}",
        quantity="top1",
        of=lambda g: g.top1,
    )


def figure6(scope: Scope, dataset: str) -> FigureData | None:
    """Figure 6: each modality's exact Shapley contribution against labels."""
    return _by_strategy(
        scope,
        dataset,
        key="figure6",
        what="Shapley contributions against labels",
        caption="Normalized mean Shapley value of each modality on the validation samples (exact, "
        "absent modalities zeroed); the modalities of a strategy sum to 1.",
        ylabel="normalized contribution",
        quantity="contributions",
        of=lambda g: g.contributions,
        level=True,
    )


def calibration(scope: Scope, dataset: str) -> FigureData | None:
    """Expected calibration error against labels, of the fused head and of each modality alone."""
    return _by_strategy(
        scope,
        dataset,
        key="calibration",
        what="calibration against labels",
        caption="Expected calibration error (L1, equal-width bins; 0 is calibrated) of the fused "
        "head and of each modality's own head against labeled samples.",
        ylabel="ECE",
        quantity="ece",
        of=lambda g: {head: figures["ece"] for head, figures in g.metrics.items()},
    )


_DRAWN: Mapping[str, tuple[str, dict[str, Any]]] = {
    "weights": ("AMCB weight w (scoring)", {"linestyle": "-", "linewidth": 1.8}),
    "fusion_weights": ("weight in the fusion", {"linestyle": "--", "linewidth": 1.4}),
}


def draw_weights(groups: Sequence[Group], names: Sequence[str], title: str) -> Figure:
    """Draw AMCB's weights (solid) and the fusion's (dashed) against labels, one panel a group."""
    modalities = list(dict.fromkeys(m for g in groups for m in g.modalities))
    colours = {m: COLOURS[i % len(COLOURS)] for i, m in enumerate(modalities)}
    figure, axes = panels(len(groups), columns=_COLUMNS, ylabel="weight", share_y=True)
    for axis, group, name in zip(axes, groups, names, strict=True):
        axis.set_title(f"{name} ({seeds_text(group)})", fontsize=9)
        for field, (_, style) in _DRAWN.items():
            for m, values in getattr(group, field).items():
                curve(axis, group.labels, values, color=colours[m], **style)
        axis.set_ylim(-0.02, 1.02)
        axis.axhline(1 / max(len(group.modalities), 1), color="#999999", linewidth=0.8, zorder=0)
    handles = [key_line(m, color=colours[m], linewidth=2.0) for m in modalities]
    handles += [key_line(meaning, color="#444444", **style) for meaning, style in _DRAWN.values()]
    handles.append(key_line("all equal", color="#999999", linewidth=0.8))
    finish(figure, title, handles)
    return figure


def weights(scope: Scope, dataset: str) -> FigureData | None:
    """Modality weights against labels: AMCB's and the fusion's, one panel a strategy."""
    groups = [
        g
        for g in scope.of(dataset)
        if any(not np.isnan(v).all() for f in _DRAWN for v in getattr(g, f).values())
    ]
    if not groups:
        return None
    title = f"{dataset}, {scope.heading}: modality weights"
    names = [scope.name(Row(g.strategy, g.variant)) for g in groups]
    return FigureData(
        key=f"weights_{slug(dataset)}_{scope.key}",
        title=title,
        caption=_with_notes(
            scope,
            groups,
            "AMCB's w (Eq 2), used for scoring, and the weights the fusion was trained under.",
        ),
        files=export(draw_weights(groups, names, title)),
        columns=_COLUMN_NAMES,
        rows=[
            p
            for g in groups
            for field in _DRAWN
            for m, values in getattr(g, field).items()
            for p in points(g, field, m, values)
        ],
    )
