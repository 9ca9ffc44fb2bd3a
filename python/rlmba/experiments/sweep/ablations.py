"""The built-in variants of ``rlmba``, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlmba.config import RELATIVE_TO

__all__ = ["ABLATIONS", "BASELINES", "Ablation"]

BASELINES = RELATIVE_TO
"""Strategies whose curves the relative reward is measured against unless ``reward.baselines`` says (Eq 9)."""


@dataclass(frozen=True)
class Ablation:
    """A variant of ``rlmba``: options of the strategy, and settings of the run."""

    meaning: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


ABLATIONS: Mapping[str, Ablation] = {
    "amcb-only": Ablation("entropies in place of EFDA (Table 2)", {"efda": False}),
    "efda-only": Ablation(
        "uniform weights in place of AMCB (Table 2)", {}, {"amcb.enabled": False}
    ),
    "no-diversity": Ablation("Eq 6 without its second term", {"diversity": False}),
    "greedy": Ablation("the best by Eq 6, no policy", {"policy": "greedy"}),
    "uniform-draw": Ablation("candidates drawn evenly, no policy", {"policy": "uniform"}),
    "reward-absolute": Ablation("Top-1 as reward (Figure 7)", {}, {"reward.kind": "absolute"}),
    "reward-incremental": Ablation(
        "the gain of Top-1 as reward (Figure 7)", {}, {"reward.kind": "incremental"}
    ),
    "reward-relative": Ablation(
        "Top-1 above the baselines' as reward (Figure 7)", {}, {"reward.kind": "relative"}
    ),
}
"""Figure 7's and Table 2's variants, and those between."""
