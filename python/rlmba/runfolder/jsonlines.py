"""Append-only logs: one JSON object on each line, each line written completely or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rlmba.errors import RlmbaError, RunFolderError, StorageError
from rlmba.reading.files import find_bytes
from rlmba.reading.structured import parse_json
from rlmba.storage import flush_folder, lock_file, open_own

__all__ = ["JsonLog"]

_T = TypeVar("_T")


class JsonLog:
    """A file of JSON lines that is only appended to, by any number of threads and processes.

    A last line without a line end counts if it is a complete JSON object: some editors leave the line end
    out. Otherwise it is still being written, or was cut off by a crash or a full disk; readers ignore it,
    and the next append removes it.

    Parameters
    ----------
    path : path
        The file. The first append creates it; its folder must exist then.
    repair : str
        What to do about a damaged line, for the error message.
    retry : str
        What to do when a line could not be written, for the error message.
    error : type of RlmbaError
        What to raise when the file cannot be read.
    """

    def __init__(
        self, path: Path, *, repair: str, retry: str, error: type[RlmbaError] = RunFolderError
    ) -> None:
        self.path = path
        self._repair = repair
        self._retry = retry
        self._error = error

    def revision(self) -> str:
        """Text that changes whenever the file changes; "" while there is no file."""
        try:
            status = self.path.stat()
        except OSError:
            return ""
        return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"

    def lines(self) -> list[bytes]:
        """The lines that count, without their line ends; none where there is no file.

        Raises
        ------
        RlmbaError
            Of the class ``error``, if the file cannot be read.
        """
        data = find_bytes(self.path, advice=self._repair, error=self._error) or b""
        rows = data[: _complete(data)].split(b"\n")
        return rows if rows[-1] else rows[:-1]

    def read(self, type_: type[_T]) -> list[_T]:
        """Each line as a value of a type, checked by :func:`rlmba.reading.structured.parse_json`.

        Raises
        ------
        RlmbaError
            Of the class ``error``, if the file cannot be read or a line is damaged; it names the line.
        """
        return [
            parse_json(
                line, type_, f"{self.path}, line {number}", advice=self._repair, error=self._error
            )
            for number, line in enumerate(self.lines(), start=1)
        ]

    def append(self, lines: Iterable[str], wanted: Callable[[], bool] = lambda: True) -> None:
        """Append all of the lines or none. They are on the device when this returns.

        Parameters
        ----------
        lines : iterable of str
            Each a JSON object, without a line end.
        wanted : callable
            Called while nobody else can append. If it returns False, nothing is written; what it raises is
            passed on.

        Raises
        ------
        StorageError
            If the lines cannot be written; the earlier lines are unchanged.
        """
        text = "".join(f"{line}\n" for line in lines).encode()
        with self._locked(os.O_RDWR | os.O_CREAT) as descriptor:
            if wanted():
                self._write(descriptor, text)

    def remove_torn_line(self) -> None:
        """Remove a last line that does not count.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        if self.path.exists():
            with self._locked(os.O_RDWR) as descriptor:
                os.ftruncate(descriptor, _complete(_content(descriptor)))

    def _write(self, descriptor: int, text: bytes) -> None:
        content = _content(descriptor)
        end = _complete(content)
        if end and content[end - 1 : end] != b"\n":
            text = b"\n" + text
        try:
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            while text:
                text = text[os.write(descriptor, text) :]
            os.fsync(descriptor)
            if not content:
                flush_folder(self.path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, end)
            raise

    @contextlib.contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        """A descriptor of the file that no other process can write to meanwhile."""
        try:
            descriptor = open_own(self.path, flags)
            try:
                lock_file(descriptor, self.path, wait=True)
                yield descriptor
            finally:
                os.close(descriptor)
        except RlmbaError:
            raise
        except OSError as error:
            raise StorageError(
                f"could not append to {self.path} ({error.strerror or error}); its earlier lines are "
                f"unchanged: {self._retry}"
            ) from error


def _content(descriptor: int) -> bytes:
    size, parts, at = os.fstat(descriptor).st_size, [], 0
    while at < size and (part := os.pread(descriptor, size - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _complete(data: bytes) -> int:
    """The number of bytes of ``data`` up to the end of the last line that counts."""
    end = data.rfind(b"\n") + 1
    return len(data) if _is_object(data[end:]) else end


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
