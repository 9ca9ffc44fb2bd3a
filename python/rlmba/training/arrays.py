"""Arrays for a model's outputs: in memory or, if they are too large, in memory-mapped files."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import StorageError, UsageError
from rlmba.machine import available_memory

__all__ = ["empty_arrays"]

_Key = TypeVar("_Key")


def empty_arrays(
    shapes: Mapping[_Key, tuple[int, ...]],
    *,
    memory: int | None = None,
    folder: Path | None = None,
) -> dict[_Key, NDArray[Any]]:
    """Allocate float32 arrays.

    Parameters
    ----------
    shapes : mapping of key to shape
    memory : int or None
        Bytes of memory for all arrays together. None allows half of
        :func:`rlmba.machine.available_memory`. If they need more, each array is a
        :class:`numpy.memmap` of an unnamed file. Its disk space is reserved now and freed with the
        array, however the process ends.
    folder : path or None
        Folder for these files; None uses the system's temporary folder.

    Raises
    ------
    StorageError
        If the folder does not have enough space.
    UsageError
        If the folder does not exist.
    """
    sizes = {key: 4 * int(np.prod(shape, dtype=np.int64)) for key, shape in shapes.items()}
    total = sum(sizes.values())
    if total <= (available_memory() // 2 if memory is None else memory):
        return {key: np.empty(shape, np.float32) for key, shape in shapes.items()}
    place = Path(tempfile.gettempdir()) if folder is None else folder
    if not place.is_dir():
        raise UsageError(f"training.spill_folder: expected a folder, found none at {place}")
    return {
        key: _mapped(shape, sizes[key], place, total) if sizes[key] else np.empty(shape, np.float32)
        for key, shape in shapes.items()
    }


def _mapped(shape: tuple[int, ...], size: int, folder: Path, total: int) -> NDArray[Any]:
    try:
        with tempfile.TemporaryFile(dir=folder, prefix="rlmba-") as file:
            # Writing to a sparse file on a full disk would kill the process without a message.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.float32, "r+", shape=shape)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise StorageError(
            f"could not map a file of {size:,} bytes in {folder} ({error.strerror or error}): the "
            f"outputs for this pool take {total:,} bytes, more than half of the free memory; "
            f"{'free some space there, or ' * full}give a larger disk as training.spill_folder"
        ) from error
