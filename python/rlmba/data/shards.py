"""Pools in several files, read block by block."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.shard_files import SHARDS, ShardFile, file_checksum, find_shard_list
from rlmba.data.shard_formats import FILES, Arrays, Column, Shard, files_in, opener, readable
from rlmba.errors import DataError, UsageError

__all__ = ["Column", "ShardedPool"]

_BLOCK_BYTES = 32 << 20
_REPLACED = "it is damaged or was replaced; write or copy it again"


def _open(path: Path, listed: ShardFile | None = None) -> Shard:
    """Open a shard; one that a list names must be as it says."""
    if listed is not None:
        _require_size(path, listed)
    opened = opener(path)
    if opened is None:
        raise DataError(
            f"{path}: expected a shard: a file of {', '.join(FILES)}, or a folder with .npy files or "
            "named .lance"
        )
    try:
        with readable(path):
            shard = opened(path)
    except DataError as error:
        if listed is not None and (reason := _other_content(path, listed)):
            raise DataError(reason) from error
        raise
    if listed is not None and shard.rows != listed.rows:
        raise DataError(
            f"{path}: expected {listed.rows:,} rows as in {SHARDS}, found {shard.rows:,}; {_REPLACED}"
        )
    return shard


def _require_size(path: Path, listed: ShardFile) -> None:
    size = path.stat().st_size
    if size != listed.size:
        raise DataError(
            f"{path}: expected {listed.size:,} bytes as in {SHARDS}, found {size:,}; {_REPLACED}"
        )


def _other_content(path: Path, listed: ShardFile) -> str:
    """Why a shard is not the listed one; "" if it is."""
    if file_checksum(path) == listed.sha256:
        return ""
    return f"{path}: expected the SHA-256 that {SHARDS} lists, found another; {_REPLACED}"


def _natural(path: Path) -> list[Any]:
    """Sorts part-2 before part-10."""
    return [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path.name)]


class ShardedPool:
    """A pool in shards. Opening it reads their sizes and types, but no rows.

    Parameters
    ----------
    shards : path or sequence of path
        Shards in order, or one folder, whose shards are taken in the order of their names (part-2 before
        part-10). A shard is a ``.parquet``, ``.safetensors`` or ``.npz`` file, an ``.arrow`` file as Hugging
        Face ``datasets`` save it, a folder with one ``.npy`` file an array, or a ``.lance`` folder.
        Columns have the names that
        :func:`rlmba.data.pool_file.read_pool` reads: ``ids`` (or ``id``), ``features``, ``features/image``,
        ``logits``, ``present``, ``labeled``, ``labels``, ... If the folder has a ``shards.json``, as
        ``rlmba outputs`` writes it, the shards must be those that it lists, of the listed sizes.

    Attributes
    ----------
    rows : int
        Samples in all shards.
    columns : dict of str to Column
        The same in all shards.

    Raises
    ------
    DataError
        If there is no shard, one cannot be read, shards differ in their columns, or the folder is not what
        its ``shards.json`` lists; the message names the shard.
    UsageError
        If pyarrow is needed but not installed.
    """

    def __init__(self, shards: Path | str | Sequence[Path | str]) -> None:
        self._files: dict[Path, ShardFile] = {}
        paths = _listed(shards)
        if isinstance(shards, str | Path) and Path(shards).is_dir():
            self._files = _files_of(Path(shards), paths)
        self._shards = [_open(path, self._files.get(path)) for path in paths]
        filled = [shard for shard in self._shards if shard.rows] or self._shards[:1]
        self.columns = filled[0].columns
        for shard in filled[1:]:
            _require_alike(shard, filled[0])
        self._ends = np.cumsum([shard.rows for shard in self._shards])
        self.rows = int(self._ends[-1])

    @property
    def paths(self) -> tuple[Path, ...]:
        """The shards' paths in order."""
        return tuple(shard.path for shard in self._shards)

    def verify(self) -> None:
        """Read all shards, and compare their checksums with those in ``shards.json``.

        Raises
        ------
        UsageError
            If there is no ``shards.json``.
        DataError
            If a shard is another than the listed one; the message names the first such shard.
        """
        if not self._files:
            raise UsageError(
                f"{self.paths[0].parent}: expected a folder with {SHARDS}, which lists the checksums of the "
                "shards; `rlmba outputs` writes it"
            )
        for shard in self._shards:
            if reason := self._damage(shard):
                raise DataError(reason)

    def _damage(self, shard: Shard) -> str:
        """How a shard differs from what was opened or listed; "" if it does not, or nothing is known."""
        if shard.changed:
            return (
                f"{shard.path}: the shard has changed since it was opened; select again once nothing writes "
                "to the pool"
            )
        listed = self._files.get(shard.path)
        return "" if listed is None else _other_content(shard.path, listed)

    @property
    def digest(self) -> str:
        """Digits that differ between pools whose shards differ in name, rows, bytes or listed checksum."""
        listed = {path: file.sha256 for path, file in self._files.items()}
        about = [
            f"{s.path.name}\t{s.rows}\t{_bytes_of(s.path)}\t{listed.get(s.path, '')}"
            for s in self._shards
        ]
        return sha256("\n".join(about).encode()).hexdigest()[:12]

    def place(self, row: int) -> str:
        """A row for messages: its shard, and its number in it, from 0."""
        at = int(np.searchsorted(self._ends, row, side="right"))
        return f"{self._shards[at].path}, row {row - self._begin(at)}"

    def _begin(self, shard: int) -> int:
        return int(self._ends[shard - 1]) if shard else 0

    def blocks(
        self, names: Sequence[str], begin: int = 0, end: int | None = None, size: int | None = None
    ) -> Iterator[tuple[int, Arrays]]:
        """Rows [begin, end) of some columns, in order.

        Parameters
        ----------
        names : sequence of str
        begin, end : int
            Among the rows of all shards; the default is all of them.
        size : int, optional
            Most rows of a block. Default: as many as take 32 MiB.

        Yields
        ------
        (int, dict of str to array)
            The first row's number, and the columns [n] or [n, D].

        Raises
        ------
        DataError
            If a shard cannot be read, or has changed since it was opened.
        """
        end = self.rows if end is None else end
        row_bytes = sum(self.columns[name].nbytes for name in names)
        size = size or max(1, min(1 << 18, _BLOCK_BYTES // max(row_bytes, 1)))
        for at, shard in enumerate(self._shards):
            first = self._begin(at)
            low, high = max(begin - first, 0), min(end - first, shard.rows)
            if low >= high:
                continue
            for start, stop in shard.pieces(low, high, size):
                yield first + start, self._read(shard, names, start, stop)

    def _read(self, shard: Shard, names: Sequence[str], begin: int, end: int) -> Arrays:
        try:
            self._require_unchanged(shard)  # a mapped file that was truncated would end the process
            with readable(shard.path):
                found = shard.read(names, begin, end)
            self._require_shapes(shard, names, found, begin, end)
        except DataError as error:
            if reason := self._damage(shard):
                raise DataError(reason) from error
            raise
        self._require_unchanged(shard)
        return found

    def _require_unchanged(self, shard: Shard) -> None:
        if shard.changed:
            raise DataError(self._damage(shard))

    def _require_shapes(
        self, shard: Shard, names: Sequence[str], found: Arrays, begin: int, end: int
    ) -> None:
        for name in names:
            a, column = found[name], self.columns[name]
            if len(a) != end - begin or (
                column.width is not None and a.shape[1:] != (column.width,)
            ):
                raise DataError(
                    f"{shard.path}: column {name!r}: expected {end - begin} rows of {column} at row {begin}, "
                    f"got shape {a.shape}; the shard has changed since it was opened, or it is damaged"
                )

    def take(self, names: Sequence[str], rows: NDArray[np.int64]) -> Arrays:
        """Some rows of some columns, by their numbers among the rows of all shards, in the given order."""
        order = np.argsort(rows, kind="stable")
        wanted, found = rows[order], {name: [] for name in names}  # type: ignore[var-annotated]
        for at, shard in enumerate(self._shards):
            first = self._begin(at)
            here = wanted[(wanted >= first) & (wanted < first + shard.rows)] - first
            if not len(here):
                continue
            for start, stop in shard.pieces(int(here[0]), int(here[-1]) + 1, 1 << 16):
                some = here[(here >= start) & (here < stop)] - start
                if len(some):
                    block = self._read(shard, names, start, stop)
                    for name in names:
                        found[name].append(block[name][some])
        back = np.argsort(order)
        return {name: np.concatenate(parts)[back] for name, parts in found.items()}


def _listed(shards: Path | str | Sequence[Path | str]) -> list[Path]:
    if not isinstance(shards, str | Path):
        listed = [Path(path) for path in shards]
        if not listed:
            raise UsageError("expected at least one shard, got none")
        return listed
    path = Path(shards)
    if not path.is_dir():
        return [path]
    inside = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=_natural)
    found = [p for p in inside if opener(p) is not None]
    if found:
        return found
    if opener(path) is not None:
        return [path]
    raise DataError(
        f"{path}: expected shards: files of {', '.join(FILES)}, or folders with .npy files, got none of them"
    )


def _files_of(folder: Path, paths: Sequence[Path]) -> dict[Path, ShardFile]:
    """What the list in a folder says of its shards, which must be exactly those that it lists."""
    found = find_shard_list(folder)
    if found is None:
        return {}
    if not found.complete:
        raise DataError(
            f"{folder} is incomplete: its shards are still being written, or the command that writes them "
            "was interrupted; run that command again, which writes the missing ones"
        )
    files = {folder / file.name: file for file in found.shards}
    if missing := [path for path in files if path not in set(paths)]:
        raise DataError(
            f"{missing[0]}: {SHARDS} lists this shard, but it is missing; write or copy it again"
        )
    if extra := [path for path in paths if path not in files]:
        raise DataError(f"{extra[0]}: {SHARDS} does not list this shard; move it out of the folder")
    return files


def _bytes_of(path: Path) -> int:
    return sum(file.stat().st_size for file in files_in(path))


def _require_alike(shard: Shard, first: Shard) -> None:
    ours, theirs = shard.columns, first.columns
    if set(ours) != set(theirs):
        name = min(set(ours) ^ set(theirs))
        lacking, having = (shard, first) if name in theirs else (first, shard)
        raise DataError(
            f"{lacking.path}: expected the columns of {having.path}, but {name!r} is missing"
        )
    for name, column in ours.items():
        other = theirs[name]
        text = column.dtype.kind in "USO" and other.dtype.kind in "USO"
        if column.width != other.width or not (text or column.dtype == other.dtype):
            raise DataError(
                f"{shard.path}: column {name!r}: expected {other} as in {first.path}, got {column}"
            )
