"""Decoded media, kept on disk so that training reads them instead of the original files.

Each sample has a file with its decoded arrays, named by the content of its original files and by how they
are decoded. So samples may be added, changed and removed, and nothing that is kept is ever wrong.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.base import MultimodalDataset
from rlmba.data.media.dataset import MediaDataset
from rlmba.data.media.reader import RawReader
from rlmba.data.media.shards import sample_bytes
from rlmba.errors import StorageError
from rlmba.progress import announce
from rlmba.storage import atomic_write_bytes, make_folder, open_own

__all__ = ["KeptReader", "decoded_bytes", "keep_decoded"]

_FORMAT = b"decoded 1"
_SUFFIX = ".safetensors"
_CHECKSUM = 16
_DECODED = ("text", "image", "video", "audio")
_SLOW = frozenset({"image", "video", "audio"})
"""Modalities that take long to decode; data sets without any of them are not kept."""


class KeptReader:
    """A :class:`~rlmba.data.media.content.Reader` that decodes a sample once and keeps its arrays.

    Several processes may read and write at a time. A file that is damaged is replaced, and one that cannot be
    written is left out: the sample is decoded again at the next read.

    Parameters
    ----------
    reader : RawReader
        It decodes.
    keys : sequence of bytes or None
        By dataset position, equal only where the reader returns equal arrays; None: not kept.
    folder : path
    """

    def __init__(self, reader: RawReader, keys: Sequence[bytes | None], folder: Path) -> None:
        self._reader = reader
        self._keys = keys
        self._folder = folder

    def read(self, position: int) -> Mapping[str, NDArray[Any] | None]:
        """See :meth:`rlmba.data.media.content.Reader.read`."""
        key = self._keys[position]
        if key is None:
            return self._reader.read(position)
        sources = self._reader.samples[position].sources
        file = _file(self._folder, key)
        found = _load(file, key)
        if found is None:
            decoded = self._reader.decoded(position)
            found = {m: array for m, array in decoded.items() if array is not None}
            if all(m in found for m, source in sources.items() if source is not None):
                _store(file, key, found)
        return {**{m: found.get(m) for m in sources}, **self._reader.undecoded(position)}


def decoded_bytes(dataset: MultimodalDataset) -> int:
    """About how many bytes :func:`keep_decoded` would keep; 0 if there is nothing to keep."""
    return _each(dataset) * len(dataset)


def keep_decoded(dataset: MultimodalDataset, folder: Path, most: int) -> None:
    """Keep what a data set decodes from now on, and remove what is kept of other content.

    Parameters
    ----------
    dataset : MultimodalDataset
        Only one that decodes media files is changed.
    folder : path
        Only this process and its workers write there. It is created if needed.
    most : int
        Bytes that may be kept, about; half of the free disk space is the limit as well. The first samples
        are kept.

    Raises
    ------
    StorageError
        If the folder cannot be created.
    """
    each = _each(dataset)
    if not each or not isinstance(dataset, MediaDataset):
        return
    make_folder(folder)
    announce("looking for decoded media")
    keys = _keys(dataset)
    free = _remove_except(folder, keys) + shutil.disk_usage(folder).free // 2
    room = min(most, free) // each
    kept = [key if i < room else None for i, key in enumerate(keys)]
    _remove_except(folder, kept)
    dataset.reader = KeptReader(dataset.reader, kept, folder)  # type: ignore[arg-type]


def _each(dataset: MultimodalDataset) -> int:
    """About how many bytes a decoded sample has; 0 if there is nothing to keep."""
    if not isinstance(dataset, MediaDataset) or not isinstance(dataset.reader, RawReader):
        return 0
    names = [m.name for m in dataset.modalities if m.name in _DECODED]
    if dataset.in_memory or not _SLOW & set(names):
        return 0
    return sample_bytes(names, dataset.recipe)[1]


def _keys(dataset: MediaDataset) -> list[bytes]:
    by_modality = dataset.sample_keys()
    parts = [by_modality[m.name] for m in dataset.modalities if m.name in _DECODED]
    return [
        hashlib.blake2b(b"\0".join([_FORMAT, *key]), digest_size=16).digest()
        for key in zip(*parts, strict=True)
    ]


def _file(folder: Path, key: bytes) -> Path:
    name = key.hex()
    return folder / name[:2] / f"{name}{_SUFFIX}"


def _load(file: Path, key: bytes) -> dict[str, NDArray[Any]] | None:
    """The arrays in a file; None if there is none or it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        with os.fdopen(open_own(file, os.O_RDONLY), "rb") as stream:
            data = stream.read()
    except (OSError, StorageError):
        return None
    content, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
    if _checksum(key, content) != checksum:
        return None
    with suppress(SafetensorError):
        return load(content)
    return None


def _store(file: Path, key: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
    from safetensors.numpy import save

    content = save({m: np.ascontiguousarray(a) for m, a in arrays.items()})
    with suppress(StorageError):
        make_folder(file.parent)
        atomic_write_bytes(file, content + _checksum(key, content), durable=False)


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECKSUM, key=key).digest()


def _remove_except(folder: Path, keys: Iterable[bytes | None]) -> int:
    """Remove the files of other keys, and what a killed process left; returns the bytes of the others."""
    names = {f"{key.hex()}{_SUFFIX}" for key in keys if key is not None}
    size = 0
    for file in folder.glob("??/*"):
        ours = file.name.endswith((_SUFFIX, ".tmp")) and not file.is_symlink()
        with suppress(OSError):
            if file.name in names:
                size += file.stat().st_size
            elif ours:
                file.unlink()
    return size
