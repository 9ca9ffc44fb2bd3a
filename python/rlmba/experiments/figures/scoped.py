"""Figures of one data set with one fusion: Figures 5 and 6, calibration, weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rlmba.experiments.content import FigureData, Subject
from rlmba.experiments.curves import Array, Group
from rlmba.experiments.figures.style import (
    curve,
    export,
    finish,
    key_line,
    panels,
    seeds_text,
    strategy_styles,
)
from rlmba.experiments.scope import Scope, StrategyVariant, slug
from rlmba.types import MULTIMODAL

__all__ = ["band_of", "calibration", "figure5", "figure6", "points", "weights"]

Point = tuple[str | float | int, ...]
_COLUMNS = 3
_COLUMN_NAMES = ("strategy", "variant", "seeds", "figure", "name", "labels", "mean", "sd")
# With more curves in a panel, bands are drawn fainter, because they would hide each other.
_FEW = 5


def points(group: Group, figure: str, name: str, values: Array) -> list[Point]:
    """Return a curve as rows of a CSV: mean and s.d. (empty for one seed), if known."""
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
    """Return the opacity of a band for a number of curves."""
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
    level: float | None = None,
    columns: int = _COLUMNS,
) -> FigureData | None:
    """Draw one panel per head (or modality) and one curve per strategy; None if nothing is known.

    ``level`` is the value at which all modalities are equal; the panels then share their scale.
    """
    groups = scope.main.of(dataset)
    curves = {id(g): of(g) for g in groups}
    groups = [g for g in groups if any(not np.isnan(v).all() for v in curves[id(g)].values())]
    heads = list(dict.fromkeys(h for g in groups for h in curves[id(g)]))
    if not heads:
        return None
    names = {id(g): scope.name(StrategyVariant(g.strategy, g.variant)) for g in groups}
    styles = strategy_styles(names.values(), {names[id(g)]: g.strategy for g in groups})
    figure, axes = panels(len(heads), columns=columns, ylabel=ylabel, share_y=level is not None)
    for axis, head in zip(axes, heads, strict=True):
        axis.set_title(head if level is not None else _head(head), fontsize=9)
        if level is not None:
            axis.axhline(level, color="#999999", linewidth=0.8, zorder=0)
        for g in groups:
            if head in curves[id(g)]:
                style = styles[names[id(g)]]
                curve(axis, g.labels, curves[id(g)][head], band=band_of(len(groups)), **style)
    seeds = {seeds_text(g) for g in groups}
    handles = [
        key_line(
            names[id(g)] + (f", {seeds_text(g)}" if len(seeds) > 1 else ""),
            **styles[names[id(g)]],
        )
        for g in groups
    ]
    if level is not None:
        handles.append(key_line("all equal", color="#999999", linewidth=0.8))
    title = f"{dataset}, {scope.heading}: {what}"
    finish(figure, f"{title} ({seeds.pop()})" if len(seeds) == 1 else title, handles)
    return FigureData(
        subject=Subject(dataset, scope.fusion),
        scope=scope.heading,
        key=f"{key}_{slug(dataset)}_{scope.key}",
        title=title,
        caption=_with_notes(scope, groups, caption),
        files=export(figure),
        columns=_COLUMN_NAMES,
        rows=[
            p for g in groups for h, v in curves[id(g)].items() for p in points(g, quantity, h, v)
        ],
    )


def _modalities(scope: Scope, dataset: str) -> int:
    """Return M, at least 1."""
    return max(1, *(len(g.modalities) for g in scope.of(dataset)))


def _head(name: str) -> str:
    return "multimodal (fused)" if name == MULTIMODAL else f"{name} alone"


def _with_notes(scope: Scope, groups: Sequence[Group], caption: str) -> str:
    parts = [caption]
    if any(len(g.seeds) > 1 for g in groups):
        parts.append("Mean over seeds; band: ± 1 s.d.")
    parts += dict.fromkeys(
        f"{scope.name(StrategyVariant(g.strategy, g.variant))}: {g.variant}."
        for g in groups
        if g.variant
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
    """Figure 6: exact Shapley contribution of each modality against labels."""
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
        level=1 / _modalities(scope, dataset),
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


_KINDS = (("weights", "AMCB's w of {} (scoring)"), ("fusion_weights", "weight of {} in the fusion"))


def weights(scope: Scope, dataset: str) -> FigureData | None:
    """Modality weights against labels: those of AMCB in the upper panels, those of the fusion below."""

    def of(group: Group) -> dict[str, Array]:
        return {
            title.format(modality): values
            for field, title in _KINDS
            for modality, values in getattr(group, field).items()
        }

    modalities = _modalities(scope, dataset)
    return _by_strategy(
        scope,
        dataset,
        key="weights",
        what="modality weights against labels",
        caption="AMCB's w (Eq 2), used for scoring, and the weights that the fusion was trained with.",
        ylabel="weight",
        quantity="weight",
        of=of,
        level=1 / modalities,
        columns=modalities,
    )
