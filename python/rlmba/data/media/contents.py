"""Checksums of the content of files, remembered by path, size and time of change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from rlmba.database import Database
from rlmba.errors import StorageError
from rlmba.progress import counted
from rlmba.storage import cache_folder

__all__ = ["file_checksums"]

_WHOLE = 2**26
_END = 2**20


def file_checksums(paths: Iterable[Path]) -> dict[Path, bytes]:
    """Checksums (BLAKE2b, 128 bits) of files or folders of frames.

    A file is read only if it is new or was changed since the last call; checksums are remembered in the
    user's cache folder. Of files above 64 MiB, the size and the first and last MiB are read.

    Parameters
    ----------
    paths : iterable of path

    Returns
    -------
    dict of path to bytes
        Without files that cannot be read.
    """
    facts = {}
    for path in dict.fromkeys(paths):
        with suppress(OSError):
            facts[path] = _facts(path)
    memo = Database(
        cache_folder() / "files.sqlite",
        "key BLOB PRIMARY KEY, facts TEXT NOT NULL, checksum BLOB NOT NULL",
    )
    by_key = {os.fsencode(path.absolute()): path for path in facts}
    found = {}
    with suppress(StorageError):  # without a usable cache folder, files are read every time
        for key, fact, checksum in memo.read("key, facts, checksum", list(by_key)):
            if fact == facts[by_key[key]]:
                found[by_key[key]] = checksum
    fresh = {}
    unknown = [path for path in facts if path not in found]
    for path in counted("reading files", unknown, len(unknown)):
        with suppress(OSError):
            fresh[path] = _checksum(path)
    with suppress(StorageError):
        memo.add((os.fsencode(p.absolute()), facts[p], c) for p, c in fresh.items())
    return {**found, **fresh}


def _facts(path: Path) -> str:
    stat = path.stat()
    if not path.is_dir():
        return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    with os.scandir(path) as entries:
        return repr(sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries))


def _checksum(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            digest.update(os.fsencode(entry.name) + _checksum(entry))
        return digest.digest()
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE:
            digest.update(file.read())
        else:
            digest.update(str(size).encode() + file.read(_END))
            file.seek(-_END, os.SEEK_END)
            digest.update(file.read())
    return digest.digest()
