"""Small SQLite databases in folders of this package: opened safely, with errors in its own words."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rlmba.errors import RlmbaWarning, StorageError
from rlmba.storage import make_folder, open_own

__all__ = ["Database"]

_WAIT = 60.0
"""Seconds to wait for another process that writes."""
_AT_ONCE = 500
"""Parameters of one query; SQLite's limit is 999 in old versions."""


_REMEDIES = {
    "full": "free space there, or choose another folder",
    "locked": "wait for the other process that writes there, or end it",
    "I/O": "check the disk, or choose another folder",
}
_OTHERWISE = "check its permissions"


class Database:
    """A table with a primary key, which several processes may read and extend at a time.

    A transaction is on disk completely or not at all, so that a process may be killed at any moment. A file
    that is not a usable database is set aside under the suffix ".damaged", with a warning, and an empty one
    takes its place: what it held can be computed again.

    Parameters
    ----------
    path : path
        The file; its folder is created when something is written.
    columns : str
        SQL of the columns of the table ``entries``, the first of which is ``key``.

    Raises
    ------
    StorageError
        From every method, if the file cannot be read or written.
    """

    def __init__(self, path: Path, columns: str) -> None:
        self.path = path
        self._columns = columns

    def read(self, wanted: str, keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the columns ``wanted`` (SQL) of the entries with these keys, in any order."""
        if not self.path.is_file():
            return
        try:
            try:
                found = self._select(wanted, keys, write=False)
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # nothing was written yet
                    return
                # A killed process may have left a transaction that has to be undone first.
                found = self._select(wanted, keys, write=True)
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            return
        yield from found

    def _select(self, wanted: str, keys: Sequence[Any], *, write: bool) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        with self._opened(write=write) as database:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT {wanted} FROM entries WHERE key IN ({marks})"
                found += database.execute(query, part).fetchall()
        return found

    def add(self, entries: Iterable[Sequence[Any]]) -> None:
        """Add or replace entries, in one transaction."""
        rows = list(entries)
        if not rows:
            return
        make_folder(self.path.parent)
        try:
            self._insert(rows)
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            try:
                self._insert(rows)
            except sqlite3.DatabaseError as again:
                raise StorageError(f"{self.path}: cannot be written: {again}") from again

    def _insert(self, rows: list[Sequence[Any]]) -> None:
        marks = ",".join("?" * len(rows[0]))
        with self._opened(write=True) as database:
            database.execute(f"CREATE TABLE IF NOT EXISTS entries ({self._columns}) WITHOUT ROWID")
            database.executemany(f"INSERT OR REPLACE INTO entries VALUES ({marks})", rows)

    @contextmanager
    def _opened(self, *, write: bool) -> Iterator[sqlite3.Connection]:
        """Open the file, which may come from somebody else: no link is followed, no function is run."""
        try:
            os.close(open_own(self.path, os.O_RDWR | os.O_CREAT if write else os.O_RDONLY))
        except OSError as error:
            raise StorageError(
                f"{self.path}: cannot be opened ({error.strerror}); {_OTHERWISE}"
            ) from error
        where = f"file:{quote(str(self.path.absolute()))}?mode={'rw' if write else 'ro'}"
        database = sqlite3.connect(where, timeout=_WAIT, uri=True)
        try:
            database.execute("PRAGMA trusted_schema=OFF")
            (kind,) = database.execute(
                "SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger')"
            ).fetchone()
            if kind:
                raise sqlite3.DatabaseError("it contains views or triggers")
            with database:
                yield database
        finally:
            database.close()

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Rename a damaged file; any other error is raised as a StorageError."""
        if isinstance(error, sqlite3.OperationalError) and "no such column" not in str(error):
            remedy = next((r for part, r in _REMEDIES.items() if part in str(error)), _OTHERWISE)
            raise StorageError(
                f"{self.path}: cannot be read or written: {error}; {remedy}. What was written before is kept"
            ) from error
        aside = self.path.with_name(self.path.name + ".damaged")
        with suppress(OSError):
            self.path.replace(aside)
        warnings.warn(
            f"{self.path}: expected a database of this package, found a damaged file ({error}); it was "
            f"renamed to {aside.name}, and its content is computed again",
            RlmbaWarning,
            stacklevel=4,
        )
