"""Array interchange: anything with DLPack in, a NumPy view to compute on, the caller's kind out."""

from __future__ import annotations

import operator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import BackendError, NonFiniteError, ShapeError, UsageError

Float: TypeAlias = "NDArray[np.float32] | NDArray[np.float64]"


@runtime_checkable
class SupportsDLPack(Protocol):
    """An array of any library that can hand its memory over."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


ArrayLike: TypeAlias = "SupportsDLPack | NDArray[Any]"

_CPU_DEVICES = {1, 3}  # kDLCPU, kDLCUDAHost


def _is_torch(x: object) -> bool:
    return type(x).__module__.split(".")[0] == "torch"


def device_of(x: object) -> str:
    """``"cpu"`` or ``"cuda"``: where the memory of an array lies.

    Raises
    ------
    ShapeError
        If ``x`` is not an array.
    BackendError
        If it lies on a device of another kind.
    """
    if isinstance(x, np.ndarray):
        return "cpu"
    if not isinstance(x, SupportsDLPack):
        raise ShapeError(
            f"expected a NumPy array, a torch tensor or an array with DLPack, got {type(x).__name__}; "
            "wrap it in numpy.asarray"
        )
    kind = int(x.__dlpack_device__()[0])
    if kind in _CPU_DEVICES:
        return "cpu"
    if kind == 2:
        return "cuda"
    raise BackendError(
        f"expected an array in CPU or CUDA memory, got DLPack device type {kind}; move it"
    )


def to_numpy(x: ArrayLike) -> NDArray[Any]:
    """A NumPy view of an array in CPU memory (a copy only for bfloat16, which NumPy lacks)."""
    if isinstance(x, np.ndarray):
        return x
    if _is_torch(x):
        import torch

        tensor: Any = x.detach()  # type: ignore[union-attr]
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        view: NDArray[Any] = tensor.resolve_conj().resolve_neg().numpy()
        return view
    return np.from_dlpack(x)


def like(result: NDArray[Any], original: ArrayLike) -> Any:
    """``result`` as the kind of array that ``original`` is, sharing memory where that library can."""
    if isinstance(original, np.ndarray):
        return result
    if _is_torch(original):
        import torch

        return torch.from_numpy(result)
    namespace = getattr(original, "__array_namespace__", None)
    if namespace is not None:
        return namespace().from_dlpack(result)
    return result


def to_host(x: ArrayLike) -> NDArray[Any]:
    """A NumPy array of any array, wherever it lies: a copy only where that is GPU memory."""
    if device_of(x) == "cpu":
        return to_numpy(x)
    if _is_torch(x):
        return to_numpy(x.cpu())  # type: ignore[union-attr]
    import torch

    return to_numpy(torch.utils.dlpack.from_dlpack(x).cpu())


def beside(x: NDArray[Any], other: ArrayLike) -> Any:
    """``x`` as what ``other`` is: itself beside NumPy, a tensor in the same memory beside a tensor."""
    if not _is_torch(other):
        return x
    import torch

    tensor: Any = other
    return torch.as_tensor(x, device=tensor.device)


def require_rank(shape: tuple[int, ...], name: str, ndim: int | tuple[int, ...]) -> None:
    """Raise :class:`ShapeError` unless an array of this shape has a rank that is allowed."""
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if len(shape) not in allowed:
        ranks = " or ".join(f"{n}-D" for n in allowed)
        raise ShapeError(f"{name}: expected a {ranks} array, got shape {shape}")


def as_float(x: ArrayLike, name: str, *, ndim: int | tuple[int, ...]) -> Float:
    """Check rank and dtype and return float32 or float64 with a contiguous last axis.

    float32 and float64 are passed through (rows may be strided; another layout is copied once), half
    precision becomes float32, integers and booleans float64.

    Raises
    ------
    ShapeError
        For another rank or a dtype that is not real.
    """
    a = to_numpy(x)
    require_rank(a.shape, name, ndim)
    if a.dtype in (np.float32, np.float64):
        if not a.dtype.isnative:
            a = a.astype(a.dtype.newbyteorder("="))
    elif a.dtype == np.float16:
        a = a.astype(np.float32)
    elif a.dtype.kind in "iub":
        a = a.astype(np.float64)
    else:
        raise ShapeError(f"{name}: expected real numbers, got dtype {a.dtype}")
    item = a.itemsize
    rows_in_place = (
        a.ndim >= 1
        and (a.shape[-1] <= 1 or a.strides[-1] == item)
        and all(s % item == 0 and s >= 0 for s in a.strides)
    )
    if a.ndim in (1, 3):
        return a if rows_in_place else np.ascontiguousarray(a)
    if a.ndim == 2 and rows_in_place and (a.shape[0] <= 1 or a.strides[0] >= a.shape[1] * item):
        return a
    return np.ascontiguousarray(a)


def as_count(value: Any, name: str, *, low: int, high: int | None = None) -> int:
    """An int option within [low, high].

    Raises
    ------
    UsageError
        If it is no integer or outside the range.
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


def non_finite(a: NDArray[Any], name: str, row: int) -> NonFiniteError:
    """The error for row ``row`` of ``a``, which a kernel found not to be finite."""
    return non_finite_row(a[row], name, row)


def non_finite_row(values: Any, name: str, row: int) -> NonFiniteError:
    """The error for row ``row`` of an array, which holds ``values`` (one, if the array is 1-D)."""
    flat = np.ravel(values)
    column = int(np.argmax(~np.isfinite(flat)))
    place = f"{name}[{row}]" if np.ndim(values) == 0 else f"{name}[{row}, {column}]"
    return NonFiniteError(
        f"{place} is {flat[column]}: expected finite numbers; drop or repair row {row}", row
    )
