"""The backend registry: which implementation of an operation serves a call.

Backends are ``"cpu"`` (the compiled extension), ``"reference"`` (NumPy), and, for operations that have
them, ``"cuda"`` and ``"triton"``. ``"auto"`` takes the best one for where the arrays lie and may fall
back to the reference code; a backend asked for by name never falls back.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from rlmba.errors import BackendError, RlmbaWarning, UsageError

T = TypeVar("T")

_PREFERENCE: Mapping[str, tuple[str, ...]] = {
    "cpu": ("cpu", "reference"),
    "cuda": ("cuda", "triton"),
}


@dataclass(frozen=True)
class Call:
    """One recorded kernel call: the operation and the backend that served it."""

    op: str
    backend: str


_recorder: ContextVar[list[Call] | None] = ContextVar("rlmba_kernel_calls", default=None)


@contextlib.contextmanager
def record() -> Iterator[list[Call]]:
    """Collect the kernel calls made inside the block, in order.

    Examples
    --------
    >>> import numpy as np
    >>> from rlmba import kernels
    >>> with kernels.record() as calls:
    ...     _ = kernels.top_k(np.array([1.0, 3.0, 2.0]), 1, backend="reference")
    >>> calls
    [Call(op='top_k', backend='reference')]
    """
    outer = _recorder.get()
    calls: list[Call] = []
    token = _recorder.set(calls)
    try:
        yield calls
    finally:
        _recorder.reset(token)
        if outer is not None:
            outer.extend(calls)


@functools.cache
def core() -> ModuleType | None:
    """The compiled CPU extension, or None (with one warning) where it cannot be imported."""
    try:
        from rlmba import _core
    except ImportError as error:
        warnings.warn(
            f"rlmba's compiled extension is not available ({error}); the NumPy reference code is used, "
            "which is much slower. Reinstall with a C++20 compiler present: pip install .",
            RlmbaWarning,
            stacklevel=3,
        )
        return None
    module: ModuleType = _core
    return module


def require_core() -> Any:
    """The compiled CPU extension; only called where :func:`select` chose the backend ``"cpu"``."""
    module = core()
    if module is None:
        raise BackendError(
            "backend 'cpu' needs the compiled extension; reinstall with a C++20 compiler"
        )
    return module


def select(
    op: str, backend: str, device: str, implementations: Mapping[str, Callable[..., T]]
) -> tuple[str, Callable[..., T]]:
    """Choose the implementation of ``op`` for arrays on ``device`` and record the choice.

    Returns
    -------
    (str, callable)
        The backend's name and its implementation.

    Raises
    ------
    BackendError
        If ``backend`` is unknown, absent for this operation, or cannot serve this device.
    """
    usable = [b for b in _PREFERENCE[device] if b in implementations]
    if "cpu" in usable and backend in ("auto", "cpu") and core() is None:
        usable.remove("cpu")
    if backend == "auto":
        if not usable:
            raise BackendError(
                f"{op}: no backend for arrays on {device!r} "
                f"(it has {sorted(implementations)}); move the arrays to the CPU"
            )
        name = usable[0]
    elif backend in usable:
        name = backend
    else:
        raise BackendError(
            f"{op}: backend {backend!r} cannot serve arrays on {device!r}; "
            f"available: {['auto', *usable]}"
        )
    calls = _recorder.get()
    if calls is not None:
        calls.append(Call(op, name))
    return name, implementations[name]


def backends() -> dict[str, bool]:
    """Every backend's name and whether it can run on this machine."""
    return {"cpu": core() is not None, "reference": True}


def instruction_set() -> str | None:
    """``"avx512"``, ``"avx2"`` or ``"generic"``: what the compiled kernels use; None without them."""
    module = core()
    return None if module is None else str(module.isa())


def num_threads() -> int:
    """Threads the compiled kernels use (1 without them). ``OMP_NUM_THREADS`` sets the default."""
    module = core()
    return 1 if module is None else int(module.num_threads())


def set_num_threads(n: int) -> None:
    """Set the number of threads of the compiled kernels, for this process. Results do not change."""
    if n < 1:
        raise UsageError(f"num_threads: expected at least 1, got {n}")
    module = core()
    if module is not None:
        module.set_num_threads(n)
