"""Annotators, who answer for labels: one small protocol and its implementations."""

from __future__ import annotations

from rlmba.annotators.base import Annotator
from rlmba.annotators.label_table import read_labels
from rlmba.annotators.registry import BUILT_IN, acts, create, names
from rlmba.runfolder.batches import LabelBatch, Question, Tickets

__all__ = [
    "BUILT_IN",
    "Annotator",
    "LabelBatch",
    "Question",
    "Tickets",
    "acts",
    "create",
    "names",
    "read_labels",
]
