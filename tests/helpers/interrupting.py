"""An observer that ends a run, as a kill would, after a round."""

from __future__ import annotations


class Stopped(Exception):
    """The run was ended."""


class StopAfter:
    """Raises once round ``number`` is complete and on disk; None: any round."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number

    def features(self, done, total): ...
    def begin(self, config, done): ...
    def stage(self, number, name, done=0, total=0): ...

    def round(self, record):
        if self.number in (None, record.round):
            raise Stopped
