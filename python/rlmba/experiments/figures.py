"""Figures of a report, as PNG bytes. One call draws the groups of one data set."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlmba.experiments.curves import Array, Group
from rlmba.types import MULTIMODAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["contributions", "learning_curve", "weights"]

# Okabe and Ito's colours, told apart with any colour vision; then darker ones.
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B4513",
    "#6A3D9A", "#7F7F7F",
)  # fmt: skip
_DASHES: tuple[Any, ...] = ("--", ":", "-.", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 4)))
# More groups than this in one panel hide each other: modalities then get panels of their own.
_ONE_PANEL = 3
_COLUMNS = 3


def _grid(panels: int, columns: int, ylabel: str) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(panels, columns)
    down = -(-panels // across)
    figure = Figure(figsize=(4.6 * across + 2.4, 3.5 * down + 0.8), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    flat = list(axes.ravel())
    for unused in flat[panels:]:
        unused.remove()
    for i, axis in enumerate(flat[:panels]):
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        if i % across == 0:
            axis.set_ylabel(ylabel)
        if i + across >= panels:
            axis.set_xlabel("labeled samples")
            axis.tick_params(labelbottom=True)
    return figure, flat[:panels]


def _curve(axis: Axes, labels: Any, values: Array, **style: Any) -> None:
    known = ~np.isnan(values).any(axis=0)
    if not known.any():
        return
    x, y = labels[known], values[:, known]
    mean = y.mean(axis=0)
    marker = "o" if len(x) == 1 else None
    axis.plot(x, mean, marker=marker, **style)
    if len(y) > 1:
        sd = y.std(axis=0, ddof=1)
        axis.fill_between(x, mean - sd, mean + sd, color=style["color"], alpha=0.15, linewidth=0)


def _png(figure: Figure, title: str, handles: Sequence[Any]) -> bytes:
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    # Outside the axes: constrained layout leaves it room, so it never covers data.
    figure.legend(
        handles=handles, loc="outside right center", frameon=False, fontsize=8, labelspacing=0.9
    )
    out = io.BytesIO()
    # No Software or date entry: the same groups give the same bytes.
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _line(label: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **style)


def _seeds(group: Group) -> str:
    return f"{len(group.seeds)} seed{'s' * (len(group.seeds) != 1)}"


def _legend_name(group: Group) -> str:
    lines = [group.strategy, f"{group.fusion} fusion, {group.predictor} predictor"]
    lines += group.variant.split(", ") if group.variant else []
    return "\n".join([*lines, _seeds(group)])


def _band_note(groups: Sequence[Group]) -> str:
    return "; band: ± 1 s.d. over seeds" if any(len(g.seeds) > 1 for g in groups) else ""


def learning_curve(dataset: str, groups: Sequence[Group]) -> bytes:
    """Draw Top-1 against labels: the fused head solid, each modality's own head thin.

    A colour is a group, a line style a head. With more than three groups every head has a panel.
    """
    heads = list(dict.fromkeys(h for g in groups for h in g.top1))
    styles: Mapping[str, dict[str, Any]] = {
        h: {"linestyle": "-", "linewidth": 2.0}
        if h == MULTIMODAL
        else {"linestyle": _DASHES[(i - 1) % len(_DASHES)], "linewidth": 1.1}
        for i, h in enumerate(heads)
    }
    names = {h: "multimodal (fused)" if h == MULTIMODAL else f"{h} alone" for h in heads}
    apart = len(groups) > _ONE_PANEL
    on = " and ".join(sorted({g.on for g in groups}))
    figure, axes = _grid(len(heads) if apart else 1, _COLUMNS, f"Top-1 on {on}")
    for i, group in enumerate(groups):
        colour = _COLOURS[i % len(_COLOURS)]
        for h, head in enumerate(heads):
            if head in group.top1:
                axis = axes[h if apart else 0]
                style = {**styles[head], "linestyle": "-"} if apart else styles[head]
                _curve(axis, group.labels, group.top1[head], color=colour, **style)
    if apart:
        for axis, head in zip(axes, heads, strict=True):
            axis.set_title(names[head], fontsize=9)
    handles = [
        _line(_legend_name(g), color=_COLOURS[i % len(_COLOURS)], linewidth=2.0)
        for i, g in enumerate(groups)
    ]
    if not apart:
        handles += [_line(names[h], color="#444444", **styles[h]) for h in heads]
    return _png(figure, f"{dataset}: learning curves{_band_note(groups)}", handles)


def _panels(
    dataset: str,
    groups: Sequence[Group],
    drawn: Mapping[str, tuple[str, dict[str, Any]]],
    *,
    title: str,
    ylabel: str,
) -> bytes:
    """One panel a group, one colour a modality; ``drawn``: field of the group -> meaning, style."""
    modalities = list(dict.fromkeys(m for g in groups for m in g.modalities))
    colours = {m: _COLOURS[i % len(_COLOURS)] for i, m in enumerate(modalities)}
    figure, axes = _grid(len(groups), _COLUMNS, ylabel)
    for axis, group in zip(axes, groups, strict=True):
        heading = f"{group.strategy}, {group.fusion} fusion ({_seeds(group)})"
        axis.set_title("\n".join([heading, *filter(None, [group.variant])]), fontsize=9)
        for field, (_, style) in drawn.items():
            for m, values in getattr(group, field).items():
                _curve(axis, group.labels, values, color=colours[m], **style)
        axis.set_ylim(-0.02, 1.02)
        axis.axhline(1 / max(len(group.modalities), 1), color="#999999", linewidth=0.8, zorder=0)
    handles = [_line(m, color=colours[m], linewidth=2.0) for m in modalities]
    if len(drawn) > 1:
        handles += [_line(meaning, color="#444444", **style) for meaning, style in drawn.values()]
    handles.append(_line("all equal", color="#999999", linewidth=0.8))
    return _png(figure, f"{dataset}: {title}{_band_note(groups)}", handles)


def contributions(dataset: str, groups: Sequence[Group]) -> bytes:
    """Draw each modality's normalized Shapley contribution against labels, one panel a group."""
    drawn = {"contributions": ("contribution", {"linestyle": "-", "linewidth": 1.8})}
    return _panels(
        dataset,
        groups,
        drawn,
        title="Shapley contributions on the validation set",
        ylabel="normalized contribution",
    )


def weights(dataset: str, groups: Sequence[Group]) -> bytes:
    """Draw AMCB's weights (solid) and the fusion's (dashed) against labels, one panel a group."""
    drawn = {
        "weights": ("AMCB weight w (scoring)", {"linestyle": "-", "linewidth": 1.8}),
        "fusion_weights": ("weight in the fusion", {"linestyle": "--", "linewidth": 1.4}),
    }
    return _panels(dataset, groups, drawn, title="modality weights", ylabel="weight")
