"""How long a selection takes: synthetic outputs of the paper's sizes, and their times as a table."""

from __future__ import annotations

from rlmba.experiments.selection_times.made_pools import (
    FOOD101,
    PoolSize,
    SelectionCase,
    make_case,
)
from rlmba.experiments.selection_times.timing import (
    SelectionTime,
    SelectionTimes,
    sizes,
    time_case,
    time_selection,
    time_selections,
)

__all__ = [
    "FOOD101",
    "PoolSize",
    "SelectionCase",
    "SelectionTime",
    "SelectionTimes",
    "make_case",
    "sizes",
    "time_case",
    "time_selection",
    "time_selections",
]
