"""Writing files so that a reader sees the old content or the new one, never half of it."""

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
    "holder",
    "is_plain_name",
    "lock_file",
    "locked",
    "make_folder",
    "open_own",
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
    return _user_folder("XDG_CACHE_HOME", ".cache")


def config_folder() -> Path:
    """The package's part of the user's settings, made or not: ``$XDG_CONFIG_HOME`` or ``~/.config``."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def _user_folder(variable: str, name: str) -> Path:
    base = Path(os.environ.get(variable, ""))
    try:
        return (base if base.is_absolute() else Path.home() / name) / "rlmba"
    except RuntimeError as error:
        raise StorageError(
            f"this user has no home folder ({error}); set {variable} to a folder of yours"
        ) from error


def is_plain_name(name: object) -> bool:
    """Whether something that came out of a file may be a file's name: one step, which stays in its folder."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not any(c in "/\\" or not c.isprintable() for c in name)
    )


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


def open_own(path: Path, flags: int) -> int:
    """A descriptor of a regular file in a folder that may come from somebody else.

    A link in the file's place could be any file of this user's, and a pipe would block: both are
    refused. A hard link may be read.

    Parameters
    ----------
    path : path
    flags : int
        As of :func:`os.open`.

    Raises
    ------
    OSError
        If it cannot be opened.
    StorageError
        If it is no regular file, or is to be written to and has another name.
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
                f"{path}: expected a file of this folder alone, found one that has another name (a hard "
                "link), under which it would change too; put a copy in its place"
            )
    raise StorageError(f"{path}: expected a regular file, found {found}; move it away")


def lock_file(descriptor: int, path: Path, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file, for as long as it is open; False where another process holds the lock.

    Raises
    ------
    StorageError
        If its file system has no locks.
    """
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, operation | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise StorageError(
            f"{path} cannot be locked ({error.strerror or error}): expected a file system with locks, which "
            "keep two processes from writing at once; use a folder on a local disk, or have this one "
            "mounted with locks (Lustre: -o flock)"
        ) from error
    return True


@contextmanager
def locked(folder: Path, busy: Callable[[str], Exception], *, wait: bool = False) -> Iterator[None]:
    """Hold a folder's lock, the file ``lock``; the system releases it when the process ends, however it ends.

    Parameters
    ----------
    folder : path
        It must exist.
    busy : callable
        Makes the error to raise where another process holds it, from what names that process.
    wait : bool
        Wait for the other process instead.

    Raises
    ------
    StorageError
        If the folder cannot be written to, its file system has no locks, or ``lock`` is no regular file.
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
    """What names the process that holds a folder's lock; None where none does, or none can."""
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
    """What a lock's holder wrote, as one line that cannot control a terminal."""
    return "".join(filter(str.isprintable, handle.read(200))).strip() or "another process"


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
