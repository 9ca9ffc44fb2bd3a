"""Classes of other packages and of users: found by name, checked before anything of them runs."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import (
    Distribution,
    EntryPoint,
    distribution,
    distributions,
    packages_distributions,
)
from pathlib import Path
from typing import Any

from rlmba.errors import PluginError, RlmbaError, RlmbaWarning, UsageError

__all__ = ["blamed", "is_target", "load_class", "origin", "registered"]

_PATH = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET = re.compile(rf"({_PATH})\s*:\s*({_PATH})(?:\s*\[[^\]]*\])?")


def is_target(name: str) -> bool:
    """Whether a name has the form ``module:Class``.

    Examples
    --------
    >>> is_target("my_package.labels:Longest"), is_target("browser"), is_target("../x:y")
    (True, False, False)
    """
    return _TARGET.fullmatch(name) is not None


def registered(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group in all installed packages, by name; nothing is imported.

    A package whose list of them is damaged is left out with a warning, where the function of the
    standard library would raise for all packages.
    """
    found: dict[str, EntryPoint] = {}
    for package in distributions():
        for point in _points(package, group):
            found.setdefault(point.name, point)
    return found


def _points(package: Distribution, group: str) -> Iterable[EntryPoint]:
    try:
        return package.entry_points.select(group=group)
    except Exception as error:  # of the reader of its files, which differs by version
        warnings.warn(
            f"the package at {getattr(package, '_path', package)} is left out, because its entry points "
            f"cannot be read ({error}); install it again",
            RlmbaWarning,
            stacklevel=4,
        )
        return ()


def load_class(
    target: str,
    *,
    kind: str,
    methods: Sequence[str] = (),
    base: type | None = None,
    package: str = "",
) -> type[Any]:
    """Import a class. Nothing of it is called: not its metaclass, not a property.

    Parameters
    ----------
    target : str
        "module:Class".
    kind : str
        What it is wanted for, as errors say it ("annotator").
    methods : sequence of str
        What it must have.
    base : type or None
        What it must be derived from.
    package : str
        The installed package that registered it; "" where a user named it.

    Raises
    ------
    UsageError
        If there is no such module or class, importing raises, or the class is not of that kind.
    """
    by = f" of the package {package!r}" if package else ""
    named = f"{kind} {target!r}{by}"
    match = _TARGET.fullmatch(target)
    if match is None:
        raise UsageError(f"{named}: expected a class, written as module:Class")
    found = _found(match[1], match[2], named)
    wanted = _wanted(methods, base)
    if not inspect.isclass(found):
        raise UsageError(
            f"{named}: expected a class{wanted}, found an object of the type {type(found).__name__}"
        )
    missing = [
        name for name in methods if not _is_method(inspect.getattr_static(found, name, None))
    ]
    if missing or (base is not None and not issubclass(found, base)):
        lacking = (
            f"one without {missing[0]}" if missing else "one that is derived from something else"
        )
        raise UsageError(f"{named}: expected a class{wanted}, found {lacking}")
    return found


def _found(module: str, path: str, named: str) -> Any:
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{named}: expected a class in a module that can be imported, found no module {error.name!r}; "
            "install the package, or put the module's folder on PYTHONPATH (the current folder is not "
            "searched)"
        ) from error
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{named}: importing the module {module} raised {_line(error)}; repair or uninstall it"
        ) from error
    try:
        return functools.reduce(getattr, path.split("."), found)
    except Exception as error:  # a module may have a __getattr__ of its own
        raise UsageError(
            f"{named}: expected a class in a module that can be imported, found none: {error}"
        ) from error


def _wanted(methods: Sequence[str], base: type | None) -> str:
    derived = f" derived from {base.__module__.rpartition('.')[0]}.{base.__name__}" if base else ""
    return derived + (f" with the methods {' and '.join(methods)}" if methods else "")


def _is_method(found: object) -> bool:
    return callable(found) or isinstance(found, classmethod | staticmethod)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def origin(cls: type) -> str:
    """Where a class comes from, as errors say it; "" where it is this package's own."""
    top = cls.__module__.partition(".")[0]
    if top == "rlmba":
        return ""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
    for package in packages_distributions().get(top, ()):
        # A package that only has a folder of that name is another one: many bring a folder "tests".
        if Path(file).is_relative_to(str(distribution(package).locate_file(""))):
            return f"the package {package!r}"
    return f"the module {cls.__module__!r}"


@contextlib.contextmanager
def blamed(cls: type, what: str) -> Iterator[None]:
    """Say of any exception within that it is not this package's but that of a class's origin.

    Parameters
    ----------
    cls : type
        Whose code runs. Exceptions of this package's own classes pass unchanged.
    what : str
        What the class is and was asked for ("strategy 'x'").

    Raises
    ------
    PluginError
        In the place of any exception but those of :mod:`rlmba.errors` and lack of memory.
    """
    try:
        yield
    except (RlmbaError, MemoryError):
        raise
    except Exception as error:
        whose = origin(cls)
        if not whose:
            raise
        raise PluginError(
            f"{what}, from {whose}, raised {_line(error)}; the fault is there: the same command with "
            "--debug shows where"
        ) from error
