"""How each format of shards is read: NumPy, safetensors, Parquet, Lance and Arrow."""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlmba.data.arrays import NUMBERED, table_arrays
from rlmba.errors import DataError, RlmbaError, UsageError
from rlmba.reading.arrays import read_npy, read_npz
from rlmba.reading.parquet import pyarrow_for

__all__ = ["FILES", "Arrays", "Column", "Shard", "files_in", "opener", "readable"]

FILES = (".parquet", ".safetensors", ".npz", ".arrow")
"""Endings of the files that are shards."""
_AGAIN = "it may be damaged or truncated; write or copy it again"

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


class Shard:
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


def files_in(path: Path) -> list[Path]:
    """The file of a shard, or the files of a folder that is one, in order."""
    if not path.is_dir():
        return [path]
    return sorted(f for f in path.rglob("*" if _is_lance(path) else "*.npy") if f.is_file())


def _is_lance(path: Path) -> bool:
    return path.suffix.lower() == ".lance"


def _state_of(path: Path) -> list[tuple[str, int, int, int]] | None:
    """What tells a file, or the files of a folder, from others; None if a file is gone."""
    try:
        files = files_in(path)
        return [
            (str(f), status.st_ino, status.st_size, status.st_mtime_ns)
            for f in files
            for status in [f.stat()]
        ]
    except OSError:
        return None


class _Mapped(Shard):
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


class _Tensors(Shard):
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


class _Parquet(Shard):
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


class _Lance(Shard):
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


class _Arrow(Shard):
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


def opener(path: Path) -> Callable[[Path], Shard] | None:
    """The function that opens a shard; None if the path is none, by its name and what it contains."""
    if path.is_dir():
        if _is_lance(path):
            return _Lance
        return _Mapped if any(path.glob("*.npy")) else None
    kinds: dict[str, Callable[[Path], Shard]] = {
        ".parquet": _Parquet,
        ".safetensors": _Tensors,
        ".npz": _Mapped,
        ".arrow": _Arrow,
    }
    return kinds.get(path.suffix.lower())


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """A block whose errors become one error that names the shard."""
    try:
        yield
    except (RlmbaError, MemoryError):
        raise
    except Exception as error:  # Arrow and safetensors raise a dozen kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a readable shard ({reason}); {_AGAIN}") from error
