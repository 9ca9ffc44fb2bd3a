"""Packages whose names are imported when they are first used, so that importing them loads no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package that hands on names of its modules.

    No name may be that of a module of the package: whichever is imported first would hide the other.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    homes : mapping of str to sequence of str
        Names by the module that defines them.

    Examples
    --------
    >>> find = lazy_names("rlmba.errors", {"rlmba.errors": ["UsageError"]})
    >>> find("UsageError").__name__
    'UsageError'
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return find
