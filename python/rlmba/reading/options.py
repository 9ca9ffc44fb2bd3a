"""Options by name: checked against the types of the parameters that they become."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rlmba.errors import RlmbaError, UsageError
from rlmba.reading.structured import said

__all__ = ["check_types", "explained", "takes_options_of"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_INTEGERS = 2**63


def takes_options_of(
    shared: Callable[..., Any], *, without: Collection[str] = ()
) -> Callable[[_Function], _Function]:
    """Decorate a function that passes its ``**options`` on: its signature then names each of them.

    Parameters
    ----------
    shared : callable
        The function that the options are passed to. Its keyword-only parameters are the options.
    without : collection of str
        Parameters of ``shared`` that are not options of the decorated function.
    """
    hints = get_type_hints(shared)
    added = [
        p.replace(annotation=hints[p.name])
        for p in inspect.signature(shared).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in without
    ]

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        changed: Any = function
        changed.__signature__ = signature.replace(parameters=[*own, *added])
        changed.__annotations__ |= {p.name: p.annotation for p in added}
        return function

    return decorate


def check_types(function: Callable[..., Any], options: Mapping[str, Any], owner: str) -> None:
    """Raise unless each option has the type that the function declares for it.

    Parameters
    ----------
    function : callable
        A function, or a class's ``__init__``.
    options : mapping
        Values by parameter name.
    owner : str
        What the options belong to, for the message ("data set 'manifest'").

    Raises
    ------
    UsageError
        If a value has another type, is not finite, needs more than 64 bits or holds a NUL byte. The
        message names the option.
    """
    declared = inspect.get_annotations(function)
    holder = types.SimpleNamespace(__annotations__={key: declared[key] for key in options})
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
    """Run a block that calls the function, and turn an exception over a wrong type into a clear one.

    Raises
    ------
    UsageError
        Instead of another exception, where :func:`check_types` finds an option at fault.
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
