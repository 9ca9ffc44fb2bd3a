"""Figures of a report: drawn data with their numbers, and the quick ones of a single run."""

from __future__ import annotations

from rlmba.experiments.figures.ablation import figure7
from rlmba.experiments.figures.ranks import critical_difference
from rlmba.experiments.figures.scoped import calibration, figure5, figure6, weights

__all__ = ["calibration", "critical_difference", "figure5", "figure6", "figure7", "weights"]
