"""Annotators by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlmba.annotators.base import Annotator
from rlmba.annotators.checked import CheckedAnnotator
from rlmba.annotators.loopback import is_loopback
from rlmba.errors import UsageError
from rlmba.plugins import blamed, is_target, load_class
from rlmba.reading.options import check_types
from rlmba.trust import outside

__all__ = ["acts", "create", "names"]

_CLASSES: Mapping[str, str] = {
    "browser": "rlmba.annotators.browser:Browser",
    "file": "rlmba.annotators.file:LabelFile",
    "labelstudio": "rlmba.annotators.labelstudio:LabelStudio",
    "oracle": "rlmba.annotators.oracle:Oracle",
}

_SERVER, _KEY = "http://localhost:8080", "LABEL_STUDIO_API_KEY"
"""The default address of Label Studio, and the environment variable with its key."""


def names() -> tuple[str, ...]:
    """The names of all built-in annotators, sorted."""
    return tuple(sorted(_CLASSES))


def create(name: str, folder: Path, options: Mapping[str, Any] | None = None) -> Annotator:
    """Create an annotator that keeps its files in ``folder``.

    Parameters
    ----------
    name : str
        One of :func:`names`, or the "module:Class" of another class, which is imported. If the name comes
        from a file, the user must allow it first; see :func:`acts`.
    folder : path
        The project's folder.
    options : mapping
        The annotator's keyword-only parameters.

    Raises
    ------
    UsageError
        If the name or an option is unknown, an option is missing, or a value is invalid.
    PluginError
        If the constructor of another class raises.
    """
    cls = _find(name)
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    known = [p.name for p in parameters]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise UsageError(
            f"annotator {name!r} has no option {unknown[0]!r}: expected "
            + (f"one of {known}" if known else "no options")
        )
    lacking = [p.name for p in parameters if p.default is p.empty and p.name not in (options or {})]
    if lacking:
        raise UsageError(
            f"annotator {name!r} needs the option {lacking[0]!r}; give it with "
            f"`rlmba init DIR --annotator-option {lacking[0]}=...`, or as project.annotator_options."
            f"{lacking[0]} in the project's config.yaml"
        )
    if name in _CLASSES:
        check_types(cls.__init__, options or {}, f"annotator {name!r}")
        made: Annotator = cls(folder, **(options or {}))
        return made
    with blamed(cls, f"annotator {name!r}"):
        return CheckedAnnotator(cls(folder, **(options or {})), name)


def acts(name: str, folder: Path, options: Mapping[str, Any] | None = None) -> list[str]:
    """What an annotator does outside its folder. The user must allow it if a file asks for it.

    Parameters
    ----------
    name, folder, options
        As for :func:`create`.

    Returns
    -------
    list of str
        As stored by :mod:`rlmba.trust`.

    Examples
    --------
    >>> acts("my_labels:Longest", Path("p")), acts("file", Path("p"), {"path": "/etc/labels.csv"})
    (['run my_labels:Longest'], ["write the file '/etc/labels.csv'"])
    >>> acts("file", Path("p"), {"path": "labels.csv"}), acts("browser", Path("p"), {"host": "::1"})
    ([], [])
    """
    given = dict(options or {})
    if is_target(name):
        return [f"run {name}"]
    if name == "file" and given.get("path") is not None:
        place = outside(folder, str(given["path"]))
        return [] if place is None else [f"write the file {place!r}"]
    if name == "browser" and not is_loopback(host := str(given.get("host", "127.0.0.1"))):
        return [f"serve the labeling page to other machines, on {host!r}"]
    if name == "labelstudio":
        url = given.get("url", _SERVER)
        key = given.get("key_file") or f"${given.get('key_variable', _KEY)}"
        if url and (url, key) != (_SERVER, f"${_KEY}"):
            return [f"send questions and the key in {str(key)!r} to {str(url)!r}"]
    return []


def _find(name: str) -> Any:
    if name in _CLASSES:
        module, _, attribute = _CLASSES[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    if ":" not in name:
        raise UsageError(
            f'annotator: expected one of {list(names())}, or "module:Class", got {name!r}'
        )
    return load_class(name, kind="annotator", methods=("request", "collect"))
