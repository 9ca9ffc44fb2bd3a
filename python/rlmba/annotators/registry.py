"""Annotators by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlmba.annotators.base import Annotator
from rlmba.errors import UsageError

__all__ = ["create", "names"]

_CLASSES: Mapping[str, tuple[str, str]] = {
    "browser": ("browser", "Browser"),
    "file": ("file", "LabelFile"),
    "labelstudio": ("labelstudio", "LabelStudio"),
    "oracle": ("oracle", "Oracle"),
}


def names() -> tuple[str, ...]:
    """Names of all annotators, sorted."""
    return tuple(sorted(_CLASSES))


def create(name: str, folder: Path, options: Mapping[str, Any] | None = None) -> Annotator:
    """Make an annotator that keeps what lasts in ``folder``.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    folder : path
        The project's folder.
    options : mapping
        Its keyword-only parameters.

    Raises
    ------
    UsageError
        If the name or an option is unknown, or a value is wrong.
    """
    if name not in _CLASSES:
        raise UsageError(f"annotator: expected one of {list(names())}, got {name!r}")
    module, attribute = _CLASSES[name]
    cls = getattr(importlib.import_module(f"rlmba.annotators.{module}"), attribute)
    parameters = inspect.signature(cls).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise UsageError(
            f"annotator {name!r} has no option {unknown[0]!r}: expected "
            + (f"one of {known}" if known else "none at all")
        )
    made: Annotator = cls(folder, **(options or {}))
    return made
