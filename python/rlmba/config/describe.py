"""Describe the schema: every key with its type, bounds, default and meaning."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import annotated_types as at
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlmba.config.schema import RunConfig

__all__ = ["Key", "expected", "field_at", "keys"]

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    Path: "a path",
    Any: "any value",
    type(None): "null",
}
_BOUNDS = ((at.Ge, "ge", ">="), (at.Gt, "gt", ">"), (at.Le, "le", "<="), (at.Lt, "lt", "<"))


@dataclass(frozen=True)
class Key:
    """A key: its dotted ``name``, expected values, default and meaning."""

    name: str
    expected: str
    default: Any
    meaning: str


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _type_words(annotation: Any) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        # pydantic's Field keeps its bounds in `metadata`.
        bounds = [b for item in args[1:] for b in getattr(item, "metadata", (item,))]
        words = expected(args[0], bounds)
    elif annotation in _WORDS:
        words = _WORDS[annotation]
    elif origin is Literal:
        words = "one of " + ", ".join(map(str, args))
    elif origin in (Union, types.UnionType):
        words = " or ".join(_type_words(a) for a in args)
    elif origin is list:
        words = f"a list ({_type_words(args[0])} each)"
    elif origin is tuple:
        words = f"a list of {len(args)} ({_type_words(args[0])} each)"
    elif origin is dict:
        words = f"a mapping of names ({_type_words(args[1])} each)"
    elif _section(annotation) is not None:
        words = "a section of keys"
    else:
        words = str(annotation)
    return words


def expected(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """The expected value in words, with its bounds.

    Examples
    --------
    >>> expected(*field_at(("model", "dropout")))
    'a number >= 0 and < 1'
    >>> expected(int | None, [at.Ge(1)])
    'an integer >= 1 or null'
    >>> expected(list[Annotated[float, at.Lt(1)]])
    'a list (a number < 1 each)'
    """
    words = _type_words(annotation)
    bounds = [
        f"{sign} {getattr(item, attribute)}"
        for item in metadata
        for kind, attribute, sign in _BOUNDS
        if isinstance(item, kind)
    ]
    if not bounds:
        return words
    head, null, tail = words.partition(" or null")
    return f"{head} {' and '.join(bounds)}{null}{tail}"


def field_at(location: Sequence[str | int]) -> tuple[Any, list[Any]] | None:
    """The annotation and bounds of the key at ``location``; None if there is no such key."""
    annotation: Any = RunConfig
    metadata: list[Any] = []
    for step in location:
        section = _section(annotation)
        if section is not None:
            field = section.model_fields.get(str(step))
            if field is None:
                return (Any, []) if section.model_config.get("extra") == "allow" else None
            annotation, metadata = field.annotation, list(field.metadata)
            continue
        if typing.get_origin(annotation) in (Union, types.UnionType):
            annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin not in (list, dict):
            return None
        annotation, metadata = args[-1], []
    return annotation, metadata


def _walk(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        inner = _section(field.annotation)
        if inner is not None:
            yield from _walk(inner, f"{prefix}{name}.")
            continue
        yield Key(
            prefix + name,
            expected(field.annotation, field.metadata),
            _default(field),
            " ".join((field.description or "").split()),
        )


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def keys() -> tuple[Key, ...]:
    """All keys of :class:`~rlmba.config.RunConfig`, in the order of the schema."""
    return tuple(_walk(RunConfig, ""))
