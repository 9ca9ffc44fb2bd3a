"""Read and write YAML with the core schema of YAML 1.2 instead of PyYAML's 1.1.

In YAML 1.1, ``1e-3`` is a string, ``no`` and ``off`` are false, ``010`` is eight, ``1:30`` is ninety and a
date becomes an object. Here all numbers are numbers, only ``true`` and ``false`` are booleans, and
everything else is text.

All YAML files of the package are read by this module. A file may come from another person, so its size, its
depth and the expansion of its aliases are limited.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from rlmba.errors import UsageError
from rlmba.reading.files import open_regular

__all__ = ["MAX_BYTES", "dump", "parse", "read"]

MAX_BYTES = 2**24
"""The most bytes of a file, or characters of a text."""

_DEPTH = 100
"""The most levels of nesting."""

_ALIASED = 1_000_000
"""The most characters and nodes that aliases may add to a document."""

_DIGITS = 1_000
"""The most characters of a number; the largest float has 309 digits before its decimal point."""

_TAG = "tag:yaml.org,2002:"
_FLOAT = (
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
# Tag, pattern, and the possible first characters ("" is the empty scalar).
_RESOLVERS: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2, text keys, no repeated keys, and limits."""

    # Empty, since PyYAML's own table, which is on the class, is that of YAML 1.1.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._aliased = 0
        self._sizes: dict[yaml.Node, int] = {}  # of complete nodes, with expanded aliases

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            target = super().compose_node(parent, index)
            if target not in self._sizes:
                raise _invalid("an alias refers to itself", mark)
            self._aliased += self._sizes[target]
            if self._aliased > _ALIASED:
                raise _invalid(
                    f"aliases expand to more than {_ALIASED:,} characters; write their content out, or "
                    "remove them",
                    mark,
                )
            return target
        self._depth += 1
        if self._depth > _DEPTH:
            raise _invalid(f"expected at most {_DEPTH} levels of nesting, got more", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None:
            self._sizes[node] = self._size(node)
        return node

    def _size(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            node.value = _whole_text(node)
            return 1 + len(node.value)
        pairs = node.value if isinstance(node, yaml.MappingNode) else [(n,) for n in node.value]
        return 1 + sum(self._sizes[child] for pair in pairs for child in pair)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _invalid("expected a word as key, got a list or mapping", key.start_mark)
            if key.value in seen:
                raise _invalid(f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which YAML 1.1 or 1.2 would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _invalid(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _whole_text(node: yaml.ScalarNode) -> str:
    """A scalar's text; two escapes for one character, as JSON writes them, become that character."""
    text: str = node.value
    if text.isascii():
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _invalid("expected text, got half of a surrogate pair", node.start_mark) from None


def _number(node: yaml.ScalarNode) -> str:
    if len(node.value) > _DIGITS:
        raise _invalid(
            f"expected a number of at most {_DIGITS:,} digits, got {len(node.value):,}; quote text",
            node.start_mark,
        )
    return str(node.value)


def _integer(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = _number(node)
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


def _floating(_: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(re.sub(r"\.(?=[iInN])", "", _number(node)))


def _refused(_: yaml.SafeLoader, node: yaml.Node) -> Any:
    raise _invalid(f"the tag {node.tag} is not in the core schema; remove it", node.start_mark)


def _build() -> None:
    for name, pattern, first in _RESOLVERS:
        for kind in (_Loader, _Dumper):
            kind.add_implicit_resolver(_TAG + name, re.compile(pattern), first)
    _Loader.add_constructor(f"{_TAG}int", _integer)
    _Loader.add_constructor(f"{_TAG}float", _floating)
    for name in ("binary", "timestamp", "omap", "pairs", "set"):
        _Loader.add_constructor(_TAG + name, _refused)


_build()


def parse(text: str, source: str) -> Any:
    """Parse one YAML document; ``source`` is its name in errors.

    Raises
    ------
    UsageError
        If it is not YAML, repeats a key, uses a tag outside the core schema, is too large or nested too
        deeply, or its aliases expand to too much. The message has the line.

    Examples
    --------
    >>> parse("[1e-3, no, 010, null, true, 2024-01-01]", "example")
    [0.001, 'no', 10, None, True, '2024-01-01']
    """
    if len(text) > MAX_BYTES:
        raise UsageError(_too_large(source))
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        problem = " ".join(str(error.problem or error.context).split())
        raise UsageError(f"{source}{where}: not valid YAML: {problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error


def read(path: Path, *, regular: bool = False) -> Any:
    """:func:`parse` a file.

    Parameters
    ----------
    path : path
    regular : bool
        Whether to refuse pipes and devices. A user may give one, but in a folder from another person it
        would block.

    Raises
    ------
    OSError
        If the file cannot be opened or read.
    UsageError
        If the file is not UTF-8 or is larger than :data:`MAX_BYTES`, and as :func:`parse`.
    """
    with open(path, "rb", opener=open_regular if regular else None) as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise UsageError(_too_large(str(path)))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: expected a YAML file in UTF-8, got another encoding at byte {error.start} "
            f"({error.reason}); save it as UTF-8"
        ) from error
    return parse(text, str(path))


def _too_large(source: str) -> str:
    return f"{source}: expected YAML of at most {MAX_BYTES:,} bytes, got more; give a configuration file"


def dump(data: Any) -> str:
    """Block-style YAML in the order of ``data``, which :func:`parse` reads back unchanged."""
    text: str = yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=2**31,
    )
    return text
