"""Pools in several files: Parquet, safetensors, NumPy and Arrow shards, read block by block."""

from __future__ import annotations

import contextlib
import json
import mmap
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlmba.data.arrays import NUMBERED, table_arrays
from rlmba.data.shard_files import SHARDS, ShardFile, file_checksum, find_shard_list
from rlmba.errors import DataError, RlmbaError, UsageError
from rlmba.reading.arrays import read_npy, read_npz
from rlmba.reading.parquet import pyarrow_for

__all__ = ["Column", "ShardedPool"]

_FILES = (".parquet", ".safetensors", ".npz", ".arrow")
_BLOCK_BYTES = 32 << 20
_AGAIN = "it may be damaged or truncated; write or copy it again"
_REPLACED = "it is damaged or was replaced; write or copy it again"

Arrays: TypeAlias = "dict[str, NDArray[Any]]"


@dataclass(frozen=True)
class Column:
    """The type of a column's entry: ``width`` values (None: one) of ``dtype``; text has any length."""

    width: int | None
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of an entry; text counts as 64."""
        return 64 if self.dtype.kind in "USO" else (self.width or 1) * self.dtype.itemsize

    def __str__(self) -> str:
        kind = "text" if self.dtype.kind in "US" else str(self.dtype)
        return kind if self.width is None else f"{self.width:,} x {kind}"


_UNKNOWN = Column(None, np.dtype(object))
"""Of a shard without rows."""


def _column(a: NDArray[Any]) -> Column:
    return Column(None if a.ndim == 1 else a.shape[1], a.dtype)


class _Shard:
    """One shard: its rows and columns, and how to read a range of rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.columns: dict[str, Column] = {}
        self._state = _state_of(path)

    @property
    def changed(self) -> bool:
        """Whether its files are others than when it was opened, by their sizes and times."""
        return _state_of(self.path) != self._state

    def read(self, names: Sequence[str], begin: int, end: int) -> Arrays:
        """Rows [begin, end) of some columns."""
        raise NotImplementedError

    def pieces(self, begin: int, end: int, size: int) -> Iterator[tuple[int, int]]:
        """Divide rows [begin, end) into ranges of at most ``size`` rows that are read well at once."""
        for start in range(begin, end, size):
            yield start, min(start + size, end)


def _files_in(path: Path) -> list[Path]:
    """The file of a shard, or the files of a folder that is one, in order."""
    if not path.is_dir():
        return [path]
    return sorted(f for f in path.rglob("*" if _is_lance(path) else "*.npy") if f.is_file())


def _is_lance(path: Path) -> bool:
    return path.suffix.lower() == ".lance"


def _state_of(path: Path) -> list[tuple[str, int, int, int]] | None:
    """What tells a file, or the files of a folder, from others; None if a file is gone."""
    try:
        files = _files_in(path)
        return [
            (str(f), status.st_ino, status.st_size, status.st_mtime_ns)
            for f in files
            for status in [f.stat()]
        ]
    except OSError:
        return None


class _Mapped(_Shard):
    """Arrays that are memory-mapped: a ``.npz`` file, or a folder of ``.npy`` files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._arrays = dict(self._open())
        sizes = {name: len(a) for name, a in self._arrays.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(f"{path}: expected one row a sample in every array, got {sizes} rows")
        if bad := [name for name, a in self._arrays.items() if a.ndim not in (1, 2)]:
            raise DataError(f"{path}: expected arrays [N] or [N, D], {bad[0]!r} has another shape")
        self.rows = next(iter(sizes.values()), 0)
        self.columns = {name: _column(a) for name, a in self._arrays.items()}

    def _open(self) -> Arrays:
        if self.path.is_file():
            return read_npz(self.path, mapped=True)
        files = sorted(self.path.rglob("*.npy"))
        return {
            str(f.relative_to(self.path).with_suffix("").as_posix()): read_npy(f) for f in files
        }

    def read(self, names: Sequence[str], begin: int, end: int) -> Arrays:
        found = {name: np.array(self._arrays[name][begin:end]) for name in names}
        for name in names:
            _forget(self._arrays[name])
        return found


def _forget(array: Any) -> None:
    """Give back the memory of a mapped array's pages, which stay in the system's cache."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    if array is not None:
        array.madvise(mmap.MADV_DONTNEED)


class _Tensors(_Shard):
    """A safetensors file."""

    def __init__(self, path: Path) -> None:
        import safetensors

        super().__init__(path)
        opened: Any = safetensors.safe_open
        self._file = opened(str(path), framework="np")
        self._ids: NDArray[Any] | None = None
        slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118
        shapes = {name: tuple(s.get_shape()) for name, s in slices.items()}
        if listed := (self._file.metadata() or {}).get("ids"):
            self._ids = np.array(json.loads(listed))
            shapes["ids"] = self._ids.shape
        if len({shape[0] for shape in shapes.values()}) > 1:
            raise DataError(f"{path}: expected one row a sample in every tensor, got {shapes}")
        self.rows = next((shape[0] for shape in shapes.values()), 0)
        self.columns = (
            {name: _column(a) for name, a in self.read(list(shapes), 0, 1).items()}
            if self.rows
            else dict.fromkeys(shapes, _UNKNOWN)
        )

    def read(self, names: Sequence[str], begin: int, end: int) -> Arrays:
        found: Arrays = {}
        for name in names:
            if name == "ids" and self._ids is not None:
                found[name] = self._ids[begin:end]
            else:
                found[name] = self._file.get_slice(name)[begin:end]
        return found


class _Parquet(_Shard):
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        _, pq = pyarrow_for(path, "reading")
        self._file = pq.ParquetFile(str(path), memory_map=True, page_checksum_verification=True)
        about = self._file.metadata
        self.rows = about.num_rows
        groups = [about.row_group(g).num_rows for g in range(about.num_row_groups)]
        self._ends = np.cumsum(groups).tolist()
        self._stored = _stored_names(self._file.schema_arrow)
        if not self.rows:
            self.columns = dict.fromkeys(self._stored, _UNKNOWN)
        elif known := _columns_of(self._file.schema_arrow):
            self.columns = known
        else:
            first = next(self._file.iter_batches(batch_size=1))
            self.columns = {k: _column(a) for k, a in self._arrays(first).items()}

    def _arrays(self, *batches: Any) -> Arrays:
        import pyarrow as pa

        return table_arrays(self.path, pa.Table.from_batches(batches))

    def pieces(self, begin: int, end: int, size: int) -> Iterator[tuple[int, int]]:
        start = 0
        for stop in self._ends:
            low, high = max(begin, start), min(end, stop)
            # A group is decompressed as a whole: small ones are read together with nothing else.
            yield from super().pieces(low, high, size)
            start = stop

    def read(self, names: Sequence[str], begin: int, end: int) -> Arrays:
        stored = [s for name in names for s in self._stored[name]]
        group = int(np.searchsorted(self._ends, begin, side="right"))
        offset = self._ends[group - 1] if group else 0
        found, at = [], offset
        for batch in self._file.iter_batches(
            batch_size=max(end - begin, 1), row_groups=[group], columns=stored
        ):
            low, high = max(begin - at, 0), min(end - at, batch.num_rows)
            if low < high:
                found.append(batch.slice(low, high - low))
            at += batch.num_rows
            if at >= end:
                break
        return self._arrays(*found)


class _Lance(_Shard):
    """A Lance data set, at the version that it has when it is opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import lance
        except ImportError as error:
            raise UsageError(
                f'{path}: reading Lance needs its package; pip install "rlmba[lance]"'
            ) from error
        self._data = lance.dataset(str(path))
        self.rows = self._data.count_rows()
        self._stored = _stored_names(self._data.schema)
        if not self.rows:
            self.columns = dict.fromkeys(self._stored, _UNKNOWN)
        else:
            known = _columns_of(self._data.schema)
            first = {} if known else self.read(list(self._stored), 0, 1)
            self.columns = known or {k: _column(a) for k, a in first.items()}

    def read(self, names: Sequence[str], begin: int, end: int) -> Arrays:
        stored = [s for name in names for s in self._stored[name]]
        table = self._data.to_table(columns=stored, offset=begin, limit=end - begin)
        return table_arrays(self.path, table)


def _stored_names(schema: Any) -> dict[str, list[str]]:
    """The columns of a table by the arrays that they belong to."""
    found: dict[str, list[str]] = {}
    for field in schema:
        # Only columns of single values are columns of an array: see table_arrays.
        match = None if hasattr(field.type, "value_type") else NUMBERED.fullmatch(field.name)
        found.setdefault(match["name"] if match else field.name, []).append(field.name)
    if "id" in found:
        found["ids"] = found.pop("id")
    return found


def _columns_of(schema: Any) -> dict[str, Column] | None:
    """The columns, if they are numbers, booleans, text and lists of fixed length; otherwise None."""
    import pyarrow as pa

    found: dict[str, Column] = {}
    for field in schema:
        kind, width = field.type, None
        if pa.types.is_fixed_size_list(kind):
            kind, width = kind.value_type, kind.list_size
        elif NUMBERED.fullmatch(field.name):
            return None
        text = width is None and pa.types.is_string(kind)
        if not (
            text
            or pa.types.is_floating(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_boolean(kind)
        ):
            return None
        dtype = np.dtype(np.str_) if text else np.dtype(kind.to_pandas_dtype())
        found["ids" if field.name == "id" else field.name] = Column(width, dtype)
    return found


class _Arrow(_Shard):
    """An Arrow file in the stream format, as Hugging Face data sets save them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        import pyarrow as pa

        with contextlib.suppress(pa.ArrowInvalid):
            self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        if not hasattr(self, "_table"):
            self._table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        self.rows = self._table.num_rows
        first = table_arrays(path, self._table.slice(0, 1)) if self.rows else {}
        self.columns = {name: _column(a) for name, a in first.items()}

    def read(self, names: Sequence[str], begin: int, end: int) -> Arrays:
        found = table_arrays(self.path, self._table.slice(begin, end - begin))
        return {name: found[name] for name in names}


def _opener(path: Path) -> Callable[[Path], _Shard] | None:
    if path.is_dir():
        if _is_lance(path):
            return _Lance
        return _Mapped if any(path.glob("*.npy")) else None
    kinds: dict[str, Callable[[Path], _Shard]] = {
        ".parquet": _Parquet,
        ".safetensors": _Tensors,
        ".npz": _Mapped,
        ".arrow": _Arrow,
    }
    return kinds.get(path.suffix.lower())


def _open(path: Path, listed: ShardFile | None = None) -> _Shard:
    """Open a shard; one that a list names must be as it says."""
    if listed is not None:
        _require_size(path, listed)
    opener = _opener(path)
    if opener is None:
        raise DataError(
            f"{path}: expected a shard: a file of {', '.join(_FILES)}, or a folder with .npy files or "
            "named .lance"
        )
    try:
        with _readable(path):
            shard = opener(path)
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


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A block whose errors become one error that names the shard."""
    try:
        yield
    except (RlmbaError, MemoryError):
        raise
    except Exception as error:  # Arrow and safetensors raise a dozen kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a readable shard ({reason}); {_AGAIN}") from error


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

    def _damage(self, shard: _Shard) -> str:
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

    def _read(self, shard: _Shard, names: Sequence[str], begin: int, end: int) -> Arrays:
        try:
            self._require_unchanged(shard)  # a mapped file that was truncated would end the process
            with _readable(shard.path):
                found = shard.read(names, begin, end)
            self._require_shapes(shard, names, found, begin, end)
        except DataError as error:
            if reason := self._damage(shard):
                raise DataError(reason) from error
            raise
        self._require_unchanged(shard)
        return found

    def _require_unchanged(self, shard: _Shard) -> None:
        if shard.changed:
            raise DataError(self._damage(shard))

    def _require_shapes(
        self, shard: _Shard, names: Sequence[str], found: Arrays, begin: int, end: int
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
    if _is_lance(path):
        return [path]
    inside = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=_natural)
    found = [p for p in inside if _opener(p) is not None]
    if found:
        return found
    if _opener(path) is not None:
        return [path]
    raise DataError(
        f"{path}: expected shards: files of {', '.join(_FILES)}, or folders with .npy files, got none of them"
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
    return sum(file.stat().st_size for file in _files_in(path))


def _require_alike(shard: _Shard, first: _Shard) -> None:
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
