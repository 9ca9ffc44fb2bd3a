"""Figure 7: ablation curves, and the three rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlmba.experiments.content import FigureData, Subject
from rlmba.experiments.curves import Array, Group
from rlmba.experiments.figures.scoped import band_of, points
from rlmba.experiments.figures.style import (
    canvas,
    curve,
    export,
    finish,
    legend_text,
    strategy_styles,
    tidy,
)
from rlmba.experiments.scope import OURS, Scope, StrategyVariant, slug
from rlmba.types import MULTIMODAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["figure7"]

_REWARD = "reward.kind"


def _apart_from_reward(group: Group) -> tuple[tuple[str, str], ...]:
    rest = {k: v for k, v in group.options.items() if not k.startswith("reward.")}
    return tuple(sorted(rest.items()))


def _rewards(groups: Sequence[Group]) -> tuple[list[Group], list[Group]]:
    """Groups that differ only by their reward: one per kind, and all; empty for fewer than two kinds."""
    alike: dict[tuple[tuple[str, str], ...], list[Group]] = {}
    for group in groups:
        if _REWARD in group.options:
            alike.setdefault(_apart_from_reward(group), []).append(group)
    kinds = [{g.options[_REWARD]: g for g in members} for members in alike.values()]
    most = max(range(len(kinds)), key=lambda i: len(kinds[i]), default=None)
    if most is None or len(kinds[most]) < 2:
        return [], []
    return [kinds[most][kind] for kind in sorted(kinds[most])], list(alike.values())[most]


def figure7(scope: Scope, dataset: str) -> FigureData | None:
    """Figure 7: Top-1 of the ablations; Top-1 and reward under each kind of reward.

    Kinds of reward are compared if runs differ only by the reward. None if there is no ablation.
    """
    if scope.ablations is None:
        return None
    groups = scope.ablations.of(dataset)
    rewards, of_reward = _rewards(groups)
    ablated = [g for g in groups if g not in of_reward or g.strategy in OURS]
    parts: list[tuple[str, str, list[tuple[str, Group, Array]]]] = []
    if len(ablated) > 1:
        named = [
            (scope.name(StrategyVariant(g.strategy, g.variant)), g, g.top1[MULTIMODAL])
            for g in ablated
        ]
        parts.append(("ablations", "Top-1", named))
    if rewards:
        kinds = [(g.options[_REWARD], g) for g in rewards]
        parts.append(("kinds of reward", "Top-1", [(k, g, g.top1[MULTIMODAL]) for k, g in kinds]))
        parts.append(
            ("their rewards", "reward, not smoothed", [(k, g, g.raw_reward) for k, g in kinds])
        )
    if not parts:
        return None
    figure = canvas(4.2 * len(parts) + 0.6, 4.4)
    axes = figure.subplots(1, len(parts), squeeze=False)[0]
    for axis, (heading, ylabel, curves) in zip(axes, parts, strict=True):
        _panel(axis, heading, ylabel, curves)
    title = f"{dataset}, {scope.heading}: ablations"
    finish(figure, title, [])
    notes = [f"{name}: {g.variant}." for name, g, _ in parts[0][2] if g.variant]
    return FigureData(
        subject=Subject(dataset, scope.fusion),
        scope=scope.heading,
        key=f"figure7_{slug(dataset)}_{scope.key}",
        title=title,
        caption=" ".join(
            [
                (
                    "Top-1 of the fused head against labeled samples for parts of the method, and for the "
                    "kinds of reward if runs differ only by the reward. Mean over seeds; band: ± 1 s.d."
                ),
                *notes,
            ]
        ),
        files=export(figure),
        columns=("panel", "curve", "strategy", "variant", "seeds", "labels", "mean", "sd"),
        rows=[
            (heading, name, *point[:3], *point[5:])
            for heading, _, curves in parts
            for name, group, values in curves
            for point in points(group, heading, name, values)
        ],
    )


def _panel(
    axis: Axes, heading: str, ylabel: str, curves: Sequence[tuple[str, Group, Array]]
) -> None:
    tidy(axis)
    names = [name for name, _, _ in curves]
    styles = strategy_styles(names, {name: group.strategy for name, group, _ in curves})
    for name, group, values in curves:
        band = band_of(len(curves))
        curve(axis, group.labels, values, band=band, label=legend_text(name), **styles[name])
    axis.set_title(heading, fontsize=9)
    axis.set_xlabel("labeled samples")
    axis.set_ylabel(ylabel)
    # Below the axes, where it never covers data.
    axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8,
        handlelength=3.4,
    )  # fmt: skip
