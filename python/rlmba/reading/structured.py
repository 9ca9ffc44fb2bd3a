"""Read JSON and check it against a type, as a whole file or line by line."""

from __future__ import annotations

import functools
import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from rlmba.errors import DataError, RlmbaError
from rlmba.reading.files import find_bytes

__all__ = [
    "distinct",
    "find_json",
    "parse_json",
    "read_json",
    "read_versioned",
    "require_characters",
    "said",
]

_T = TypeVar("_T")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 60
_BITS = 64


def parse_json(
    data: bytes | str,
    type_: type[_T],
    place: str,
    *,
    advice: str,
    error: type[RlmbaError] = DataError,
    finite: bool = True,
    surrogates: bool = False,
) -> _T:
    """Parse JSON as a value of a type.

    Parameters
    ----------
    data : bytes or str
        JSON in UTF-8. A name may not be repeated in an object, and integers have at most 64 bits.
    type_ : type
        A dataclass, or any other type that pydantic can check, such as ``dict[str, list[str]]``.
        Dataclasses ignore unknown names. Nothing is converted: "3" is not a number.
    place : str
        The origin of the JSON, for the message: a file, or a file and a line.
    advice : str
        What to do about invalid JSON, for the message.
    error : type of RlmbaError
        The class of the error.
    finite : bool
        Whether NaN and infinity are refused.
    surrogates : bool
        Whether text may contain lone surrogates, which cannot be encoded as UTF-8. The path of a file
        whose name is not UTF-8 contains some.

    Raises
    ------
    RlmbaError
        Of the given class, with the line and column of a syntax error or the key of a wrong value.
    """
    schema: Any = type_  # mypy does not know that types are hashable
    adapter = _adapter(schema)
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(
            text,
            object_pairs_hook=distinct,
            parse_int=_integer,
            parse_float=_finite if finite else None,
            parse_constant=_refuse if finite else None,
        )
        if not surrogates:
            require_characters(text, value)
        if surrogates and _ESCAPED_SURROGATE.search(text):
            # pydantic's own parser refuses lone surrogates.
            checked: _T = adapter.validate_python(value)
        else:
            checked = adapter.validate_json(data, strict=True)
    except ValidationError as reason:
        raise error(f"{place} is damaged ({said(reason)}); {advice}") from reason
    except RecursionError as reason:
        raise error(f"{place} is damaged (it is nested too deeply); {advice}") from reason
    except ValueError as reason:  # no UTF-8, no JSON, or refused by a function below
        raise error(f"{place} is damaged ({reason}); {advice}") from reason
    return checked


def find_json(
    path: Path,
    type_: type[_T],
    *,
    advice: str,
    error: type[RlmbaError] = DataError,
    finite: bool = True,
    surrogates: bool = False,
) -> _T | None:
    """Parse a JSON file as a value of a type; None if there is no such file. See :func:`parse_json`."""
    data = find_bytes(path, advice=advice, error=error)
    if data is None:
        return None
    return parse_json(
        data, type_, str(path), advice=advice, error=error, finite=finite, surrogates=surrogates
    )


def read_json(
    path: Path,
    type_: type[_T],
    *,
    advice: str,
    error: type[RlmbaError] = DataError,
    finite: bool = True,
) -> _T:
    """As :func:`find_json`, but a missing file is an error."""
    value = find_json(path, type_, advice=advice, error=error, finite=finite)
    if value is None:
        raise error(f"{path}: no such file; {advice}")
    return value


def read_versioned(
    path: Path,
    type_: type[_T],
    version: int,
    *,
    what: str,
    advice: str,
    foreign: str,
    otherwise: str = "",
    error: type[RlmbaError] = DataError,
) -> _T:
    """As :func:`read_json`, for a file whose ``format`` is the version of its layout.

    Parameters
    ----------
    version : int
        The only format that can be read.
    what : str
        What has this format, such as "run folder".
    advice, foreign : str
        What to do about a damaged file, and about a file that rlmba did not write.
    otherwise : str
        What to do about another format, besides using the version that wrote it; it ends in "or ".
    """
    found = read_json(path, Any, advice=advice, error=error)
    if not isinstance(found, dict) or "format" not in found:
        raise error(f"{path} was not written by rlmba; {foreign}")
    number, wrote = (str(found.get(key, "unknown"))[:_SHOWN] for key in ("format", "rlmba"))
    if number != str(version):
        raise error(
            f"{path}: {what} format {number}, this version reads {version}; {otherwise}use the version "
            f"of rlmba that wrote it ({wrote})"
        )
    return read_json(path, type_, advice=advice, error=error)


def said(found: ValidationError) -> str:
    """The first error that pydantic found, in one line: the key, what was expected, what was found."""
    first, *more = found.errors(include_url=False)
    key = ".".join(str(step) for step in first["loc"])
    if first["type"] == "missing":
        text = "expected a value, found none"
    elif first["type"] == "json_invalid":
        text = first["msg"]
    else:
        shown = repr(first["input"])
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        text = f"{first['msg'].replace('Input should be', 'expected')}, found {shown}"
    return (f"{key}: {text}" if key else text) + (f" (and {len(more)} more)" if more else "")


@functools.cache
def _adapter(type_: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_)


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, for ``object_pairs_hook``; a repeated name is a ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:_SHOWN]!r} occurs twice; rename or delete one")
    return found


def require_characters(text: str, value: Any) -> None:
    """Raise where a value read from JSON has a lone surrogate, in a name or in a text.

    Parameters
    ----------
    text : str
        The JSON itself, which says quickly that there is none.
    value : object
        What was read from it.

    Raises
    ------
    ValueError
    """
    if _ESCAPED_SURROGATE.search(text) and (found := _with_surrogate(value)) is not None:
        raise ValueError(
            f"expected whole characters, found a lone surrogate (half a character) in {found[:_SHOWN]!r}"
        )


def _with_surrogate(value: Any) -> str | None:
    if isinstance(value, str):
        return value if _SURROGATE.search(value) else None
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return next((text for item in value if (text := _with_surrogate(item)) is not None), None)
    return None


def _integer(text: str) -> int:
    if len(text) > _BITS or not -(2 ** (_BITS - 1)) <= int(text) < 2**_BITS:
        raise ValueError(f"expected an integer of {_BITS} bits, found {text[:_SHOWN]}")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"expected a finite number, found {text[:_SHOWN]}")
    return number


def _refuse(text: str) -> float:
    raise ValueError(f"expected a finite number, found {text}")
