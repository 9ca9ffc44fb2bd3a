"""Features of a frozen encoder on disk, by the content of each sample."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlmba.database import Database
from rlmba.errors import RlmbaWarning

__all__ = ["FeatureStore"]

_COLUMNS = "key BLOB PRIMARY KEY, features BLOB NOT NULL, checksum BLOB NOT NULL"


class FeatureStore:
    """Rows of features by key, in a file that several processes may read and extend at a time.

    A row is on disk completely or not at all. A row that was damaged later has another checksum: it counts
    as missing, with a warning, and is replaced when its features are added again.

    Parameters
    ----------
    folder : path
    identity : str
        Checksum of the encoder, which names the file: features of other weights are never read.
    width : int
        Number of features.

    Raises
    ------
    StorageError
        From every method, if the file cannot be read or written.
    """

    def __init__(self, folder: Path, identity: str, width: int) -> None:
        self.path = folder / f"{identity}.sqlite"
        self.width = width
        self._database = Database(self.path, _COLUMNS)

    def read(
        self, keys: Sequence[bytes]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        """Read the features of samples.

        Parameters
        ----------
        keys : sequence of bytes [n]
            Equal only for equal content.

        Returns
        -------
        features : float32 array [n, width]
            Zeros where nothing is known, or nothing could be read.
        known : bool array [n]
            Whether the sample's features are stored.
        readable : bool array [n]
            Whether its content could be read when they were computed.
        """
        places: dict[bytes, list[int]] = {}
        for position, key in enumerate(keys):
            places.setdefault(key, []).append(position)
        features = np.zeros((len(keys), self.width), np.float32)
        known = np.zeros(len(keys), np.bool_)
        readable = np.zeros(len(keys), np.bool_)
        damaged = 0
        for key, row, checksum in self._database.read("key, features, checksum", list(places)):
            if checksum != _checksum(key, row) or len(row) not in (0, 4 * self.width):
                damaged += 1
                continue
            at = places[key]
            known[at] = True
            if row:
                readable[at] = True
                features[at] = np.frombuffer(row, "<f4")
        if damaged:
            warnings.warn(
                f"{self.path}: {damaged} rows of features are damaged and are computed again",
                RlmbaWarning,
                stacklevel=3,
            )
        return features, known, readable

    def add(
        self, keys: Sequence[bytes], features: NDArray[np.float32], readable: NDArray[np.bool_]
    ) -> None:
        """Add rows, all of them or none.

        Parameters
        ----------
        keys : sequence of bytes [n]
        features : float32 array [n, width]
        readable : bool array [n]
            Rows of samples that could not be read are stored without features.
        """
        rows = np.ascontiguousarray(features, "<f4")
        found = [r.tobytes() if there else b"" for r, there in zip(rows, readable, strict=True)]
        self._database.add((k, r, _checksum(k, r)) for k, r in zip(keys, found, strict=True))


def _checksum(key: bytes, row: bytes) -> bytes:
    return hashlib.blake2b(key + row, digest_size=8).digest()
