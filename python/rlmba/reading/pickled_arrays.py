"""Read a ``.npy`` file that holds a pickled dict of arrays, as data: nothing in it is run."""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError
from rlmba.reading.files import require_file

__all__ = ["read_pickled_arrays"]

_MARK = object()
_NAMES = frozenset(
    [
        "numpy.core.multiarray _reconstruct",
        "numpy._core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
    ]
)
_CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "MARK": _MARK,
}
_VALUES = frozenset(
    [
        "BININT",
        "BININT1",
        "BININT2",
        "SHORT_BINSTRING",
        "BINSTRING",
        "BINUNICODE",
        "SHORT_BINBYTES",
        "BINBYTES",
    ]
)
_EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
_MEMO = frozenset(["BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"])
# How many items they take from the stack; -1: those after the last mark.
_TUPLES = {"TUPLE": -1, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CHANGES = {"SETITEM": 2, "SETITEMS": -1, "APPEND": 1, "BUILD": 1, "REDUCE": 2}


class _Box:
    """An array, or a dtype whose ``value`` is its code, before and after its state is set."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


def read_pickled_arrays(path: Path) -> dict[str, Any]:
    """Read a dict of float32 arrays, or of such dicts, that ``numpy.save`` pickled.

    Only the pickle instructions that such a dict needs are accepted, and only the names of NumPy's arrays
    and dtypes. Anything else is an error, so nothing is imported or called.

    Raises
    ------
    DataError
        If there is no such file, it is damaged, or it holds something else.
    """
    require_file(path, advice="expected a .npy with a pickled dict of arrays")
    try:
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("another version of .npy")
            np.lib.format.read_array_header_1_0(file)
            found = _followed(file.read())
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its first wrong byte causes
        raise DataError(
            f"{path}: expected a .npy with a pickled dict of arrays, but it is damaged or holds something "
            f"else ({error or type(error).__name__}); copy it again"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path}: expected a pickled dict of arrays, got {type(found).__name__}; give another file"
        )
    return found


def _followed(pickled: bytes) -> Any:
    """Follow a pickle's instructions, and return the object that it describes."""
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "STOP":
            return _plain(machine.stack.pop())
        machine.follow(opcode.name, argument)
    raise ValueError("it ends early")


class _Machine:
    """A stack for lists, dicts, tuples and arrays, and a memo of what may be repeated."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def follow(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(self.taken(_TUPLES[name])))
        elif name == "GLOBAL" and argument in _NAMES:
            self.stack.append(argument)
        elif name in _MEMO:
            self.remember(name, argument)
        elif name in _CHANGES:
            self.change(name)
        elif name != "PROTO":
            raise ValueError(f"the instruction {name} {str(argument or '')[:40]}".strip())

    def remember(self, name: str, place: int) -> None:
        if name.endswith("PUT"):
            self.memo[place] = self.stack[-1]
        else:
            self.stack.append(self.memo[place])

    def change(self, name: str) -> None:
        items = self.taken(_CHANGES[name])
        if name in ("SETITEM", "SETITEMS"):
            pairs = zip(items[::2], items[1::2], strict=True)
            self.stack[-1].update((key, _plain(value)) for key, value in pairs)
        elif name == "APPEND":
            self.stack[-1].append(_plain(items[0]))
        elif name == "BUILD":
            _build(self.stack[-1], items[0])
        else:
            function, arguments = items
            self.stack.append(_Box(arguments[0] if function == "numpy dtype" else None))

    def taken(self, count: int) -> list[Any]:
        """Remove the last items, or with a count of -1 those after the last mark, and the mark."""
        if count >= 0:
            start = len(self.stack) - count
            items = self.stack[start:]
        else:
            start = max(i for i, item in enumerate(self.stack) if item is _MARK)
            items = self.stack[start + 1 :]
        del self.stack[start:]
        return items


def _build(box: _Box, state: tuple[Any, ...]) -> None:
    """Set the state of a dtype, which has eight parts or more, or of an array, which has five."""
    if len(state) != 5:
        return
    _, shape, dtype, fortran, content = state
    if isinstance(content, list):  # the dict itself, as an array of one object
        (box.value,) = content
        return
    if dtype.value != "f4":
        raise ValueError(f"an array of type {dtype.value}")
    raw = content.encode("latin-1") if isinstance(content, str) else content
    array: NDArray[np.float32] = np.frombuffer(raw, "<f4")
    box.value = array.reshape(shape, order="F" if fortran else "C").copy()


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _Box) else value
