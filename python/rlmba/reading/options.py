"""Options by name that came out of a file, held to the types of the parameters they become."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rlmba.errors import RlmbaError, UsageError
from rlmba.reading.structured import said

__all__ = ["check_types", "explained"]

_INTEGERS = 2**63


def check_types(function: Callable[..., Any], options: Mapping[str, Any], owner: str) -> None:
    """Raise unless each option has the type that a function says of it.

    Parameters
    ----------
    function : callable
        A function, or a class's ``__init__``.
    options : mapping
        By the names of its parameters.
    owner : str
        Whose options they are, as errors say it ("data set 'manifest'").

    Raises
    ------
    UsageError
        Naming the option. Also where a text has a NUL byte, which no path has.
    """
    said_of = inspect.get_annotations(function)
    holder = types.SimpleNamespace(__annotations__={key: said_of[key] for key in options})
    hints = get_type_hints(holder, globalns=getattr(function, "__globals__", {}))
    for key, value in options.items():
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(hints[key])
            # JSON mode is strict, and still reads paths from text.
            adapter.validate_json(json.dumps(value, default=_plain), strict=True)
            problem = "expected text without NUL bytes" if "\0" in str(value) else ""
        except ValidationError as error:
            problem = said(error)
        if not problem and isinstance(value, float) and not math.isfinite(value):
            problem = f"expected a finite number, found {value}"
        if not problem and isinstance(value, int) and abs(value) >= _INTEGERS:
            problem = f"expected an integer of 64 bits, found one of {value.bit_length()}"
        if problem:
            raise UsageError(f"{owner}, option {key}: {problem}")


@contextlib.contextmanager
def explained(
    function: Callable[..., Any], options: Mapping[str, Any], owner: str
) -> Iterator[None]:
    """A block that calls the function; what it raises over an option of another type names the option.

    Raises
    ------
    UsageError
        In the place of another exception, where :func:`check_types` finds the reason.
    """
    try:
        yield
    except (RlmbaError, MemoryError):
        raise
    except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
        try:
            check_types(function, options, owner)
        except UsageError as reason:
            raise reason from error
        raise


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
