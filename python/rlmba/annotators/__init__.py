"""Who answers a query: one small protocol, and those who speak it."""

from __future__ import annotations

from rlmba.annotators.answers import read_labels
from rlmba.annotators.base import Annotator
from rlmba.annotators.registry import BUILT_IN, acts, create, names
from rlmba.runfolder.batches import LabelBatch, Pending, Question, Tickets

__all__ = [
    "BUILT_IN",
    "Annotator",
    "LabelBatch",
    "Pending",
    "Question",
    "Tickets",
    "acts",
    "create",
    "names",
    "read_labels",
]
