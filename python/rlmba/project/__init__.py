"""Active learning with people: a folder that labels come into, round after round."""

from __future__ import annotations

from rlmba.project.asking import Asking, ask
from rlmba.project.folder import Project, opened, read
from rlmba.project.looping import Watcher, loop
from rlmba.project.starting import Started, overrides, start
from rlmba.project.status import Status, status
from rlmba.project.taking import Taking, collect, take

__all__ = [
    "Asking",
    "Project",
    "Started",
    "Status",
    "Taking",
    "Watcher",
    "ask",
    "collect",
    "loop",
    "opened",
    "overrides",
    "read",
    "start",
    "status",
    "take",
]
