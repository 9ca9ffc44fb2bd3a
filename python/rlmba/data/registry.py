"""Data sets by name: built in, registered, brought by an installed package, or ``module:Class``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from rlmba.data.base import MultimodalDataset
from rlmba.errors import PluginError, UsageError
from rlmba.plugins import PluginKind, blamed, check_option_names, options_of
from rlmba.reading.options import explained
from rlmba.storage import is_plain_name

__all__ = ["DatasetDescription", "Source", "describe", "load_dataset", "names", "register"]

Source: TypeAlias = Literal["none", "file", "folder", "folder or name"]
Loader: TypeAlias = Callable[..., MultimodalDataset]

_ARGUMENT = {"file": "data", "folder": "data_root", "folder or name": "data_root"}
_PLUGINS = PluginKind("data set", "rlmba.datasets", base=MultimodalDataset)


@dataclass(frozen=True)
class _Entry:
    """How a data set is loaded: ``argument`` is "data", "data_root" or "" for none."""

    loader: Loader
    argument: str
    required: bool


class DatasetDescription(NamedTuple):
    """What a list of data sets shows of one: ``flag`` is the flag that gives its place, "" for none."""

    flag: str
    summary: str


_REGISTRY: dict[str, _Entry] = {}


def register(name: str, loader: Loader, *, source: Source) -> None:
    """Make a data set known under a name in this process.

    Parameters
    ----------
    name : str
        A name that is not taken.
    loader : callable
        ``loader(**options)``, or ``loader(path, **options)`` for a source on disk. Its keyword-only
        parameters are the data set's options.
    source : {"none", "file", "folder", "folder or name"}
        What it is read from: nothing, ``data``, ``data_root``, or ``data_root`` if that is given.
        Without it the loader gets None as the path, and an option names the source.

    Raises
    ------
    UsageError
        If the name is taken.
    """
    if name in _REGISTRY:
        raise UsageError(f"data set {name!r} is registered already; choose another name")
    _REGISTRY[name] = _Entry(loader, _ARGUMENT.get(source, ""), source in ("file", "folder"))


def names() -> tuple[str, ...]:
    """Names of all data sets, sorted: registered ones first, then the entry points `rlmba.datasets`.

    A data set whose package cannot be loaded is among them; the other functions raise for its name.
    """
    registered = sorted(_REGISTRY)
    return (*registered, *_PLUGINS.installed(registered))


def describe(name: str) -> DatasetDescription:
    """How a data set's place is given, and one line on what it is.

    Raises
    ------
    UsageError
        If the name is unknown, or its class cannot be imported or constructed.
    """
    entry = _find(name)
    summary = (inspect.getdoc(entry.loader) or "").partition("\n")[0]
    return DatasetDescription(_flag(entry.argument), summary)


def load_dataset(
    name: str,
    *,
    data: str | Path | None = None,
    data_root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> MultimodalDataset:
    """Load a data set by name.

    Parameters
    ----------
    name : str
        One of :func:`names`, or ``module:Class``, a subclass of :class:`MultimodalDataset`, which is
        imported: a name that comes out of a folder's file needs the user's permission first
        (:mod:`rlmba.trust`).
    data : path, optional
        The file, for data sets that are read from one.
    data_root : path, optional
        The folder, for data sets that are read from one.
    options : mapping
        Options of that data set.

    Raises
    ------
    UsageError
        If the name or an option is unknown, or ``data`` or ``data_root`` is missing or not used.
    DataError
        If the data cannot be used.
    PluginError
        If a data set from elsewhere raises, or does not keep to :class:`MultimodalDataset`.
    """
    entry = _find(name)
    owner = f"data set {name!r}"
    given = {"data": data, "data_root": data_root}
    _check_source(entry, given, owner)
    loader, options = entry.loader, options or {}
    check_option_names(
        options_of(loader, but=given), options, owner, advice="give it as dataset_options.{}"
    )
    path = given.get(entry.argument)
    if not isinstance(loader, type):
        with explained(loader, options, owner):
            return loader(*([path] if entry.argument else []), **options)
    where = {} if path is None else {entry.argument: Path(path)}
    cls: Any = loader
    with blamed(cls, owner), explained(cls.__init__, options, owner):
        return _checked(cls(**where, **options), owner)


def _flag(argument: str) -> str:
    return argument and "--" + argument.replace("_", "-")


def _find(name: str) -> _Entry:
    if name in _REGISTRY:
        return _REGISTRY[name]
    cls = _PLUGINS.find(name, sorted(_REGISTRY))
    parameters = inspect.signature(cls).parameters
    places = [p for p in ("data", "data_root") if p in parameters]
    others = [
        p.name
        for p in parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.default is p.empty
        and p.name not in places
    ]
    if others or len(places) > 1:
        found = repr(others[0]) if others else "both data and data_root"
        raise UsageError(
            f"data set {name!r}: expected a class whose constructor takes data, data_root or neither, and "
            f"keyword-only options, found {found}"
        )
    argument = places[0] if places else ""
    required = bool(places) and parameters[argument].default is inspect.Parameter.empty
    return _Entry(cls, argument, required)


def _check_source(entry: _Entry, given: Mapping[str, Any], owner: str) -> None:
    """Raise unless the path that a data set reads is given, and no other."""
    for argument, value in given.items():
        if value is None and argument == entry.argument and entry.required:
            kind = "file" if argument == "data" else "folder"
            raise UsageError(
                f"{owner} is read from a {kind}: expected {argument}, got none; give it with "
                f"{_flag(argument)}"
            )
        if value is not None and argument != entry.argument:
            needs = f"reads {entry.argument}" if entry.argument else "needs no file"
            raise UsageError(
                f"{owner} {needs}, got {argument} {str(value)!r}; drop {_flag(argument)}"
            )


def _checked(dataset: MultimodalDataset, owner: str) -> MultimodalDataset:
    """Return a data set from elsewhere if its attributes and first sample keep to its base class."""

    def require(right: bool, expected: str) -> None:
        if not right:
            raise PluginError(f"{owner}: expected {expected}; correct its class")

    for attribute in MultimodalDataset.__annotations__:
        require(hasattr(dataset, attribute), f"the attribute {attribute!r}, found none")
    require(is_plain_name(dataset.name), f"a name without a path, found {dataset.name!r}")
    n, m = len(dataset.ids), len(dataset.modalities)
    require(len(set(dataset.ids)) == n > 0, "one distinct id or more")
    require(np.shape(dataset.labels) == (n,), f"{n} labels, found {np.shape(dataset.labels)}")
    if dataset.present is not None:
        shape = np.shape(dataset.present)
        require(shape == (n, m), f"present of the shape {(n, m)}, found {shape}")
    batch = dataset.batch(np.zeros(1, np.int64), train=False, generator=None)
    found = [(k, tuple(x.shape), str(x.dtype)) for k, x in batch.inputs.items()]
    said = [(k.name, (1, *k.shape), f"torch.{k.dtype}") for k in dataset.modalities]
    require(found == said, f"a batch of one sample to hold {said}, found {found}")
    return dataset
