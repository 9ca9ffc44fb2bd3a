"""The backend registry: which implementation of an operation serves a call.

The backends are ``"cpu"`` (the compiled extension), ``"reference"`` (NumPy) and, for operations
that have them, ``"cuda"`` (the compiled CUDA extension) and ``"triton"``. ``"auto"`` chooses the
best backend for the arrays' device and may fall back to the reference code. A backend that is
requested by name never falls back.

Arrays in CPU memory can be processed by ``"cuda"`` and ``"triton"`` when these are requested by
name: chunks are copied to the GPU ahead of use. Triton's interpreter (``TRITON_INTERPRET=1``) needs
no GPU, but is slow and meant for tests.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from rlmba.errors import BackendError, RlmbaWarning, UsageError

T = TypeVar("T")

ACCELERATED = ("cuda", "triton")
"""Backends that compute on a GPU."""


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
    """Return the compiled CPU extension, or None (with one warning) if it cannot be imported.

    The environment variable ``RLMBA_MAX_CPU_ISA`` limits the instruction sets that it may use.
    """
    try:
        from rlmba import _core
    except ImportError as error:
        warnings.warn(
            f"rlmba's compiled extension is not available ({error}); the NumPy reference code is used, "
            "which is much slower. Reinstall where GCC (g++) is present: pip install .",
            RlmbaWarning,
            stacklevel=3,
        )
        return None
    module: ModuleType = _core
    limit = os.environ.get("RLMBA_MAX_CPU_ISA", "")
    if limit:
        _limit_instruction_set(module, limit)
    return module


def _limit_instruction_set(module: Any, limit: str) -> None:
    sets = ("generic", "avx2", "avx512")
    if limit not in sets:
        raise UsageError(f"RLMBA_MAX_CPU_ISA: expected one of {', '.join(sets)}, got {limit!r}")
    module.set_isa(min(limit, module.best_isa(), key=sets.index))
    module.allow_matrix_tiles(False)  # beyond AVX-512


def require_core() -> Any:
    """Return the compiled CPU extension; called only after :func:`select` chose ``"cpu"``."""
    module = core()
    if module is None:
        raise BackendError(
            "backend 'cpu' needs the compiled extension; reinstall where GCC (g++) is present"
        )
    return module


@functools.cache
def cuda() -> ModuleType | None:
    """Return the compiled CUDA extension, or None if it was not built."""
    try:
        from rlmba import _cuda
    except ImportError:
        return None
    module: ModuleType = _cuda
    return module


def require_cuda() -> Any:
    """Return the compiled CUDA extension; called only after :func:`select` chose ``"cuda"``."""
    module = cuda()
    if module is None:
        raise BackendError(
            "backend 'cuda' needs the CUDA extension; reinstall with nvcc on PATH and RLMBA_CUDA=ON"
        )
    return module


@functools.cache
def _gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


@functools.cache
def _triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton interprets its kernels in Python, which needs no GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def emulated() -> bool:
    """Whether the loaded CUDA extension emulates a GPU on the CPU (tests/cuda_emulator)."""
    return bool(getattr(cuda(), "emulated", False))


def _can_run(backend: str) -> bool:
    if backend == "cuda":
        return cuda() is not None and (emulated() or _gpu())
    if backend == "triton":
        return _triton() and (interpreted() or _gpu())
    return backend == "reference" or core() is not None


def choose(op: str, backend: str, device: str, names: Sequence[str]) -> str:
    """Choose the backend that serves ``op`` for arrays on ``device``, and record it.

    Parameters
    ----------
    device : {"cpu", "cuda"}
    names : sequence of str
        The backends that the operation has, best first.

    Raises
    ------
    BackendError
        If ``backend`` is unknown, absent for this operation, or cannot serve this device.
    """
    here = [n for n in names if device == "cpu" or n in ACCELERATED]
    if backend == "auto":
        own = [n for n in here if (n in ACCELERATED) == (device == "cuda")]
        name = next((n for n in own if _can_run(n)), None)
        if name is None:
            raise BackendError(
                f"{op}: no backend for arrays on {device!r} (it has {sorted(names)}); "
                "move the arrays to the CPU"
            )
    elif backend in here and _can_run(backend):
        name = backend
    else:
        raise BackendError(
            f"{op}: backend {backend!r} cannot serve arrays on {device!r}; "
            f"available: {['auto', *(n for n in here if _can_run(n))]}"
        )
    calls = _recorder.get()
    if calls is not None:
        calls.append(Call(op, name))
    return name


def select(
    op: str, backend: str, device: str, implementations: Mapping[str, Callable[..., T]]
) -> tuple[str, Callable[..., T]]:
    """Call :func:`choose` and return the backend's name with its implementation."""
    name = choose(op, backend, device, tuple(implementations))
    return name, implementations[name]


def backends() -> dict[str, bool]:
    """Return the name of every backend and whether it can run on this machine."""
    return {name: _can_run(name) for name in ("cpu", "reference", *ACCELERATED)}


def instruction_set() -> str | None:
    """Instruction set of the compiled kernels: "avx512", "avx2" or "generic"; None without them."""
    module = core()
    return None if module is None else str(module.isa())


def num_threads() -> int:
    """Number of threads of the compiled kernels (1 without them); ``OMP_NUM_THREADS`` sets it."""
    module = core()
    return 1 if module is None else int(module.num_threads())


def set_num_threads(n: int) -> None:
    """Set the number of threads of the compiled kernels in this process; results do not change.

    Calls that are running keep the number they started with.
    """
    if n < 1:
        raise UsageError(f"num_threads: expected at least 1, got {n}")
    module = core()
    if module is not None:
        module.set_num_threads(n)
