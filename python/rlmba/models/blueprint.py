"""Rebuilding an encoder for a checkpoint's weights, without the weights that it started from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

__all__ = ["Blueprint", "blueprint_in_use", "rebuilding"]

Blueprint = Mapping[str, Any]
"""What an encoder took from published weights besides the weights themselves, as JSON values."""

_CURRENT: ContextVar[Blueprint | None] = ContextVar("rlmba_blueprint", default=None)


@contextlib.contextmanager
def rebuilding(blueprint: Blueprint | None) -> Iterator[None]:
    """Build encoders in the block from the result of :meth:`Encoder.blueprint`.

    Their weights are random, and the caller must load them; no file, cache or hub is read. None
    builds as configured. This is a context manager instead of an argument so that encoders of other
    packages need not change their constructors.
    """
    token = _CURRENT.set(blueprint)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def blueprint_in_use() -> Blueprint | None:
    """Return the blueprint for the encoder under construction; None means build as configured."""
    return _CURRENT.get()
