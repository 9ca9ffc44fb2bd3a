"""Encoders by name: built in, a library's, brought by an installed package, or ``module:Class``.

An encoder is a ``torch.nn.Module`` that maps one modality's batch tensor ``[n, *shape]`` to
``[n, out_features]``. To add one to this package, write its class in a file of its own, with the
modality as its only positional argument and keyword-only options, decorate it with
:func:`register_encoder`, and import the file in ``rlmba/models/__init__.py``. Its constructor loads
the weights, so that a missing file is an error before any work starts. A library of networks is a
family: one class, decorated with :func:`register_family`, for ``<prefix>:<name>``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from rlmba.data.base import KINDS, Modality
from rlmba.data.manifest.options import SOUND_FORMS, set_option
from rlmba.errors import PluginError, UsageError
from rlmba.models.blueprint import Blueprint, rebuilding
from rlmba.plugins import PluginKind, blamed, check_option_names, is_target, options_of, origin
from rlmba.reading.options import explained

__all__ = [
    "Encoder",
    "EncoderDescription",
    "build_encoder",
    "code_behind",
    "describe_encoder",
    "encoder_names",
    "expected_rate_of",
    "flag",
    "positive_ints",
    "register_encoder",
    "register_family",
    "sound_kinds",
    "tokenizer_of",
    "weight_files_of",
]

AUTO = "auto"


class Encoder(nn.Module):
    """Base class of encoders.

    A subclass takes a :class:`~rlmba.data.Modality` as its only positional argument and its options
    as keyword-only arguments. What its outputs depend on belongs into parameters and buffers: the
    features of frozen encoders are cached by the class name and the ``state_dict``.

    Attributes
    ----------
    kinds : tuple of str
        The kinds of modality that an encoder from elsewhere takes (:data:`rlmba.data.KINDS`).
        Registered encoders name theirs when they are registered.
    out_features : int
        Width of what :meth:`forward` returns.
    memory_format : torch.memory_format or None
        The memory layout of its weights, which its input is converted to, for encoders that are
        faster in one; None where that makes no difference.
    stackable : bool
        Whether several encoders of one shape may be trained together with stacked parameters. Such
        an encoder is small, works under ``torch.func.vmap``, draws no random numbers, and has no
        buffers that training changes.
    weightless : bool
        Whether it has no parameters: its outputs depend on the modality and the options alone.
    """

    kinds: ClassVar[tuple[str, ...]] = KINDS
    stackable: ClassVar[bool] = False
    weightless: ClassVar[bool] = False
    out_features: int
    memory_format: torch.memory_format | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch ``[n, *modality.shape]`` to ``[n, out_features]``."""
        raise NotImplementedError

    @classmethod
    def weight_files(
        cls, modality: Modality, *member: str, **options: Any
    ) -> tuple[Path, ...] | None:
        """Files that the constructor would read for these arguments, found without reading them.

        They have to determine its weights: an empty tuple is for encoders without weights, and None means
        that the files are unknown, or that the weights are random and depend on the seed. Features of a
        frozen encoder whose files are known and unchanged are used without building it.
        """
        del modality, member, options
        return () if cls.weightless else None

    @classmethod
    def expected_rate(cls, *member: str, **options: Any) -> float | None:
        """Samples per second that waveforms should have for these options; None if any rate will do."""
        del member, options
        return None

    @classmethod
    def tokenizer_name(cls, *member: str, **options: Any) -> str | None:
        """The tokenizer whose ids its weights were trained on, as ``dataset_options.tokenizer`` names it.

        None means that it takes the ids of any tokenizer. Arguments are those of the constructor after the
        modality.
        """
        del member, options
        return None

    def blueprint(self) -> Blueprint:
        """What its constructor took from published weights besides their values, as JSON can hold it.

        With the modality, name and options this is all that :func:`build_encoder` needs to build the
        encoder again without the published weights. Empty for constructors that read none.
        """
        return {}


class EncoderDescription(NamedTuple):
    """What a list of encoders shows of one; a family is listed as ``<prefix>:NAME``."""

    name: str
    kinds: tuple[str, ...]
    summary: str


class _Family(NamedTuple):
    by_kind: dict[str, type[Encoder]]
    find: Callable[[str], Sequence[str] | None] | None


_E = TypeVar("_E", bound=type[Encoder])

_PLUGINS = PluginKind("encoder", "rlmba.encoders", base=Encoder)
_REGISTRY: dict[str, dict[str, type[Encoder]]] = {}
_FAMILIES: dict[str, _Family] = {}
_DEFAULT: dict[str, str] = {}
_AXES = {
    "features": 1,
    "image": 3,
    "video": 4,
    "waveform": 1,
    "spectrogram": 3,
    "tokens": 1,
    "sequence": 2,
}
"""Axes of one sample by kind: see :class:`rlmba.data.Modality`."""
_SOUND = Modality("audio", "waveform", (1,))


def register_encoder(
    name: str, *, kinds: Sequence[str], default_for: Sequence[str] = ()
) -> Callable[[_E], _E]:
    """Class decorator: make an encoder known under ``name`` in this process.

    Parameters
    ----------
    name : str
        A name that is not taken for any of ``kinds``, without ":".
    kinds : sequence of str
        Kinds of modality that it takes. Another class may take others under the same name.
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
        A prefix that is not taken for any of ``kinds``.
    kinds : sequence of str
        Kinds of modality that this class takes. Another class may take others under the same prefix.
    find : callable or None
        Returns the kinds that a network takes, given its name, or None for an unknown name. Its
        networks are also known by their bare names, unless an encoder is registered under them.
        Without ``find`` any name is passed to the class, as its second positional argument.

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
    """Names of the encoders, sorted: the registered ones, or those of them that take ``kind``.

    Without ``kind``, the entry points `rlmba.encoders` follow, and the families as ``<prefix>:NAME``.
    An encoder whose package cannot be loaded is among them.
    """
    registered = sorted(n for n, kinds in _REGISTRY.items() if kind is None or kind in kinds)
    if kind is not None:
        return tuple(registered)
    families = [f"{prefix}:NAME" for prefix in sorted(_FAMILIES)]
    return (*registered, *_PLUGINS.installed(registered), *families)


def describe_encoder(name: str) -> EncoderDescription:
    """What an encoder takes and is; a family is named ``<prefix>:NAME``.

    Raises
    ------
    UsageError
        If the name is unknown, or its class cannot be imported.
    """
    prefix, _, member = name.partition(":")
    if prefix in _FAMILIES and member:
        by_kind = _FAMILIES[prefix].by_kind
    else:
        by_kind = _REGISTRY[name] if name in _REGISTRY else _plugged_in(name)
    kinds = tuple(k for k in KINDS if k in by_kind)
    summaries = dict.fromkeys(_summary(by_kind[k]) for k in kinds)
    return EncoderDescription(name, kinds, " ".join(summaries))


def code_behind(name: str) -> str:
    """Return the ``module:Class`` that building an encoder would import; "" for any other name."""
    return name if is_target(name) and name.partition(":")[0] not in _FAMILIES else ""


def _plugged_in(name: str) -> dict[str, type[Encoder]]:
    cls: type[Encoder] = _PLUGINS.find(name, [AUTO, *encoder_names()])
    return dict.fromkeys(cls.kinds, cls)


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
        "auto", the default for the modality's kind; or ``module:Class``, which is imported: a name
        that comes out of a folder's file needs the user's permission first (:mod:`rlmba.trust`).
    modality : Modality
        What it will encode.
    options : mapping
        Its options.
    blueprint : mapping or None
        What :meth:`Encoder.blueprint` returned for an encoder built in the same way. Published
        weights are then not read; the encoder's weights are random, for the caller to load. None:
        build as configured.

    Raises
    ------
    UsageError
        If the encoder or an option is unknown or out of range, it cannot take this modality, its
        weights cannot be found or are another network's, or texts were tokenized for another network.
    DataError
        If a file of weights is damaged.
    PluginError
        If an encoder from elsewhere raises, or its outputs are not [n, ``out_features``].
    """
    if name == AUTO:
        name = _DEFAULT[modality.kind]
    by_kind, member = _resolve(name, modality)
    if modality.kind not in by_kind:
        other = next(
            (k for k in SOUND_FORMS if k in by_kind and modality.kind in SOUND_FORMS), None
        )
        table = f", or for the sounds of a table {set_option('audio', other)}" if other else ""
        raise UsageError(
            f"encoder {name!r} takes {sorted(by_kind)}, but modality {modality.name!r} is "
            f"{modality.kind!r}; use one of {_choices(modality.kind)}{table}"
        )
    cls = by_kind[modality.kind]
    owner = f"encoder {name!r} of {modality.name!r}"
    if len(modality.shape) != _AXES[modality.kind]:
        raise UsageError(
            f"{owner}: expected samples with {_AXES[modality.kind]} axes for the kind {modality.kind!r}, got "
            f"shape {modality.shape}"
        )
    advice = f"give it as model.encoders.{modality.name}.{{}}"
    check_option_names(options_of(cls), options or {}, owner, advice=advice)
    with rebuilding(blueprint), blamed(cls, owner), explained(cls.__init__, options or {}, owner):
        if blueprint is None and modality.tokenizer is not None:
            _check_tokenizer(cls.tokenizer_name(*member, **(options or {})), modality, owner)
        encoder = cls(modality, *member, **(options or {}))
        return _checked(encoder, modality, owner) if origin(cls) else encoder


def tokenizer_of(name: str, options: Mapping[str, Any]) -> str | None:
    """:meth:`Encoder.tokenizer_name` of an encoder of texts by name; None also if it cannot be determined."""
    text = Modality("text", "tokens", (1,), "int64")
    try:
        by_kind, member = _resolve(_DEFAULT[text.kind] if name == AUTO else name, text)
        return by_kind[text.kind].tokenizer_name(*member, **options)
    except (UsageError, ImportError, KeyError, TypeError):
        return None  # building the encoder explains what is wrong


def _check_tokenizer(wanted: str | None, modality: Modality, owner: str) -> None:
    """Raise if the tokens of a modality come from another tokenizer than the wanted one."""
    from rlmba.data.media.tokens import same_ids

    given = modality.tokenizer
    if wanted is not None and given is not None and not same_ids(given, wanted):
        raise UsageError(
            f"{owner}: expected texts tokenized with {wanted!r}, got the tokenizer {given!r}; set "
            f"dataset_options.tokenizer to {wanted!r}"
        )


def weight_files_of(
    name: str, modality: Modality, options: Mapping[str, Any]
) -> tuple[Path, ...] | None:
    """:meth:`Encoder.weight_files` of an encoder by name; None also if they cannot be determined."""
    if name == AUTO:
        name = _DEFAULT[modality.kind]
    try:
        by_kind, member = _resolve(name, modality)
        return by_kind[modality.kind].weight_files(modality, *member, **options)
    except (UsageError, ImportError, KeyError, TypeError):
        return None  # building the encoder explains what is wrong


def sound_kinds(name: str) -> tuple[str, ...]:
    """Which of "spectrogram" and "waveform" an encoder takes.

    Raises
    ------
    UsageError
        If the name is unknown, or its class cannot be imported.
    """
    by_kind, _ = _resolve(name, _SOUND)
    return tuple(k for k in SOUND_FORMS if k in by_kind)


def expected_rate_of(name: str, options: Mapping[str, Any]) -> float | None:
    """:meth:`Encoder.expected_rate` of an encoder of waveforms by name.

    Parameters
    ----------
    name : str
        As for :func:`build_encoder`.
    options : mapping
        Its options.

    Returns
    -------
    float or None
        None if any rate will do, or the encoder does not take waveforms.

    Raises
    ------
    UsageError, DataError
        If the encoder is unknown, or what it expects cannot be read.
    """
    if name == AUTO:
        name = _DEFAULT["waveform"]
    by_kind, member = _resolve(name, _SOUND)
    return by_kind["waveform"].expected_rate(*member, **options) if "waveform" in by_kind else None


def _checked(encoder: Encoder, modality: Modality, owner: str) -> Encoder:
    """Return an encoder from elsewhere if it maps two samples to a matrix of its width."""
    sample = torch.zeros((2, *modality.shape), dtype=getattr(torch, modality.dtype))
    training = encoder.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        found = encoder.eval()(sample)
    encoder.train(training)
    width = getattr(encoder, "out_features", None)
    shape = tuple(getattr(found, "shape", ()))
    if not isinstance(width, int) or shape != (2, width) or not found.is_floating_point():
        raise PluginError(
            f"{owner}: expected floating-point outputs [n, out_features], found out_features {width!r} and "
            f"the shape {shape} for n = 2; correct its class"
        )
    return encoder


def _resolve(name: str, modality: Modality) -> tuple[Mapping[str, type[Encoder]], tuple[str, ...]]:
    """Classes by kind and, for a family, the network's name."""
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
    try:
        return _plugged_in(name), ()
    except UsageError as error:
        raise UsageError(f"modality {modality.name!r}: {error}") from error


def _choices(kind: str) -> list[str]:
    families = [f"{p}:NAME" for p, f in sorted(_FAMILIES.items()) if kind in f.by_kind]
    return [AUTO, *encoder_names(kind), *families]


def positive_ints(value: Any, name: str, *, empty: bool = False) -> list[int]:
    """Check an option that is a list of integers >= 1, and return it as a list.

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
