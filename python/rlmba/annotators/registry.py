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
        One of :func:`names`, or "module:Class" of your own.
    folder : path
        The project's folder.
    options : mapping
        Its keyword-only parameters.

    Raises
    ------
    UsageError
        If the name or an option is unknown, one is lacking, or a value is wrong.
    """
    cls = _find(name)
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    known = [p.name for p in parameters]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise UsageError(
            f"annotator {name!r} has no option {unknown[0]!r}: expected "
            + (f"one of {known}" if known else "none at all")
        )
    lacking = [p.name for p in parameters if p.default is p.empty and p.name not in (options or {})]
    if lacking:
        raise UsageError(
            f"annotator {name!r} needs the option {lacking[0]!r}; give it with "
            f"`rlmba init DIR --annotator-option {lacking[0]}=...`, or as project.annotator_options."
            f"{lacking[0]} in the project's config.yaml"
        )
    made: Annotator = cls(folder, **(options or {}))
    return made


def _find(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if name in _CLASSES:
        module, attribute = _CLASSES[name]
        module = f"rlmba.annotators.{module}"
    elif not colon:
        raise UsageError(
            f'annotator: expected one of {list(names())}, or "module:Class", got {name!r}'
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        if name in _CLASSES:
            raise
        raise UsageError(
            f"annotator {name!r}: expected a class in a module that can be imported: {error}"
        ) from error
