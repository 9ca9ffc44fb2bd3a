"""Active learning with people: a folder that labels come into, round after round."""

from __future__ import annotations

from rlmba.project.collect import Collected, collect, collect_answers
from rlmba.project.folder import Project, open_project, read_project
from rlmba.project.loop import Watcher, loop
from rlmba.project.query import Query, ask
from rlmba.project.starting import Started, overrides, start
from rlmba.project.status import Status, status

__all__ = [
    "Collected",
    "Project",
    "Query",
    "Started",
    "Status",
    "Watcher",
    "ask",
    "collect",
    "collect_answers",
    "loop",
    "open_project",
    "overrides",
    "read_project",
    "start",
    "status",
]
