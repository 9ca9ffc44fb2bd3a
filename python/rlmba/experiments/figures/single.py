"""The figures of the report of a single run, as PNG; quick to draw after every run."""

from __future__ import annotations

from typing import Any

from rlmba.experiments.content import FigureData
from rlmba.experiments.curves import Group
from rlmba.experiments.figures.style import (
    DASHES,
    curve,
    export,
    finish,
    key_line,
    panels,
)
from rlmba.experiments.palette import modality_colours
from rlmba.types import MULTIMODAL

__all__ = ["contributions", "figures", "learning_curve", "weights"]

_THICK: dict[str, Any] = {"linestyle": "-", "linewidth": 2.0}


def _title(group: Group, what: str) -> str:
    return f"{group.dataset}: {what}, {group.strategy}, {group.fusion} fusion"


def figures(group: Group) -> list[FigureData]:
    """Draw all figures of a run."""
    drawn = (
        ("learning_curve", "Learning curve", learning_curve),
        ("contributions", "Shapley contributions on the validation set", contributions),
        ("weights", "Modality weights", weights),
    )
    return [
        FigureData(
            key=key, title=title, caption="", files={"png": draw(group)}, columns=(), rows=()
        )
        for key, title, draw in drawn
    ]


def learning_curve(group: Group) -> bytes:
    """Draw Top-1 against labels: the fused head as a solid line, the modalities' heads dashed."""
    figure, (axis,) = panels(1, columns=1, ylabel=f"Top-1 on {group.on}", share_y=False)
    handles = []
    colours = modality_colours(list(group.top1), MULTIMODAL)
    for i, (head, values) in enumerate(group.top1.items()):
        fused = head == MULTIMODAL
        style = dict(_THICK) if fused else {"linestyle": DASHES[(i - 1) % len(DASHES)]}
        style = {"linewidth": 1.4, **style, "color": colours[head]}
        curve(axis, group.labels, values, **style)
        handles.append(key_line("multimodal (fused)" if fused else f"{head} alone", **style))
    finish(figure, _title(group, "learning curve"), handles)
    return export(figure, ["png"])["png"]


def contributions(group: Group) -> bytes:
    """Draw the normalized Shapley contributions of the modalities against labels."""
    figure, (axis,) = panels(1, columns=1, ylabel="normalized contribution", share_y=False)
    handles = []
    colours = modality_colours(list(group.contributions))
    for modality, values in group.contributions.items():
        style = {**_THICK, "color": colours[modality]}
        curve(axis, group.labels, values, **style)
        handles.append(key_line(modality, **style))
    axis.set_ylim(-0.02, 1.02)
    finish(figure, _title(group, "Shapley contributions on the validation set"), handles)
    return export(figure, ["png"])["png"]


def weights(group: Group) -> bytes:
    """Draw the weights of AMCB (solid) and of the fusion (dashed) against labels."""
    figure, (axis,) = panels(1, columns=1, ylabel="weight", share_y=False)
    dashed: dict[str, Any] = {"linestyle": "--", "linewidth": 1.4}
    kinds = (
        ("AMCB weight w (scoring)", group.weights, _THICK),
        ("weight in the fusion", group.fusion_weights, dashed),
    )
    colours = modality_colours(group.modalities)
    for _, by_modality, style in kinds:
        for modality, values in by_modality.items():
            curve(axis, group.labels, values, color=colours[modality], **style)
    axis.set_ylim(-0.02, 1.02)
    axis.axhline(1 / max(len(colours), 1), color="#999999", linewidth=0.8, zorder=0)
    handles = [key_line(m, color=colour, linewidth=2.0) for m, colour in colours.items()]
    handles += [key_line(kind, color="#444444", **style) for kind, _, style in kinds]
    handles.append(key_line("all equal", color="#999999", linewidth=0.8))
    finish(figure, _title(group, "modality weights"), handles)
    return export(figure, ["png"])["png"]
