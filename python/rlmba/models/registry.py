"""Encoders by name.

An encoder is a ``torch.nn.Module`` that maps one modality's batch tensor [n, *shape] to [n,
``out_features``]. To add one, small or pretrained: write its class in a file of its own, with the
modality as its only positional argument and its options keyword-only, decorate it with
:func:`register_encoder`, and import the file in ``rlmba/models/__init__.py``. Weights are to be
loaded in its constructor, so that a missing file is an error before any work starts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from rlmba.data.base import Modality
from rlmba.errors import UsageError

__all__ = ["Encoder", "build_encoder", "encoder_names", "positive_ints", "register_encoder"]

AUTO = "auto"


class Encoder(nn.Module):
    """Base of encoders: a module with ``out_features``."""

    out_features: int

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch [n, *modality.shape] to [n, out_features]."""
        raise NotImplementedError


_E = TypeVar("_E", bound=type[Encoder])

_REGISTRY: dict[str, tuple[type[Encoder], frozenset[str]]] = {}
_DEFAULT: dict[str, str] = {}


def register_encoder(
    name: str, *, kinds: Sequence[str], default_for: Sequence[str] = ()
) -> Callable[[_E], _E]:
    """Class decorator: make an encoder known under ``name``.

    Parameters
    ----------
    name : str
        A name not taken.
    kinds : sequence of str
        Kinds of modality it can take.
    default_for : sequence of str
        Kinds for which "auto" chooses it.

    Raises
    ------
    UsageError
        If the name is taken.
    """
    if name in _REGISTRY or name == AUTO:
        raise UsageError(f"encoder {name!r} is registered already; choose another name")

    def add(cls: _E) -> _E:
        _REGISTRY[name] = (cls, frozenset(kinds))
        _DEFAULT.update(dict.fromkeys(default_for, name))
        return cls

    return add


def encoder_names(kind: str | None = None) -> tuple[str, ...]:
    """Names of the registered encoders, sorted: all, or those that take ``kind``."""
    return tuple(sorted(n for n, (_, kinds) in _REGISTRY.items() if kind is None or kind in kinds))


def build_encoder(
    name: str, modality: Modality, options: Mapping[str, Any] | None = None
) -> Encoder:
    """Make the encoder of a modality, its weights drawn from torch's global generator.

    Parameters
    ----------
    name : str
        One of :func:`encoder_names`, or "auto": the default for the modality's kind.
    modality : Modality
        What it will see.
    options : mapping
        Its options.

    Raises
    ------
    UsageError
        If the encoder or an option is unknown or out of range, or it cannot take this modality.
    """
    if name == AUTO:
        name = _DEFAULT[modality.kind]
    if name not in _REGISTRY:
        raise UsageError(
            f"encoder of {modality.name!r}: expected one of {[AUTO, *encoder_names()]}, "
            f"got {name!r}"
        )
    cls, kinds = _REGISTRY[name]
    if modality.kind not in kinds:
        raise UsageError(
            f"encoder {name!r} takes {sorted(kinds)}, but modality {modality.name!r} is "
            f"{modality.kind!r}; use one of {[AUTO, *encoder_names(modality.kind)]}"
        )
    parameters = inspect.signature(cls).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise UsageError(
            f"encoder {name!r} of {modality.name!r} has no option {unknown[0]!r}: "
            f"expected one of {known}"
        )
    return cls(modality, **(options or {}))


def positive_ints(value: Any, name: str, *, empty: bool = False) -> list[int]:
    """Check an option that is a list of integers of at least 1, and return it as a list.

    Raises
    ------
    UsageError
        If it is not.
    """
    right = isinstance(value, list | tuple) and all(
        isinstance(i, int) and not isinstance(i, bool) and i >= 1 for i in value
    )
    if not right or not (value or empty):
        raise UsageError(f"encoder option {name}: expected a list of integers >= 1, got {value!r}")
    return list(value)
