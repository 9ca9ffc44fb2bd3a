"""Encoders by name.

An encoder is a ``torch.nn.Module`` that maps one modality's batch tensor ``[n, *shape]`` to
``[n, out_features]``. To add one, small or pretrained: write its class in a file of its own, with the
modality as its only positional argument and its options keyword-only, decorate it with
:func:`register_encoder`, and import the file in ``rlmba/models/__init__.py``. Weights are to be
loaded in its constructor, so that a missing file is an error before any work starts. A library of
networks is a family: one class, decorated with :func:`register_family`, for ``<prefix>:<name>``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from rlmba.data.base import KINDS, Modality
from rlmba.errors import UsageError
from rlmba.models.blueprint import Blueprint, rebuilding
from rlmba.reading.options import explained

__all__ = [
    "Description",
    "Encoder",
    "build_encoder",
    "describe_encoders",
    "encoder_names",
    "flag",
    "positive_ints",
    "register_encoder",
    "register_family",
]

AUTO = "auto"


class Encoder(nn.Module):
    """Base of encoders.

    Attributes
    ----------
    out_features : int
        Width of what :meth:`forward` returns.
    memory_format : torch.memory_format or None
        The layout its weights have and its input is brought to, for encoders that are faster in one;
        None where that makes no difference.
    stackable : bool
        Whether several of one shape may be trained as one, their parameters stacked: small, made of
        what ``torch.func.vmap`` takes, drawing nothing, no buffers that training changes.
    """

    stackable: ClassVar[bool] = False
    out_features: int
    memory_format: torch.memory_format | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch ``[n, *modality.shape]`` to ``[n, out_features]``."""
        raise NotImplementedError

    def blueprint(self) -> Blueprint:
        """What it took from published weights beside the weights; JSON can hold it.

        With modality, name and options it is all that :func:`build_encoder` needs to build the
        encoder again without them. An encoder whose constructor reads none has nothing to say.
        """
        return {}


class Description(NamedTuple):
    """What a list of encoders says of one; a family's name is ``<prefix>:NAME``."""

    name: str
    kinds: tuple[str, ...]
    summary: str


class _Family(NamedTuple):
    by_kind: dict[str, type[Encoder]]
    find: Callable[[str], Sequence[str] | None] | None


_E = TypeVar("_E", bound=type[Encoder])

_REGISTRY: dict[str, dict[str, type[Encoder]]] = {}
_FAMILIES: dict[str, _Family] = {}
_DEFAULT: dict[str, str] = {}


def register_encoder(
    name: str, *, kinds: Sequence[str], default_for: Sequence[str] = ()
) -> Callable[[_E], _E]:
    """Class decorator: make an encoder known under ``name``.

    Parameters
    ----------
    name : str
        A name not taken for any of ``kinds``.
    kinds : sequence of str
        Kinds of modality it can take. Another class may take others under the same name.
    default_for : sequence of str
        Kinds for which "auto" chooses it.

    Raises
    ------
    UsageError
        If the name is taken.
    """
    if name == AUTO or ":" in name or set(kinds) & set(_REGISTRY.get(name, {})):
        raise UsageError(f"encoder {name!r} is registered already; choose another name")

    def add(cls: _E) -> _E:
        _REGISTRY.setdefault(name, {}).update(dict.fromkeys(kinds, cls))
        _DEFAULT.update(dict.fromkeys(default_for, name))
        return cls

    return add


def register_family(
    prefix: str,
    *,
    kinds: Sequence[str],
    find: Callable[[str], Sequence[str] | None] | None = None,
) -> Callable[[_E], _E]:
    """Class decorator: make the networks of a library known as ``<prefix>:<name>``.

    Parameters
    ----------
    prefix : str
        A prefix not taken for any of ``kinds``.
    kinds : sequence of str
        Kinds of modality this class can take; another class may take others under the same prefix.
    find : callable or None
        From a network's name to the kinds it takes, None for a name it does not know; such a
        network is also known by its bare name, where no encoder is registered under that. Without
        it any name is handed to the class, whose second positional argument is the name.

    Raises
    ------
    UsageError
        If the prefix is taken.
    """
    family = _FAMILIES.get(prefix, _Family({}, find))
    if set(kinds) & set(family.by_kind):
        raise UsageError(f"encoders {prefix}:NAME are registered already; choose another prefix")

    def add(cls: _E) -> _E:
        family.by_kind.update(dict.fromkeys(kinds, cls))
        _FAMILIES[prefix] = family
        return cls

    return add


def encoder_names(kind: str | None = None) -> tuple[str, ...]:
    """Names of the registered encoders, sorted: all, or those that take ``kind``."""
    return tuple(sorted(n for n, kinds in _REGISTRY.items() if kind is None or kind in kinds))


def describe_encoders() -> tuple[Description, ...]:
    """Registered encoders sorted by name, then the families."""
    families = [(f"{prefix}:NAME", _FAMILIES[prefix].by_kind) for prefix in sorted(_FAMILIES)]
    described = []
    for name, by_kind in [*sorted(_REGISTRY.items()), *families]:
        kinds = tuple(k for k in KINDS if k in by_kind)
        summaries = dict.fromkeys(_summary(by_kind[k]) for k in kinds)
        described.append(Description(name, kinds, " ".join(summaries)))
    return tuple(described)


def _summary(cls: type[Encoder]) -> str:
    first = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", first).replace("``", "")


def build_encoder(
    name: str,
    modality: Modality,
    options: Mapping[str, Any] | None = None,
    *,
    blueprint: Blueprint | None = None,
) -> Encoder:
    """Make the encoder of a modality, its weights drawn from torch's global generator.

    Parameters
    ----------
    name : str
        One of :func:`encoder_names`; ``<prefix>:<name>`` or the bare name of a network of a family;
        or "auto": the default for the modality's kind.
    modality : Modality
        What it will see.
    options : mapping
        Its options.
    blueprint : mapping or None
        What :meth:`Encoder.blueprint` said of one built alike: published weights are then not
        looked for, and those it has are random, for the caller to load. None: build as configured.

    Raises
    ------
    UsageError
        If the encoder or an option is unknown or out of range, it cannot take this modality, or
        its weights are not to be found or are another network's.
    DataError
        If a file of weights is damaged.
    """
    if name == AUTO:
        name = _DEFAULT[modality.kind]
    by_kind, member = _resolve(name, modality)
    if modality.kind not in by_kind:
        raise UsageError(
            f"encoder {name!r} takes {sorted(by_kind)}, but modality {modality.name!r} is "
            f"{modality.kind!r}; use one of {_choices(modality.kind)}"
        )
    cls = by_kind[modality.kind]
    parameters = inspect.signature(cls).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        raise UsageError(
            f"encoder {name!r} of {modality.name!r} has no option {unknown[0]!r}: "
            f"expected one of {known}"
        )
    owner = f"encoder {name!r} of {modality.name!r}"
    with rebuilding(blueprint), explained(cls.__init__, options or {}, owner):
        return cls(modality, *member, **(options or {}))


def _resolve(name: str, modality: Modality) -> tuple[Mapping[str, type[Encoder]], tuple[str, ...]]:
    """Classes by kind and, of a family, the network's name."""
    if name in _REGISTRY:
        return _REGISTRY[name], ()
    prefix, colon, member = name.partition(":")
    if colon and prefix in _FAMILIES:
        family = _FAMILIES[prefix]
        if family.find is None:
            return family.by_kind, (member,)
        kinds = family.find(member)
        if kinds is None:
            raise UsageError(
                f"encoder of {modality.name!r}: {prefix} has no network {member!r}; "
                f"see its documentation for their names"
            )
        return {k: family.by_kind[k] for k in kinds}, (member,)
    for family in () if colon else _FAMILIES.values():
        kinds = family.find(name) if family.find else None
        if kinds is not None:
            return {k: family.by_kind[k] for k in kinds}, (name,)
    raise UsageError(
        f"encoder of {modality.name!r}: expected one of {_choices(modality.kind, every=True)}, "
        f"got {name!r}"
    )


def _choices(kind: str, *, every: bool = False) -> list[str]:
    families = [f"{p}:NAME" for p, f in sorted(_FAMILIES.items()) if every or kind in f.by_kind]
    return [AUTO, *encoder_names(None if every else kind), *families]


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


def flag(value: Any, name: str) -> bool:
    """Check an option that is true or false, and return it.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if not isinstance(value, bool):
        raise UsageError(f"encoder option {name}: expected true or false, got {value!r}")
    return value
