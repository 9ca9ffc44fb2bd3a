"""The protocol between the loop and those who label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["Annotator"]


class Annotator(Protocol):
    """Takes a batch of sample ids and later gives their labels."""

    def request(self, ids: Sequence[str]) -> str:
        """Ask for labels; returns a ticket to collect them with."""
        ...

    def collect(self, ticket: str) -> Mapping[str, int]:
        """Labels by sample id: class indices 0..C-1."""
        ...
