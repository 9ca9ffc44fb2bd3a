"""Writing files so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlmba.errors import StorageError

__all__ = [
    "atomic_write_bytes",
    "atomic_write_chunks",
    "atomic_write_text",
    "cache_folder",
    "holder",
    "locked",
    "make_folder",
]


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes, *, durable: bool = True) -> None:
    """Replace the file at ``path`` by ``data``, whole or not at all.

    The bytes go to a hidden temporary file in the same folder, are flushed to the device, and the
    file is then renamed over ``path``; the folder entry is flushed too. After a crash at any moment
    ``path`` holds either what it held before or all of ``data``.

    Parameters
    ----------
    path : path
        Where to write; its folder must exist. A file there is replaced.
    data : bytes
        The whole content.
    durable : bool
        False does not wait for the device: quicker for many files that can be made again; a power cut
        may then leave one incomplete.

    Raises
    ------
    StorageError
        If it could not be written (disk full, no permission, no such folder). What was at ``path``
        is unharmed and no temporary file is left.
    """
    atomic_write_chunks(path, (data,), len(data), durable=durable)


def atomic_write_chunks(
    path: str | os.PathLike[str],
    chunks: Iterable[bytes | memoryview],
    size: int,
    *,
    durable: bool = True,
) -> None:
    """:func:`atomic_write_bytes` of chunks, one after another, that need not be in memory at once.

    ``size`` is their length in all, which the message names where the disk is full. An exception
    raised by the iterable leaves no file either.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, target)  # noqa: PTH105 - Path.replace is the same call, less known as atomic
        if durable:
            _flush_folder(target.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise StorageError(_explain(target, size, error)) from error
        raise


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """:func:`atomic_write_bytes` of ``text`` in UTF-8, line ends as they are."""
    atomic_write_bytes(path, text.encode("utf-8"))


def cache_folder() -> Path:
    """The package's part of the user's cache folder, made or not: ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "rlmba"


def make_folder(path: Path) -> None:
    """Make a folder and those above it; one that is there already is fine.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"could not make the folder {path} ({error.strerror or error}); make it yourself, or "
            "name another place"
        ) from error


@contextmanager
def locked(folder: Path, busy: Callable[[str], Exception]) -> Iterator[None]:
    """Hold a folder's lock, the file ``lock``; the system releases it when the process ends, however it ends.

    Parameters
    ----------
    folder : path
        It must exist.
    busy : callable
        Makes the error to raise where another process holds it, from what names that process.

    Raises
    ------
    StorageError
        If the folder cannot be written to.
    """
    try:
        handle = (folder / "lock").open("a+")
    except OSError as error:
        raise StorageError(f"could not write into {folder} ({error.strerror or error})") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            raise busy(handle.read().strip() or "another process") from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield


def holder(folder: Path) -> str | None:
    """What names the process that holds a folder's lock; None where none does."""
    try:
        handle = (folder / "lock").open("r")
    except OSError:
        return None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return handle.read().strip() or "another process"
    return None


def _flush_folder(folder: Path) -> None:
    """Make a rename durable; a file system that says EINVAL has nothing to flush."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _explain(target: Path, size: int, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = f"free at least {size:,} bytes there or choose another folder"
    elif isinstance(error, FileNotFoundError | NotADirectoryError):
        advice = "create its folder first"
    else:
        advice = "choose a folder you may write to"
    return f"could not write {target} ({reason}); what was there is unharmed: {advice}"
