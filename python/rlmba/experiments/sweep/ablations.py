"""The built-in variants of ``rlmba``, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlmba.config import RELATIVE_TO

__all__ = ["ABLATIONS", "BASELINES", "Ablation"]

BASELINES = RELATIVE_TO
"""Strategies that the relative reward is measured against unless ``reward.baselines`` is set (Eq 9)."""


@dataclass(frozen=True)
class Ablation:
    """A variant of ``rlmba``: its options of the strategy and its settings of the run."""

    meaning: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


ABLATIONS: Mapping[str, Ablation] = {
    "amcb-only": Ablation("entropies instead of EFDA (Table 2)", {"efda": False}),
    "efda-only": Ablation("uniform weights instead of AMCB (Table 2)", {}, {"amcb.enabled": False}),
    "no-diversity": Ablation("Eq 6 without its second term", {"diversity": False}),
    "greedy": Ablation("the best by Eq 6, without a policy", {"policy": "greedy"}),
    "uniform-draw": Ablation("candidates drawn uniformly, without a policy", {"policy": "uniform"}),
    "reward-absolute": Ablation("Top-1 as reward (Figure 7)", {}, {"reward.kind": "absolute"}),
    "reward-incremental": Ablation(
        "the gain in Top-1 as reward (Figure 7)", {}, {"reward.kind": "incremental"}
    ),
    "reward-relative": Ablation(
        "Top-1 relative to the baselines as reward (Figure 7)", {}, {"reward.kind": "relative"}
    ),
}
"""The variants of Figure 7 and Table 2, and further ones."""
