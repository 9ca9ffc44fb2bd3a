"""Active learning with people: a folder that labels come into, round after round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlmba.lazy import lazy_names

if TYPE_CHECKING:
    from rlmba.project.answers import CollectedLabels, collect, collect_answers
    from rlmba.project.folder import Project, open_project, read_project
    from rlmba.project.query import Query, ask
    from rlmba.project.rounds import Watcher, loop
    from rlmba.project.starting import Started, overrides, start
    from rlmba.project.state import Status, status

__all__ = [
    "CollectedLabels",
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

__getattr__ = lazy_names(
    __name__,
    {
        "rlmba.project.answers": ("CollectedLabels", "collect", "collect_answers"),
        "rlmba.project.folder": ("Project", "open_project", "read_project"),
        "rlmba.project.query": ("Query", "ask"),
        "rlmba.project.rounds": ("Watcher", "loop"),
        "rlmba.project.starting": ("Started", "overrides", "start"),
        "rlmba.project.state": ("Status", "status"),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
