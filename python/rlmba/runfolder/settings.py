"""What a run folder says about itself: ``run.json``, and the configuration in ``config.yaml``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from rlmba.config import RunConfig, with_earlier_options, yaml12
from rlmba.errors import RunFolderError
from rlmba.reading.structured import read_versioned, said

__all__ = ["FORMAT", "PATH_KEYS", "RESTORE", "read_config", "read_info"]

FORMAT = 1
"""The format of run folders that this version writes and reads."""

RESTORE = "restore it or start a new run"
"""What to do about a damaged file of a run folder."""

PATH_KEYS = ("data", "data_root", "initial_ids")
"""Keys of the configuration that hold the paths of a run's data."""

_EXPECTED = "give a folder made by `rlmba run` or `rlmba init`"


class _Info(BaseModel, extra="allow"):
    """The keys of ``run.json`` that readers use."""

    format: int
    rlmba: str = ""
    project: bool = False
    fingerprint: str = ""
    folder: str = ""


def read_info(path: Path) -> Mapping[str, Any]:
    """Read the ``run.json`` of a run folder.

    Raises
    ------
    RunFolderError
        If the folder is not a run folder, or ``run.json`` is damaged or has another format.
    """
    if not path.is_dir():
        raise RunFolderError(f"{path}: expected a run folder, found none; {_EXPECTED}")
    if not (path / "run.json").is_file():
        raise RunFolderError(f"{path} has no run.json: it is not a run folder; {_EXPECTED}")
    info = read_versioned(
        path / "run.json",
        _Info,
        FORMAT,
        what="run folder",
        advice=RESTORE,
        foreign=_EXPECTED,
        error=RunFolderError,
    )
    return info.model_dump(exclude_unset=True)


def read_config(path: Path) -> RunConfig:
    """Read the ``config.yaml`` of a run folder, or of a project's folder.

    Options of earlier versions are translated. If the folder was moved, paths of data that were moved
    along with it are those of the new place.

    Raises
    ------
    RunFolderError
        If the folder is not a run folder, or one of its two files is missing or damaged.
    """
    info = read_info(path)
    file = path / "config.yaml"
    try:
        values = yaml12.read(file, regular=True)
        if isinstance(values, dict):
            values = with_earlier_options(values)
        config = RunConfig.model_validate(values)
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{file} is missing or damaged ({_reason(error)}); {RESTORE}"
        ) from error
    return _relocated(config, info.get("folder", ""), path)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return said(error)
    return getattr(error, "strerror", None) or str(error)


def _relocated(config: RunConfig, before: str, path: Path) -> RunConfig:
    """Adjust the paths of files that were moved along with the folder, which was at ``before``."""
    here = path.absolute()
    if before in ("", str(here)):
        return config

    def along(place: Path, *, gone: bool) -> Path:
        moved = Path(os.path.normpath(here / os.path.relpath(place, before)))
        stays = not place.is_absolute() or (gone and place.exists()) or not moved.exists()
        return place if stays else moved

    # Baseline curves were copied along with the comparison: prefer the copy even if the original exists.
    curves = [along(p, gone=False) for p in config.reward.curves]
    update: dict[str, Any] = {
        key: along(place, gone=True)
        for key in PATH_KEYS
        if (place := getattr(config, key)) is not None
    }
    update["reward"] = config.reward.model_copy(update={"curves": curves})
    options = dict(config.strategy_options)
    if isinstance(policy := options.get("policy_file"), str):
        options["policy_file"] = str(along(Path(policy), gone=True))
    return config.model_copy(update={**update, "strategy_options": options})
