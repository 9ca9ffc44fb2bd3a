"""Writing files atomically, opening files that may come from somebody else, and locking folders."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rlmba.errors import StorageError

__all__ = [
    "atomic_write_bytes",
    "atomic_write_chunks",
    "atomic_write_text",
    "cache_folder",
    "config_folder",
    "flush_folder",
    "holder",
    "is_plain_name",
    "lock_file",
    "locked",
    "make_folder",
    "open_own",
]


def atomic_write_bytes(
    path: str | os.PathLike[str], data: bytes, *, durable: bool = True, private: bool = False
) -> None:
    """Replace the content of a file, completely or not at all.

    The data are written to a hidden temporary file in the same folder and flushed to the device. The file is
    then renamed to ``path``, and the folder is flushed too. After a crash at any moment, ``path`` holds
    either its previous content or all of ``data``.

    Parameters
    ----------
    path : path
        The file. Its folder must exist; the file need not.
    data : bytes
        The whole content.
    durable : bool
        False does not wait for the device. This is faster for many files that can be made again, but a
        power failure may leave one incomplete.
    private : bool
        Whether only the file's owner may read it.

    Raises
    ------
    StorageError
        If the file cannot be written (disk full, no permission, no such folder). The previous content is
        unchanged, and no temporary file is left.
    """
    atomic_write_chunks(path, (data,), len(data), durable=durable, private=private)


def atomic_write_chunks(
    path: str | os.PathLike[str],
    chunks: Iterable[bytes | memoryview],
    size: int,
    *,
    durable: bool = True,
    private: bool = False,
) -> None:
    """As :func:`atomic_write_bytes`, for chunks that need not be in memory at the same time.

    ``size`` is their total length, for the error message if the disk is full. If the iterable raises, the
    previous content is unchanged as well.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", opener=_open_private if private else None) as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, target)  # noqa: PTH105 - known to be atomic
        if durable:
            flush_folder(target.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise StorageError(_explain(target, size, error)) from error
        raise


def atomic_write_text(path: str | os.PathLike[str], text: str, *, private: bool = False) -> None:
    """As :func:`atomic_write_bytes`, for text in UTF-8. Line ends are not changed."""
    atomic_write_bytes(path, text.encode("utf-8"), private=private)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_LONGEST_NAME = 200
"""Bytes of a name from a file. Linux allows 255, with the suffix."""


def cache_folder() -> Path:
    """The package's folder in ``$XDG_CACHE_HOME`` or ``~/.cache``; it need not exist."""
    return _user_folder("XDG_CACHE_HOME", ".cache")


def config_folder() -> Path:
    """The package's folder in ``$XDG_CONFIG_HOME`` or ``~/.config``; it need not exist."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def _user_folder(variable: str, name: str) -> Path:
    base = Path(os.environ.get(variable, ""))
    try:
        return (base if base.is_absolute() else Path.home() / name) / "rlmba"
    except RuntimeError as error:
        raise StorageError(
            f"this user has no home folder ({error}); set {variable} to a folder that you may write to"
        ) from error


def is_plain_name(name: object) -> bool:
    """Whether a value read from a file can safely be used as a file name, without leaving its folder.

    It must be short enough (200 bytes) for a suffix.
    """
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not any(c in "/\\" or not c.isprintable() for c in name)
        and len(name.encode()) <= _LONGEST_NAME
    )


def make_folder(path: Path) -> None:
    """Create a folder and its parents, unless they exist.

    Raises
    ------
    StorageError
        If the folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"could not create the folder {path} ({error.strerror or error}); create it yourself, or name "
            "another one"
        ) from error


def open_own(path: Path, flags: int) -> int:
    """Open a regular file in a folder that may come from somebody else.

    A symbolic link is refused because it could lead to any file of this user, and a pipe because it would
    block. A file with several names (hard links) may be read but not written.

    Parameters
    ----------
    path : path
    flags : int
        As for :func:`os.open`.

    Returns
    -------
    int
        The file descriptor.

    Raises
    ------
    OSError
        If the file cannot be opened.
    StorageError
        If it is not a regular file, or is opened for writing and has another name.
    """
    found = "a symbolic link"
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError:
        if not path.is_symlink():
            raise
    else:
        status = os.fstat(descriptor)
        linked = status.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR)
        if stat.S_ISREG(status.st_mode) and not linked:
            return descriptor
        os.close(descriptor)
        found = "something else"
        if linked:
            raise StorageError(
                f"{path}: expected a file that belongs to this folder only, found one that has another name "
                "(a hard link) and would change there too; replace it by a copy"
            )
    raise StorageError(f"{path}: expected a regular file, found {found}; move it away")


def lock_file(descriptor: int, path: Path, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed.

    Parameters
    ----------
    descriptor : int
    path : path
        The file's path, for the error message.
    shared : bool
        Lock it for reading only: any number of processes may do so at the same time.
    wait : bool
        Wait while another process holds the lock.

    Returns
    -------
    bool
        False if another process holds the lock.

    Raises
    ------
    StorageError
        If the file system does not support locks.
    """
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, operation | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise StorageError(
            f"{path} cannot be locked ({error.strerror or error}): expected a file system that supports "
            "locks, which keep two processes from writing at the same time; use a folder on a local disk, or "
            "have this one mounted with locks (Lustre: -o flock)"
        ) from error
    return True


@contextmanager
def locked(folder: Path, busy: Callable[[str], Exception], *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, its file ``lock``, for the duration of a ``with`` block.

    The operating system releases the lock when the process ends, even if it is killed.

    Parameters
    ----------
    folder : path
        It must exist.
    busy : callable
        Returns the error to raise if another process holds the lock, given a text that names the process.
    wait : bool
        Wait for the other process instead.

    Raises
    ------
    StorageError
        If the folder cannot be written to, its file system does not support locks, or ``lock`` is not a
        regular file.
    """
    path = folder / "lock"
    try:
        descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"could not write into {folder} ({error.strerror or error})") from error
    with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as handle:
        if not lock_file(descriptor, path, wait=wait):
            raise busy(_holder_in(handle))
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield


def holder(folder: Path) -> str | None:
    """The process that holds a folder's lock, as text; None if none does, or the folder cannot be locked."""
    path = folder / "lock"
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except OSError:
        return None
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as handle:
        try:
            return None if lock_file(descriptor, path, shared=True) else _holder_in(handle)
        except StorageError:
            return None


def _holder_in(handle: TextIO) -> str:
    """What the holder of a lock wrote into it, as one line without control characters."""
    return "".join(filter(str.isprintable, handle.read(200))).strip() or "another process"


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable, after a file was created or renamed there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems with nothing to flush
            raise
    finally:
        os.close(descriptor)


def _explain(target: Path, size: int, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = f"free at least {size:,} bytes there, or choose another folder"
    elif isinstance(error, FileNotFoundError | NotADirectoryError):
        advice = "create its folder first"
    else:
        advice = "choose a folder you may write to"
    return f"could not write {target} ({reason}); its previous content is unchanged: {advice}"
