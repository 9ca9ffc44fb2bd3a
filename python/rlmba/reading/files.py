"""Read the bytes or the text of a file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from rlmba.errors import DataError, RlmbaError

__all__ = ["LARGEST", "find_bytes", "open_regular", "read_bytes", "read_text", "require_file"]

LARGEST = 1 << 30
"""Bytes of the largest file that is read completely; files that rlmba writes are far smaller."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
)


def find_bytes(
    path: Path, *, advice: str, error: type[RlmbaError] = DataError, largest: int = LARGEST
) -> bytes | None:
    """All bytes of a file; None if there is no file.

    Parameters
    ----------
    path : path
    advice : str
        What to do about a file that cannot be read, for the message.
    error : type of RlmbaError
        The class of the error.
    largest : int
        The most bytes that the file may have.

    Raises
    ------
    RlmbaError
        Of the given class, if it is not a regular file, is too large, or cannot be read.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            if problem := _unfit(os.fstat(file.fileno()), largest):
                raise error(f"{path}: {problem}; {advice}")
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise error(f"{path}: expected a file, found a folder; {advice}") from None
    except (OSError, ValueError) as reason:  # ValueError: a path with a NUL byte
        if isinstance(reason, RlmbaError):
            raise
        why = getattr(reason, "strerror", None) or reason
        raise error(f"{path} could not be read ({why}); {advice}") from reason


def read_bytes(
    path: Path, *, advice: str, error: type[RlmbaError] = DataError, largest: int = LARGEST
) -> bytes:
    """As :func:`find_bytes`, but a missing file is an error."""
    data = find_bytes(path, advice=advice, error=error, largest=largest)
    if data is None:
        raise error(f"{path}: no such file; {advice}")
    return data


def read_text(path: Path, *, advice: str, error: type[RlmbaError] = DataError) -> str:
    """The text of a UTF-8 file, without a byte order mark, with unchanged line ends.

    Parameters and errors are those of :func:`read_bytes`. Another encoding is an error that names the line.
    """
    data = read_bytes(path, advice=advice, error=error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        line = data.count(b"\n", 0, reason.start) + 1
        raise error(
            f"{path}, line {line}: expected text in UTF-8, found the byte 0x{data[reason.start]:02x}; "
            f"{advice}"
        ) from reason


def require_file(path: Path, *, advice: str, error: type[RlmbaError] = DataError) -> None:
    """Raise unless the path is a regular file; for readers that open the path themselves.

    Raises
    ------
    RlmbaError
        Of the given class.
    """
    try:
        problem = _unfit(path.stat(), None)
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{path}: no such file; {advice}") from None
    except (OSError, ValueError) as reason:
        why = getattr(reason, "strerror", None) or reason
        raise error(f"{path} could not be read ({why}); {advice}") from reason
    if problem:
        raise error(f"{path}: {problem}; {advice}")


def open_regular(path: str, flags: int) -> int:
    """An ``opener`` for :func:`open` that accepts only regular files, since a pipe could block.

    Raises
    ------
    OSError
        If the path cannot be opened or is not a regular file; ``strerror`` gives the reason.
    """
    descriptor = _open(path, flags)
    if problem := _unfit(os.fstat(descriptor), None):
        os.close(descriptor)
        raise OSError(errno.EINVAL, problem, path)
    return descriptor


def _open(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _unfit(status: os.stat_result, largest: int | None) -> str:
    """Why a path is not read; "" if it is."""
    if not stat.S_ISREG(status.st_mode):
        found = next((name for holds, name in _KINDS if holds(status.st_mode)), "something else")
        return f"expected a file, found {found}"
    if largest is not None and status.st_size > largest:
        return f"expected at most {largest:,} bytes, found {status.st_size:,}"
    return ""
