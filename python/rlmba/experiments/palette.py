"""The colors of strategies and of modalities, the same in all figures and on the page of a report."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["COLOURS", "modality_colours", "other_colour", "strategy_colour"]

# The colors of Okabe and Ito without yellow, which is too light on white; then darker ones.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B4513",
    "#6A3D9A", "#7F7F7F", "#B2A100",
)  # fmt: skip
"""The colors of strategies. ``--line-0`` etc. of ``html/style.css`` are the same, in this order."""

_STRATEGIES = {
    "rlmba": "#D55E00",
    "rlmba-x": "#0072B2",
    "rlmba-h": "#009E73",
    "rlmba-evidential": "#CC79A7",
    "random": "#000000",
    "entropy": "#E69F00",
    "margin": "#8B4513",
    "gcnal": "#6A3D9A",
    "coreset": "#7F7F7F",
    "deepfool": "#56B4E9",
    "bald": "#B2A100",
    "badge": "#009E73",
    "bmmal": "#CC79A7",
    "maxherding": "#6A3D9A",
    "uherding": "#56B4E9",
    "typiclust": "#E69F00",
    "tcm": "#8B4513",
    "probcover": "#7F7F7F",
    "dropquery": "#B2A100",
    "alfa-mix": "#009E73",
    "galaxy": "#CC79A7",
    "amcb-only": "#009E73",
    "efda-only": "#56B4E9",
    "no-diversity": "#E69F00",
    "greedy": "#000000",
    "uniform-draw": "#7F7F7F",
    "absolute": "#D55E00",
    "incremental": "#009E73",
    "relative": "#0072B2",
}

# No strategy has one of these colors.
_FUSED = "#2F3E46"
_MODALITIES = {"image": "#C9184A", "text": "#00798C", "audio": "#4F772D", "video": "#B5179E"}
_OTHER_MODALITIES = ("#5C4D7D", "#9A6324", "#1D3557", "#A44A3F", "#2A9D8F", "#7F4F24")


def strategy_colour(name: str) -> str | None:
    """The color of a known strategy; None for others."""
    return _STRATEGIES.get(name)


def other_colour(number: int) -> str:
    """The color of the strategy with this number, from 0, among those that are not known."""
    return COLOURS[number % len(COLOURS)]


def modality_colours(modalities: Sequence[str], fused: str = "multimodal") -> dict[str, str]:
    """The color of each modality, and of the fused head if its name is among them.

    "image", "text", "audio" and "video" always have the same colors; others have the next of a list.
    """
    fixed = {fused: _FUSED, **_MODALITIES}
    others = [m for m in modalities if m not in fixed]
    places = {m: _OTHER_MODALITIES[i % len(_OTHER_MODALITIES)] for i, m in enumerate(others)}
    return {m: fixed.get(m) or places[m] for m in modalities}
