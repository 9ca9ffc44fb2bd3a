"""Write media that are embedded in the rows of a table to files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlmba.storage import atomic_write_bytes, make_folder

__all__ = ["as_file"]

_LONGEST_SUFFIX = 6
_BEGINNINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"fLaC", ".flac"),
    (b"OggS", ".ogg"),
    (b"\x1aE\xdf\xa3", ".webm"),
    (b"ID3", ".mp3"),
    (b"\xff\xfb", ".mp3"),
)


def as_file(value: Mapping[str, Any] | None, folder: Path) -> str | None:
    """The path of a file given as ``bytes``, ``path`` or both; None if there is neither.

    Bytes are written into ``folder``, named by their checksum, unless the file exists. A file that a
    power failure left incomplete has another length and is written again.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    data = None if value is None else value.get("bytes")
    given = None if value is None else value.get("path")
    if not data:
        return given or None
    name = hashlib.blake2b(data, digest_size=16).hexdigest() + _suffix(data, given)
    target = folder / name[:2] / name
    try:
        if target.stat().st_size == len(data):
            return str(target)
    except OSError:
        pass
    make_folder(target.parent)
    atomic_write_bytes(target, data, durable=False)
    return str(target)


def _suffix(data: bytes, path: str | None) -> str:
    suffix = Path(path or "").suffix.lower()
    if suffix[1:].isalnum() and len(suffix) <= _LONGEST_SUFFIX:
        return suffix
    if data[:4] == b"RIFF":
        return {b"WAVE": ".wav", b"WEBP": ".webp", b"AVI ": ".avi"}.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        return ".mp4"
    return next((s for start, s in _BEGINNINGS if data.startswith(start)), "")
