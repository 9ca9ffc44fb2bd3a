"""What a project's configuration tells its annotators: a name, instructions, descriptions of classes."""

from __future__ import annotations

from pathlib import Path

from rlmba.config.schema import ProjectConfig
from rlmba.errors import RunFolderError
from rlmba.runfolder.settings import read_config

__all__ = ["guidance"]


def guidance(folder: Path) -> ProjectConfig:
    """The project's settings, with its name; defaults if its configuration cannot be read."""
    try:
        project = read_config(folder).project
    except RunFolderError:  # every command of the project reports it
        project = ProjectConfig()
    return project.model_copy(update={"name": project.name or folder.resolve().name})
