"""Array interchange: read any DLPack array as a NumPy view, and return the caller's kind of array."""

from __future__ import annotations

import mmap
import operator
import warnings
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import (
    BackendError,
    DataError,
    NonFiniteError,
    RlmbaWarning,
    ShapeError,
    UsageError,
)
from rlmba.kernels.common import tables

Float: TypeAlias = "NDArray[np.float32] | NDArray[np.float64]"


@runtime_checkable
class SupportsDLPack(Protocol):
    """An array of any library that exports its memory through DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


ArrayLike: TypeAlias = "SupportsDLPack | NDArray[Any]"

_WRAP = "wrap it in numpy.asarray"
_CPU_DEVICES = {1, 3}  # kDLCPU, kDLCUDAHost


def _is_torch(x: object) -> bool:
    return type(x).__module__.split(".")[0] == "torch"


def device_of(x: object) -> str:
    """Return ``"cpu"`` or ``"cuda"``, the device that holds an array.

    Any other object counts as CPU memory; :func:`to_numpy` raises the error for it.

    Raises
    ------
    BackendError
        If the array is on another kind of device.
    """
    if isinstance(x, np.ndarray) or not isinstance(x, SupportsDLPack) or tables.is_table(x):
        return "cpu"
    try:
        kind = int(x.__dlpack_device__()[0])
    except (BufferError, RuntimeError, TypeError, ValueError):
        return "cpu"
    if kind in _CPU_DEVICES:
        return "cpu"
    if kind == 2:
        return "cuda"
    raise BackendError(
        f"expected an array in CPU or CUDA memory, got DLPack device type {kind}; move it"
    )


def to_numpy(x: ArrayLike, name: str = "array") -> NDArray[Any]:
    """Return an array in CPU memory as a NumPy array, aligned and in native byte order.

    The result is a view where possible. bfloat16 (which NumPy lacks), misaligned memory and another
    byte order are copied.

    Raises
    ------
    ShapeError
        If it is not a readable array of numbers; the message says how to convert it.
    """
    a = view(x, name)
    if a.dtype.isnative and a.flags.aligned:
        return a
    warn_copied(a, name, "misaligned or of another byte order")
    return np.array(a, dtype=a.dtype.newbyteorder("="), order="C", subok=False)


def view(x: ArrayLike, name: str) -> NDArray[Any]:
    """Like :func:`to_numpy`, but keep misaligned memory and another byte order."""
    if isinstance(x, np.ma.MaskedArray):
        raise ShapeError(
            f"{name}: expected a plain array, got a masked array; "
            "drop the masked entries, or replace them with .filled(value)"
        )
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    if tables.is_table(x):
        return tables.to_numpy(x, name)
    if _is_torch(x) and hasattr(x, "detach"):
        require_readable(x, name)
        import torch

        tensor: Any = x.detach()
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        try:
            found: NDArray[Any] = tensor.resolve_conj().resolve_neg().numpy()
        except (RuntimeError, TypeError) as error:
            raise not_read(x, name, error, f"of dtype {tensor.dtype}, ") from error
        return found
    if not isinstance(x, SupportsDLPack):
        raise ShapeError(
            f"{name}: expected a NumPy array, a torch tensor or an array with DLPack, "
            f"got {_type_name(x)}; {_conversion(x)}"
        )
    try:
        return np.from_dlpack(x)
    except Exception as error:  # other libraries raise any exception here
        raise not_read(x, name, error) from error


def not_read(x: object, name: str, error: Exception, detail: str = "") -> ShapeError:
    """Return the error for an array whose library does not export its memory."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ShapeError(
        f"{name}: expected an array whose memory can be read, got {_type_name(x)} {detail}"
        f"that cannot be read ({reason}); convert it to a NumPy array of float32 or float64"
    )


def _type_name(x: object) -> str:
    kind = type(x)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}."
    return module + kind.__qualname__


def _conversion(x: object) -> str:
    """Suggest how to convert an object to an array, by the methods that it has."""
    for method in ("toarray", "todense", "to_dense"):
        if hasattr(x, method):
            return (
                f"call .{method}() where the result fits in memory, or reduce its columns first "
                "(for example with sklearn.decomposition.TruncatedSVD)"
            )
    return _WRAP


def require_readable(x: Any, name: str) -> None:
    """Raise :class:`ShapeError` for a torch tensor without plain memory: sparse, quantized or meta."""
    import torch

    if x.is_nested:
        kind, advice = "a nested tensor", "call .to_padded_tensor(0) or pass its parts"
    elif x.layout != torch.strided:
        kind, advice = (
            f"a sparse tensor ({x.layout})",
            "call .to_dense() or reduce its columns first",
        )
    elif x.is_quantized:
        kind, advice = "a quantized tensor", "call .dequantize()"
    elif x.is_meta:
        kind, advice = "a tensor on the device meta, which has no values", "pass one that has"
    else:
        return
    raise ShapeError(f"{name}: expected a dense tensor, got {kind}; {advice}")


def _is_mapped(a: Any) -> bool:
    while a is not None:
        if isinstance(a, mmap.mmap):
            return True
        a = a.obj if isinstance(a, memoryview) else getattr(a, "base", None)
    return False


def warn_copied(a: NDArray[Any], name: str, why: str) -> None:
    """Warn if a memory-mapped array is copied as a whole, which ``max_memory`` does not bound."""
    if _is_mapped(a):
        warnings.warn(
            f"{name}: the memory-mapped array ({a.nbytes / 2**20:.0f} MiB) is {why} and is copied "
            "whole into memory; save it as float32 or float64 in row order to read it in place",
            RlmbaWarning,
            stacklevel=4,
        )


def is_array(x: object) -> bool:
    """Whether ``x`` is read by :func:`to_numpy`, not by numpy.asarray as a list is."""
    return isinstance(x, SupportsDLPack) or tables.is_table(x) or _conversion(x) != _WRAP


def address(x: object) -> int | None:
    """Return the address of an array's memory, to tell a view from a copy; None if unknown."""
    if isinstance(x, np.ndarray):
        return int(x.ctypes.data)
    return int(x.data_ptr()) if hasattr(x, "data_ptr") else None


def like(result: NDArray[Any], original: ArrayLike) -> Any:
    """Return ``result`` as the same kind of array as ``original``, sharing memory where possible."""
    if isinstance(original, np.ndarray):
        return result
    if _is_torch(original):
        import torch

        return torch.from_numpy(result)
    namespace = getattr(original, "__array_namespace__", None)
    if namespace is not None:
        return namespace().from_dlpack(result)
    return result


def to_host(x: ArrayLike, name: str = "array") -> NDArray[Any]:
    """Like :func:`to_numpy`, but copy an array in GPU memory to the host first."""
    if device_of(x) == "cpu":
        return to_numpy(x, name)
    import torch

    try:
        tensor = x if isinstance(x, torch.Tensor) else torch.utils.dlpack.from_dlpack(x)
    except Exception as error:  # other libraries raise any exception here
        raise not_read(x, name, error) from error
    return to_numpy(tensor.cpu(), name)


def match_kind(x: NDArray[Any], other: ArrayLike) -> Any:
    """Return ``x`` as a tensor that shares its memory if ``other`` is a tensor, otherwise ``x`` itself."""
    if not _is_torch(other):
        return x
    import torch

    tensor: Any = other
    return torch.as_tensor(x, device=tensor.device)


def require_rank(shape: tuple[int, ...], name: str, ndim: int | tuple[int, ...]) -> None:
    """Raise :class:`ShapeError` unless the shape has an allowed number of dimensions."""
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if len(shape) not in allowed:
        ranks = " or ".join(f"{n}-D" for n in allowed)
        raise ShapeError(f"{name}: expected a {ranks} array, got shape {shape}")


def as_float(x: ArrayLike, name: str, *, ndim: int | tuple[int, ...]) -> Float:
    """Check rank and dtype and return float32 or float64 with a contiguous last axis.

    float32 and float64 are not converted; rows may be strided, and any other layout is copied once.
    Half precision becomes float32; integers and booleans become float64.

    Raises
    ------
    ShapeError
        For an object that is not an array, a wrong rank or a dtype that is not real.
    DataError
        For an integer that float64 cannot hold.
    """
    a = to_numpy(x, name)
    require_rank(a.shape, name, ndim)
    if a.dtype == np.float16:
        warn_copied(a, name, "of half precision")
        return a.astype(np.float32, order="C")
    if a.dtype.kind in "iub":
        warn_copied(a, name, f"of dtype {a.dtype}")
        wide = a.astype(np.float64, order="C")
        require_exact(a, wide, name)
        return wide
    if a.dtype not in (np.float32, np.float64):
        raise ShapeError(f"{name}: {describe_dtype(a.dtype)}")
    if _rows_in_place(a):
        return a
    warn_copied(a, name, "not stored row by row")
    return np.ascontiguousarray(a)


def describe_dtype(dtype: Any) -> str:
    """Describe a dtype that kernels do not read, for an error message."""
    return (
        f"expected real numbers, got dtype {str(dtype).removeprefix('torch.')}; "
        "convert it to float32 or float64, or encode it as numbers"
    )


def _rows_in_place(a: NDArray[Any]) -> bool:
    """Whether each row is contiguous and rows are in order; gaps between rows are allowed."""
    item = a.itemsize
    if a.ndim not in (1, 2, 3) or any(s < 0 or s % item for s in a.strides):
        return False
    if a.shape[-1] > 1 and a.strides[-1] != item:
        return False
    return a.ndim != 2 or a.shape[0] <= 1 or a.strides[0] >= a.shape[1] * item


def require_exact(given: NDArray[Any], wide: NDArray[np.float64], name: str) -> None:
    """Raise :class:`DataError` for the first integer of ``given`` that float64 rounds."""
    if given.dtype.itemsize < 8:
        return
    for place in np.argwhere(np.abs(wide) >= 2.0**53).tolist():
        at = tuple(place)
        if int(given[at]) != int(wide[at]):
            raise DataError(
                f"{name}[{', '.join(map(str, at))}] is {given[at]}: expected integers that float64 "
                "holds, all up to 2**53; pass ranks, or differences from the smallest"
            )


def as_count(value: Any, name: str, *, low: int, high: int | None = None) -> int:
    """Return an integer option within [low, high].

    Raises
    ------
    UsageError
        If it is not an integer or is out of range.
    """
    try:
        n = operator.index(value)
    except TypeError:
        raise UsageError(f"{name}: expected an integer, got {value!r}") from None
    if n < low or (high is not None and n > high):
        wanted = f"at least {low}" if high is None else f"{low} to {high}"
        raise UsageError(f"{name}: expected {wanted}, got {n}")
    return n


def require_finite(a: NDArray[Any], name: str) -> None:
    """Raise :class:`NonFiniteError` naming the first row of ``a`` that holds NaN or infinity."""
    finite = np.isfinite(a)
    if not finite.all():
        bad = ~finite if a.ndim == 1 else ~finite.reshape(a.shape[0], -1).all(axis=1)
        raise non_finite(a, name, int(np.argmax(bad)))


def cast(a: NDArray[Any], dtype: Any, name: str) -> NDArray[Any]:
    """Convert ``a`` to ``dtype``; return it unchanged if it already has that dtype.

    Raises
    ------
    NonFiniteError
        If a converted number is NaN, infinite or beyond the range of ``dtype``; names the first
        such row.
    """
    if a.dtype == dtype:
        return a
    with np.errstate(over="ignore"):
        b = a.astype(dtype)
    require_range(a, b, name)
    return b


def require_range(given: NDArray[Any], converted: NDArray[Any], name: str) -> None:
    """Raise :class:`NonFiniteError` for the first row of ``converted`` that is not finite.

    ``given`` holds the numbers before the conversion.
    """
    finite = np.isfinite(converted)
    if not finite.all():
        row = int(np.argmax(~finite.reshape(len(finite), -1).all(axis=1)))
        raise out_of_range(given[row], converted.dtype, name, row)


def out_of_range(values: Any, dtype: Any, name: str, row: int) -> NonFiniteError:
    """Return the error for row ``row``, some of whose ``values`` are not finite in ``dtype``.

    The message distinguishes a number too large for the dtype from one that was not finite.
    """
    flat = np.ravel(values)
    if not np.isfinite(flat).all():
        return non_finite_row(values, name, row)
    with np.errstate(over="ignore"):
        column = int(np.argmax(~np.isfinite(flat.astype(dtype))))
    place = f"{name}[{row}]" if np.ndim(values) == 0 else f"{name}[{row}, {column}]"
    return NonFiniteError(
        f"{place} {describe_overflow(flat[column], dtype)}; scale the data, or drop or repair row {row}",
        row,
    )


def describe_overflow(value: Any, dtype: Any) -> str:
    """Describe a finite number that ``dtype`` cannot hold, for an error message."""
    limit = np.finfo(dtype)
    return f"is {value}: expected numbers that {limit.dtype} holds, up to {limit.max:.4g}"


def non_finite(a: NDArray[Any], name: str, row: int, *, offset: int = 0) -> NonFiniteError:
    """Return the error for row ``row`` of ``a``, which a kernel found not to be finite.

    ``a`` may be a block of a larger array that begins at row ``offset``.
    """
    return non_finite_row(a[row], name, offset + row)


def non_finite_row(values: Any, name: str, row: int) -> NonFiniteError:
    """Return the error for row ``row``, which holds ``values`` (one value if the array is 1-D)."""
    flat = np.ravel(values)
    column = int(np.argmax(~np.isfinite(flat)))
    place = f"{name}[{row}]" if np.ndim(values) == 0 else f"{name}[{row}, {column}]"
    return NonFiniteError(
        f"{place} is {flat[column]}: expected finite numbers; drop or repair row {row}", row
    )
