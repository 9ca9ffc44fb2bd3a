"""Classes of users and of other packages: found by name, and checked before any of their code is called.

Strategies, encoders, data sets and annotators are found alike (:class:`PluginKind`): by a name that
this package knows, by the name under which an installed package registers its class as an entry
point, or by ``module:Class``.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

__all__ = [
    "PluginKind",
    "blamed",
    "check_option_names",
    "fault_of",
    "is_target",
    "load_class",
    "nearest",
    "options_of",
    "origin",
    "registered",
    "short_name",
]

_PATH = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET = re.compile(rf"({_PATH})\s*:\s*({_PATH})(?:\s*\[[^\]]*\])?")
_LOADED: set[str] = set()
"""Names of the modules whose classes were loaded."""


def is_target(name: str) -> bool:
    """Tell whether a name has the form ``module:Class``.

    Examples
    --------
    >>> is_target("my_package.labels:Longest"), is_target("browser"), is_target("../x:y")
    (True, False, False)
    """
    return _TARGET.fullmatch(name) is not None


def short_name(name: str) -> str:
    """Return the class name of a ``module:Class``, for folders and tables, and any other name unchanged.

    Examples
    --------
    >>> short_name("my_package.labels:Longest"), short_name("rlmba-x")
    ('Longest', 'rlmba-x')
    """
    return name.rpartition(":")[2].strip() if is_target(name) else name


@dataclass(frozen=True)
class PluginKind:
    """A kind of class that users and other packages can add.

    Parameters
    ----------
    noun : str
        What messages call one of them ("strategy").
    group : str
        The entry point group under which packages register them ("rlmba.strategies").
    base : type or None
        The class they must derive from.
    methods : sequence of str
        Methods they must have.
    """

    noun: str
    group: str
    base: type | None = None
    methods: tuple[str, ...] = ()

    def installed(self, built_in: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the names that installed packages register, sorted, without those in ``built_in``.

        Nothing is imported, so a package that cannot be loaded is among them.
        """
        return tuple(sorted({*registered(self.group)} - {*built_in}))

    def find(self, name: str, built_in: Sequence[str] = ()) -> type[Any]:
        """Import the class of a name that is not built in.

        Parameters
        ----------
        name : str
            The name of an entry point, or ``module:Class``.
        built_in : sequence of str
            The names that this package knows, for the message.

        Raises
        ------
        UsageError
            If nothing has that name, importing it raises, or it is a class of another kind.
        """
        point = registered(self.group).get(name)
        if point is None and ":" not in name:
            known = [*built_in, *self.installed(built_in)]
            raise UsageError(
                f"unknown {self.noun} {name!r}: expected one of {', '.join(known)} (those built in and the "
                f"entry points {self.group!r} of installed packages), or module:Class{nearest(name, known)}"
            )
        target, package = name, ""
        if point is not None:
            target, package = point.value.strip(), point.dist.name if point.dist else ""
        return load_class(
            target, kind=self.noun, methods=self.methods, base=self.base, package=package
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests the known name closest to ``name``; "" without one.

    Examples
    --------
    >>> nearest("rlmab", ["rlmba", "random"]), nearest("x", ["rlmba"])
    ("; did you mean 'rlmba'?", '')
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def options_of(function: Callable[..., Any], *, but: Iterable[str] = ()) -> dict[str, bool]:
    """Return the keyword-only parameters of a function or class, and whether each is required.

    Parameters
    ----------
    function : callable
    but : iterable of str
        Parameters that are no options.
    """
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.default is p.empty
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in but
    }


def check_option_names(
    known: Mapping[str, bool], given: Iterable[str], owner: str, advice: str = "give it a value"
) -> None:
    """Raise unless the options given are known and the required ones are among them.

    Parameters
    ----------
    known : mapping of str to bool
        As :func:`options_of` returns it.
    given : iterable of str
    owner : str
        Whose options they are, as the message says it ("data set 'manifest'").
    advice : str
        How to give an option ``{}`` that is missing.

    Raises
    ------
    UsageError
    """
    given = list(given)
    if unknown := sorted(set(given) - set(known)):
        expected = f"expected one of {list(known)}" if known else "expected none at all"
        raise UsageError(
            f"{owner} has no option {unknown[0]!r}: {expected}{nearest(unknown[0], known)}"
        )
    if lacking := [name for name, required in known.items() if required and name not in given]:
        raise UsageError(f"{owner} needs the option {lacking[0]!r}; {advice.format(lacking[0])}")


def registered(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group in all installed packages, by name; nothing is imported.

    A package whose list of entry points is damaged is left out with a warning. (The standard
    library's function would raise, and so hide all packages.)
    """
    found: dict[str, EntryPoint] = {}
    for package in distributions():
        for point in _points(package, group):
            found.setdefault(point.name, point)
    return found


def _points(package: Distribution, group: str) -> Iterable[EntryPoint]:
    try:
        return package.entry_points.select(group=group)
    except Exception as error:  # the exception type depends on Python's version
        warnings.warn(
            f"the package at {getattr(package, '_path', package)} is left out, because its entry points "
            f"cannot be read ({error}); reinstall it",
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
    """Import a class without calling any of its code, not even a metaclass or a property.

    Parameters
    ----------
    target : str
        "module:Class".
    kind : str
        What messages call such a class ("annotator").
    methods : sequence of str
        Methods it must have.
    base : type or None
        The class it must derive from.
    package : str
        The installed package that registered it; "" where a user named it.

    Raises
    ------
    UsageError
        If there is no such module or class, importing raises, or it is a class of another kind.
    """
    by = f" of the package {package!r}" if package else ""
    named = f"{kind} {target!r}{by}"
    match = _TARGET.fullmatch(target)
    if match is None:
        raise UsageError(f"{named}: expected a class, written as module:Class")
    found = _import(match[1], match[2], named)
    wanted = _wanted(methods, base)
    if not inspect.isclass(found):
        raise UsageError(
            f"{named}: expected a class{wanted}, found an object of the type {type(found).__name__}"
        )
    missing = [
        name for name in methods if not _is_method(inspect.getattr_static(found, name, None))
    ]
    if missing or (base is not None and not issubclass(found, base)):
        lacking = f"without {missing[0]}" if missing else "that is derived from something else"
        raise UsageError(f"{named}: expected a class{wanted}, found one {lacking}")
    _LOADED.add(found.__module__)
    return found


def _import(module: str, path: str, named: str) -> Any:
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
            f"{named}: importing the module {module} raised {_line(error)}; repair it or uninstall its "
            "package"
        ) from error
    try:
        return functools.reduce(getattr, path.split("."), found)
    except Exception as error:  # a module may define __getattr__
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
    """Return where a class comes from, for messages; "" for this package's own classes."""
    return _origin(cls.__module__)


def fault_of(error: BaseException) -> str:
    """Return where the code comes from that raised, if a class of :func:`load_class` did; "" if not.

    Of the calls on the way to the exception, the last one of this package or of such a class decides.
    """
    names = [str(f.f_globals.get("__name__")) for f, _ in traceback.walk_tb(error.__traceback__)]
    ours = [n for n in names if n in _LOADED or n.partition(".")[0] == "rlmba"]
    return _origin(ours[-1]) if ours else ""


def _origin(module: str) -> str:
    top = module.partition(".")[0]
    if top == "rlmba":
        return ""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    for package in packages_distributions().get(top, ()):
        # Several packages may install a folder of the same name, such as "tests".
        if Path(file).is_relative_to(str(distribution(package).locate_file(""))):
            return f"the package {package!r}"
    return f"the module {module!r}"


@contextlib.contextmanager
def blamed(cls: type, what: str) -> Iterator[None]:
    """Report an exception raised in the block as the fault of the package that a class comes from.

    Parameters
    ----------
    cls : type
        The class whose code runs. Exceptions of this package's own classes pass unchanged.
    what : str
        What the class is and was asked to do ("strategy 'x'").

    Raises
    ------
    PluginError
        Instead of any exception but those of :mod:`rlmba.errors` and a lack of memory.
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
            f"{what}, from {whose}, raised {_line(error)}; the fault is in that code: the same command with "
            "--debug shows where"
        ) from error
