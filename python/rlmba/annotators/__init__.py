"""Who answers a query: one small protocol, and the oracle of experiments."""

from __future__ import annotations

from rlmba.annotators.base import Annotator
from rlmba.annotators.oracle import Oracle

__all__ = ["Annotator", "Oracle"]
