"""Annotators by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlmba.annotators.base import Annotator
from rlmba.annotators.checked import CheckedAnnotator
from rlmba.annotators.loopback import is_loopback
from rlmba.plugins import PluginKind, blamed, check_option_names, is_target, load_class, options_of
from rlmba.reading.options import check_types
from rlmba.trust import outside

__all__ = ["BUILT_IN", "acts", "create", "names"]

_CLASSES: Mapping[str, str] = {
    "browser": "rlmba.annotators.browser:Browser",
    "file": "rlmba.annotators.file:LabelFile",
    "labelstudio": "rlmba.annotators.labelstudio:LabelStudio",
    "oracle": "rlmba.annotators.oracle:Oracle",
}

BUILT_IN = tuple(_CLASSES)
"""Names of the annotators that come with this package."""
_PLUGINS = PluginKind("annotator", "rlmba.annotators", methods=("request", "collect"))

_SERVER, _KEY = "http://localhost:8080", "LABEL_STUDIO_API_KEY"
"""The default address of Label Studio, and the environment variable with its key."""


def names() -> tuple[str, ...]:
    """Names of all annotators: first the built-in ones, then those of the entry points `rlmba.annotators`.

    An annotator whose package cannot be loaded is among them; :func:`create` raises for its name.
    """
    return (*BUILT_IN, *_PLUGINS.installed(BUILT_IN))


def create(name: str, folder: Path, options: Mapping[str, Any] | None = None) -> Annotator:
    """Create an annotator that keeps its files in ``folder``.

    Parameters
    ----------
    name : str
        One of :func:`names`, or ``module:Class``, which is imported: a name that comes out of a folder's
        file needs the user's permission first, see :func:`acts`.
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
    owner = f"annotator {name!r}"
    check_option_names(
        options_of(cls),
        options or {},
        owner,
        advice="give it with `rlmba init DIR --annotator-option {0}=...`, or as "
        "project.annotator_options.{0} in the project's config.yaml",
    )
    if name in _CLASSES:
        check_types(cls.__init__, options or {}, owner)
        made: Annotator = cls(folder, **(options or {}))
        return made
    with blamed(cls, owner):
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
    if name not in _CLASSES and (is_target(name) or name in _PLUGINS.installed()):
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
        return load_class(_CLASSES[name], kind="annotator")
    return _PLUGINS.find(name, BUILT_IN)
