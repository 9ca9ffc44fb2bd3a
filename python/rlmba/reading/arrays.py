"""Read arrays by name: ``.npz`` and ``.npy`` without pickle, and safetensors."""

from __future__ import annotations

import struct
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import DataError, RlmbaError
from rlmba.machine import total_memory
from rlmba.reading.files import require_file

if TYPE_CHECKING:
    import torch

__all__ = ["read_npy", "read_npz", "read_tensors", "require_memory"]

_AGAIN = "it may be truncated or another format; write or copy it again"
_PLAIN = "save plain numbers or a str array: arrays of objects need pickle, which is never loaded"
_SURROGATES = (0xD800, 0xDFFF)
_LOCAL_HEADER = 30  # bytes of a zip member's header before its name
_FLOATS = {"F16", "F32", "F64"}
_TYPES = _FLOATS | {"BOOL"} | {f"{kind}{bits}" for kind in "UI" for bits in (8, 16, 32, 64)}
_BFLOAT = "BF16"

_Header = tuple[tuple[int, ...], bool, "np.dtype[Any]"]


def read_npz(path: Path, *, mapped: bool = False) -> dict[str, NDArray[Any]]:
    """Read all arrays of a ``.npz`` file, by name.

    Parameters
    ----------
    path : path
    mapped : bool
        Whether to memory-map arrays that are stored uncompressed and aligned, instead of reading them.

    Raises
    ------
    DataError
        If there is no such file, it is not a zip file or is truncated; if a member is not an array,
        occurs twice, needs pickle, or has another length than its header says; or if the arrays do not
        fit into memory.
    """
    require_file(path, advice="expected a .npz written by numpy.savez")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not a readable .npz, which is a zip of named arrays; {_AGAIN}")
    found: dict[str, NDArray[Any]] = {}
    with _reading(path, ".npz"), zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            with _reading(path, ".npz", name):
                if name in found:
                    raise ValueError("the array occurs twice")
                array = _map(path, archive, member, raw) if mapped else None
                found[name] = _readable(_load(archive, member) if array is None else array)
    return found


def read_npy(path: Path) -> NDArray[Any]:
    """Memory-map the array of a ``.npy`` file.

    Raises
    ------
    DataError
        If there is no such file, or it is truncated, has another format or needs pickle.
    """
    require_file(path, advice="expected a .npy written by numpy.save")
    with _reading(path, ".npy"), path.open("rb") as file:
        shape, fortran, dtype = _header(file, path.stat().st_size)
        if 0 in shape or not shape:
            file.seek(0)
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            return array
        return _readable(_memmap(path, shape, fortran, dtype, file.tell()))


@contextmanager
def _reading(path: Path, suffix: str, name: str | None = None) -> Iterator[None]:
    """A block whose errors become one error that names the file and the array."""
    try:
        yield
    except (RlmbaError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise almost anything on a damaged file
        where = str(path) if name is None else f"{path}, array {name!r}"
        pickled = "pickle" in str(error).lower() or "object" in str(error).lower()
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{where}: not a readable {suffix} ({reason}); {_PLAIN if pickled else _AGAIN}"
        ) from error


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    """The array, unless it is text with a code that is no character: a lone surrogate or beyond Unicode."""
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        codes = np.ascontiguousarray(array).view(
            np.dtype(np.uint32).newbyteorder(array.dtype.byteorder)
        )
        if codes.max() > sys.maxunicode:
            raise ValueError(f"it has text with the code {codes.max()}, which is no character")
        if ((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1])).any():
            raise ValueError("it has text with half a character (a lone surrogate)")
    return array


def _header(file: IO[bytes], size: int) -> _Header:
    """Shape, order and type of an array in a file; ``size`` is the length of header and array in bytes."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the format is not supported")
    if dtype.hasobject:
        raise ValueError("an array of objects, which needs pickle")
    # Python integers, since NumPy's could overflow before the check.
    wanted = dtype.itemsize
    for extent in shape:
        wanted *= extent
    if any(extent < 0 for extent in shape) or wanted != size - file.tell():
        raise ValueError(
            f"{list(shape)} of {dtype} takes {wanted:,} bytes, but there are {size - file.tell():,}"
        )
    return shape, fortran, dtype


def _load(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        _header(file, member.file_size)
    require_memory(Path(str(archive.filename)), member.file_size)
    with archive.open(member) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # reading to the end compares the checksum
            raise ValueError("there are more bytes than the array needs")
    return array


def _map(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, raw: IO[bytes]
) -> NDArray[Any] | None:
    """Memory-map a member's array; None if its bytes in the file cannot be used directly."""
    if member.compress_type != zipfile.ZIP_STORED:
        return None
    with archive.open(member) as file:
        shape, fortran, dtype = _header(file, member.file_size)
        start = file.tell()
    raw.seek(member.header_offset + _LOCAL_HEADER - 4)
    name, extra = struct.unpack("<HH", raw.read(4))
    offset = member.header_offset + _LOCAL_HEADER + name + extra + start
    if 0 in shape or not shape or offset % max(dtype.alignment, 1):
        return None
    return _memmap(path, shape, fortran, dtype, offset)


def _memmap(
    path: Path, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], offset: int
) -> NDArray[Any]:
    order: Any = "F" if fortran else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)


def require_memory(path: Path, size: int) -> None:
    """Raise if a file claims more content than fits into memory; a small file can claim any amount.

    Raises
    ------
    DataError
    """
    memory = total_memory()
    if size > memory:
        raise DataError(
            f"{path} claims to hold {size:,} bytes, more than the {memory:,} bytes of memory of this "
            "machine; use a machine with more memory, or check the origin of the file"
        )


@overload
def read_tensors(
    path: Path, framework: Literal["np"], *, what: str, advice: str, error: type[RlmbaError] = ...
) -> tuple[dict[str, str], dict[str, NDArray[Any]]]: ...


@overload
def read_tensors(
    path: Path, framework: Literal["pt"], *, what: str, advice: str, error: type[RlmbaError] = ...
) -> tuple[dict[str, str], dict[str, torch.Tensor]]: ...


def read_tensors(
    path: Path,
    framework: Literal["np", "pt"],
    *,
    what: str,
    advice: str,
    error: type[RlmbaError] = DataError,
) -> tuple[dict[str, str], Any]:
    """Read the metadata and the tensors of a safetensors file into main memory, by name.

    Parameters
    ----------
    path : path
    framework : {"np", "pt"}
        "np" for NumPy arrays, with bfloat16 as float32; "pt" for torch tensors.
    what, advice : str
        What the file should be, and what to do if it is not, for the message.
    error : type of RlmbaError
        The class of the error.

    Raises
    ------
    RlmbaError
        Of the given class, if the file is missing or damaged or has another format, or a tensor has a
        type that NumPy or torch cannot compute with, such as float8.
    """
    from safetensors import safe_open

    require_file(path, advice=advice, error=error)
    opener: Any = safe_open
    try:
        with opener(str(path), framework=framework) as file:
            metadata = dict(file.metadata() or {})
            types = {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118
            for name, type_ in types.items():
                if type_ not in _TYPES | {_BFLOAT}:
                    raise ValueError(
                        f"tensor {name!r} is of the type {type_}, which is not supported"
                    )
            apart = framework == "np"  # NumPy has no bfloat16
            tensors = {n: file.get_tensor(n) for n in types if not (apart and types[n] == _BFLOAT)}
        if len(tensors) < len(types):
            with opener(str(path), framework="pt") as file:
                tensors |= {
                    n: file.get_tensor(n).float().numpy() for n in types if n not in tensors
                }
    except MemoryError:
        raise
    except (
        Exception
    ) as reason:  # safetensors raises its own errors, OSError, and those of NumPy and torch
        text = " ".join(str(reason).split()) or type(reason).__name__
        raise error(f"{path}: expected {what}, got: {text}; {advice}") from reason
    return metadata, {name: tensors[name] for name in types}
