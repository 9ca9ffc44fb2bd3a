"""Data sets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rlmba.data.base import MultimodalDataset
from rlmba.errors import UsageError
from rlmba.reading.options import explained

__all__ = ["Source", "describe", "load_dataset", "names", "register"]

Source: TypeAlias = Literal["none", "file", "folder", "folder or name"]
Loader: TypeAlias = Callable[..., MultimodalDataset]

_ARGUMENT = {"file": "data", "folder": "data_root", "folder or name": "data_root"}


@dataclass(frozen=True)
class _Entry:
    loader: Loader
    source: Source


_REGISTRY: dict[str, _Entry] = {}


def register(name: str, loader: Loader, *, source: Source) -> None:
    """Make a data set known.

    Parameters
    ----------
    name : str
        A name not taken.
    loader : callable
        ``loader(**options)``, or ``loader(path, **options)`` for a source on disk. Its keyword-only
        parameters are the data set's options.
    source : {"none", "file", "folder", "folder or name"}
        What it is read from: nothing, ``data``, ``data_root``, or ``data_root`` if it is given: the
        loader then gets None in its place, and an option names the source.

    Raises
    ------
    UsageError
        If the name is taken.
    """
    if name in _REGISTRY:
        raise UsageError(f"data set {name!r} is registered already; choose another name")
    _REGISTRY[name] = _Entry(loader, source)


def names() -> tuple[str, ...]:
    """Names of all registered data sets, sorted."""
    return tuple(sorted(_REGISTRY))


def describe() -> list[tuple[str, str, str]]:
    """Name, the flag that says where it is ("" for none), and a line on each data set, sorted."""
    lines = []
    for name in names():
        entry = _REGISTRY[name]
        argument = _ARGUMENT.get(entry.source, "")
        summary = (inspect.getdoc(entry.loader) or "").partition("\n")[0]
        lines.append((name, argument and "--" + argument.replace("_", "-"), summary))
    return lines


def load_dataset(
    name: str,
    *,
    data: str | Path | None = None,
    data_root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> MultimodalDataset:
    """Load a registered data set.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    data : path, optional
        The file, for data sets that are one.
    data_root : path, optional
        The folder, for data sets that are one.
    options : mapping
        Options of that data set.

    Raises
    ------
    UsageError
        If the name or an option is unknown, or ``data`` or ``data_root`` is missing or needless.
    DataError
        If the data cannot be used.
    """
    entry = _REGISTRY.get(name)
    if entry is None:
        raise UsageError(f"dataset: expected one of {list(names())}, got {name!r}")
    given = {"data": data, "data_root": data_root}
    wanted = _ARGUMENT.get(entry.source)
    for argument, value in given.items():
        flag = "--" + argument.replace("_", "-")
        if value is None and argument == wanted and entry.source != "folder or name":
            raise UsageError(
                f"data set {name!r} is read from a {entry.source}: expected {argument}, got none; "
                f"give it with {flag}"
            )
        if value is not None and argument != wanted:
            needs = f"reads {wanted}" if wanted else "needs no file"
            raise UsageError(
                f"data set {name!r} {needs}, got {argument} {str(value)!r}; drop {flag}"
            )
    parameters = inspect.signature(entry.loader).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise UsageError(
            f"data set {name!r} has no option {unknown[0]!r}: expected "
            + (f"one of {known}" if known else "none at all")
        )
    sources = [given[wanted]] if wanted else []
    with explained(entry.loader, options or {}, f"data set {name!r}"):
        return entry.loader(*sources, **(options or {}))
