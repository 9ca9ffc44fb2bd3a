"""Building an encoder anew for weights that a checkpoint holds, without those it once started from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

__all__ = ["Blueprint", "blueprint_in_use", "rebuilding"]

Blueprint = Mapping[str, Any]
"""What an encoder took from published weights beside the weights, as JSON holds it."""

_CURRENT: ContextVar[Blueprint | None] = ContextVar("rlmba_blueprint", default=None)


@contextlib.contextmanager
def rebuilding(blueprint: Blueprint | None) -> Iterator[None]:
    """A block in which an encoder is built by what :meth:`Encoder.blueprint` once said.

    Its weights are then random, to be loaded by the caller; no file, cache or hub is asked. None
    builds as usual. A context rather than an argument, so that encoders of other packages keep the
    constructors they have.
    """
    token = _CURRENT.set(blueprint)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def blueprint_in_use() -> Blueprint | None:
    """The blueprint that an encoder under construction is to follow; None: build as configured."""
    return _CURRENT.get()
