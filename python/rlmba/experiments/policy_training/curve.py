"""Draw the curve of the return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlmba.experiments.figures.style import canvas, export

__all__ = ["draw_curve"]


def draw_curve(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the return against episodes as PNG: a panel per task, and one of the mean and moving average."""
    tasks = sorted(history[0]["returns"])
    episodes = [h["episodes"] for h in history]
    panels = ["all", *tasks] if len(tasks) > 1 else ["all"]
    figure = canvas(5.2, 2.6 * len(panels) + 0.4)
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axis, name in zip(axes, panels, strict=True):
        values = [h["return"] if name == "all" else h["returns"][name] for h in history]
        axis.plot(episodes, values, color="#56B4E9", linewidth=1, label="step")
        if name == "all":
            moving = [h["moving_return"] for h in history]
            axis.plot(episodes, moving, color="#0072B2", linewidth=2, label="moving mean")
            axis.legend(frameon=False)
        axis.set_title(", ".join(tasks) if len(panels) == 1 else name, fontsize=9)
        axis.set_ylabel("mean reward per round")
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("episodes")
    return export(figure, ["png"])["png"]
