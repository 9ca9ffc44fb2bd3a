"""Lazy imports: a package imports a name when it is first used, so that importing it loads no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package that imports names from its modules when they are first used.

    No name may equal that of a module of the package, because importing the module would hide the name.

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
