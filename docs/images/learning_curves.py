"""Draw README's figure from docs/results/cold/curves.csv: ``python docs/images/learning_curves.py``."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent
SETS = ("av_digits", "wiki", "cub10", "utd_mhad", "ccv")
LINES = {
    "rlmba-h": {"color": "#0072b2", "linewidth": 2.2},
    "typiclust": {"color": "#cc79a7", "linestyle": (0, (5, 1))},
    "badge": {"color": "#009e73", "linestyle": "--"},
    "random": {"color": "black", "linestyle": "-."},
    "rlmba": {"color": "#d55e00", "linestyle": ":", "linewidth": 1.8},
}

curves: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
with (FOLDER.parent / "results" / "cold" / "curves.csv").open(encoding="utf-8") as file:
    for row in csv.DictReader(file):
        shown = row["fusion"] == "adaptive" and row["predictor"] == "fused" and not row["variant"]
        if shown and (row["on"], row["quantity"], row["name"]) == ("test", "top1", "mm"):
            name = row["dataset"].removeprefix("features:"), row["strategy"]
            curves[name].append((int(row["labels"]), float(row["mean"])))

figure, axes = plt.subplots(1, len(SETS), figsize=(13, 3), layout="constrained")
for axis, name in zip(axes, SETS, strict=True):
    for strategy, style in LINES.items():
        axis.plot(*zip(*sorted(curves[name, strategy]), strict=True), label=strategy, **style)
    axis.set(title=name, xlabel="labels", xscale="log")
    counts = sorted(dict(curves[name, "random"]))
    axis.minorticks_off()
    axis.set_xticks(counts[::2], counts[::2])
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("test accuracy, mean of 8 seeds")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
figure.savefig(FOLDER / "learning_curves.png", dpi=100)
