"""Named arrays out of a file: ``.npz``, ``.npy``, ``.parquet``, ``.safetensors``."""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rlmba.cells import as_text
from rlmba.errors import DataError, RlmbaError, UsageError
from rlmba.ids import as_ids

__all__ = ["SUFFIXES", "read_arrays"]

SUFFIXES = (".npz", ".npy", ".parquet", ".safetensors")

_NUMBERED = re.compile(r"(?P<name>.+)_(?P<column>\d+)")
_LOCAL_HEADER = 30  # bytes of a zip member's header before its name
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def read_arrays(path: Path, *, npy_holds: str | None = None) -> dict[str, NDArray[Any]]:
    """Every array of a file by name.

    Parameters
    ----------
    path : path
        ``.npz``: its arrays; those that are stored uncompressed and aligned are memory-mapped.
        ``.npy``: one array, memory-mapped. ``.safetensors``: its tensors, bfloat16 as float32;
        ids may be a JSON list under ``ids`` in its metadata. ``.parquet``: a column of numbers,
        booleans or strings is an array [N]; a list column whose lists are equally long, or columns
        ``name_0``, ``name_1``, ... are an array [N, D]; ``id`` is read as ``ids``.
    npy_holds : str, optional
        The name of the array in a ``.npy``.

    Raises
    ------
    DataError
        If there is no such file, or it cannot be read without pickle, or is damaged.
    UsageError
        If the suffix is another, ``npy_holds`` is missing, or pyarrow is and the file needs it.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: expected a file of {', '.join(SUFFIXES)}, got {suffix or 'none'}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if suffix == ".npy" and npy_holds is None:
        raise UsageError(
            f"{path}: a .npy holds one array without a name; say what it is, features or logits, "
            "with --npy-holds"
        )
    try:
        if suffix == ".npz":
            return _npz(path)
        if suffix == ".npy":
            return {str(npy_holds): np.load(path, mmap_mode="r", allow_pickle=False)}
        return _parquet(path) if suffix == ".parquet" else _safetensors(path)
    except RlmbaError:
        raise
    except _UNREADABLE as error:
        hint = "it may be truncated or another format; write or copy it again"
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            hint = "save plain numbers or a str array: what needs pickle is never loaded"
        raise DataError(f"{path}: not a readable {suffix} ({error}); {hint}") from error


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        for member in archive.infolist():
            with archive.open(member) as file:
                mapped = _mapped(path, raw, member, file)
            if mapped is None:
                with archive.open(member) as file:
                    mapped = np.lib.format.read_array(file, allow_pickle=False)
            found[member.filename.removesuffix(".npy")] = mapped
    return found


def _mapped(
    path: Path, raw: IO[bytes], member: zipfile.ZipInfo, file: IO[bytes]
) -> NDArray[Any] | None:
    """Map the member's array where its bytes lie in the file as they shall lie in memory."""
    if member.compress_type != zipfile.ZIP_STORED:
        return None
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        return None
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(file)
    raw.seek(member.header_offset + _LOCAL_HEADER - 4)
    name, extra = struct.unpack("<HH", raw.read(4))
    offset = member.header_offset + _LOCAL_HEADER + name + extra + file.tell()
    if dtype.hasobject or 0 in shape or not shape or offset % max(dtype.alignment, 1):
        return None
    order: Any = "F" if fortran else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)


def _safetensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    def opened(framework: str) -> Any:
        opener: Any = safe_open
        return opener(str(path), framework=framework)

    found: dict[str, NDArray[Any]] = {}
    try:
        with opened("np") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            keys = list(file.keys())
            bfloat = [k for k in keys if file.get_slice(k).get_dtype() == "BF16"]
            found = {k: file.get_tensor(k) for k in keys if k not in bfloat}
        if bfloat:
            # NumPy has no bfloat16; torch, which has, is only imported for it.
            with opened("pt") as file:
                found |= {k: file.get_tensor(k).float().numpy() for k in bfloat}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if "ids" in metadata and "ids" not in found:
        found["ids"] = as_ids(json.loads(metadata["ids"]))
    return found


def _parquet(path: Path) -> dict[str, NDArray[Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            f'{path}: reading parquet needs pyarrow; pip install "rlmba[parquet]"'
        ) from error
    table: Any = pq.read_table(str(path), memory_map=True)  # type: ignore[no-untyped-call, unused-ignore]
    found: dict[str, NDArray[Any]] = {}
    numbered: dict[str, dict[int, NDArray[Any]]] = {}
    for name in table.column_names:
        array = _column(path, name, table.column(name))
        match = _NUMBERED.fullmatch(name)
        if match and array.ndim == 1:
            numbered.setdefault(match["name"], {})[int(match["column"])] = array
        else:
            found["ids" if name == "id" else name] = array
    for name, columns in numbered.items():
        missing = sorted(set(range(max(columns) + 1)) - set(columns))
        if missing:
            raise DataError(
                f"{path}: expected columns {name}_0 to {name}_{max(columns)}, "
                f"{name}_{missing[0]} is missing"
            )
        found[name] = np.stack([columns[i] for i in range(len(columns))], axis=1)
    return found


def _column(path: Path, name: str, column: Any) -> NDArray[Any]:
    import pyarrow as pa

    if column.null_count:
        raise DataError(f"{path}: column {name!r}: expected a value in every row, got null")
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # more than one array can hold
        whole = pa.concat_arrays(whole.chunks)
    if pa.types.is_list(whole.type) or pa.types.is_large_list(whole.type):
        widths = np.unique(whole.value_lengths().to_numpy())
        if len(widths) != 1:
            raise DataError(
                f"{path}: column {name!r}: expected lists of one length, got {widths[:5].tolist()}"
            )
    elif not pa.types.is_fixed_size_list(whole.type):
        values: NDArray[Any] = whole.to_numpy(zero_copy_only=False)
        if values.dtype != object:
            return values
        try:
            texts = [v if isinstance(v, str) else as_text(v) or "" for v in values.tolist()]
        except ValueError as error:
            raise DataError(f"{path}: column {name!r}: {error}") from None
        return np.array(texts, dtype=np.str_)
    flat = whole.flatten()
    if flat.null_count:
        raise DataError(f"{path}: column {name!r}: expected a number everywhere, got null")
    matrix: NDArray[Any] = flat.to_numpy(zero_copy_only=False).reshape(len(whole), -1)
    return matrix
