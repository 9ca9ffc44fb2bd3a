"""YAML as users mean it: the core schema of YAML 1.2 instead of PyYAML's 1.1.

Under 1.1 ``1e-3`` is a string, ``no`` and ``off`` are false, ``010`` is eight, ``1:30`` is ninety
and a date becomes an object. Here numbers are numbers, only ``true`` and ``false`` are booleans,
and what is left is text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from rlmba.errors import UsageError

__all__ = ["dump", "parse"]

_TAG = "tag:yaml.org,2002:"
_FLOAT = (
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
# Tag, form, and the first characters it can have ("" is the empty scalar).
_RESOLVERS: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with 1.2's scalars, text keys, and no key given twice."""

    # Emptied: PyYAML's own table, which it keeps on the class, is the one of YAML 1.1.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "expected a word as key, got a list or mapping", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text either version of YAML would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _integer(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)


def _floating(_: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(re.sub(r"\.(?=[iInN])", "", node.value))


def _refused(_: yaml.SafeLoader, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(
        None, None, f"{node.tag} is not of the core schema", node.start_mark
    )


def _build() -> None:
    for name, pattern, first in _RESOLVERS:
        for kind in (_Loader, _Dumper):
            kind.add_implicit_resolver(_TAG + name, re.compile(pattern), first)
    _Loader.add_constructor(f"{_TAG}int", _integer)
    _Loader.add_constructor(f"{_TAG}float", _floating)
    for name in ("binary", "timestamp", "omap", "pairs", "set"):
        _Loader.add_constructor(_TAG + name, _refused)


_build()


def _refuse_cycles(value: Any, above: tuple[int, ...] = ()) -> None:
    if id(value) in above:
        raise ValueError("an alias refers to itself")
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inside:
        _refuse_cycles(item, (*above, id(value)))


def parse(text: str, source: str) -> Any:
    """Read one YAML document; ``source`` names it in errors.

    Raises
    ------
    UsageError
        If it is not YAML, names a key twice, or uses a tag outside the core schema. The message has
        the line.

    Examples
    --------
    >>> parse("[1e-3, no, 010, null, true, 2024-01-01]", "example")
    [0.001, 'no', 10, None, True, '2024-01-01']
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        _refuse_cycles(value)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        problem = " ".join(str(error.problem or error.context).split())
        raise UsageError(f"{source}{where}: not valid YAML: {problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    return value


def dump(data: Any) -> str:
    """Block-style YAML in the order of ``data`` that :func:`parse` reads back unchanged."""
    text: str = yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=2**31,
    )
    return text
