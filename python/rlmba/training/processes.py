"""The device, the precision and the group of processes that training runs on."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rlmba.errors import PeerError, UsageError

__all__ = ["Precision", "ProcessGroup", "block", "rank_and_size", "reports_error", "usable_device"]

Precision: TypeAlias = Literal["auto", "fp32", "bf16"]

_BUCKET = 1 << 24
"""Number of gradient values summed over processes at a time."""
_MESSAGE = 1 << 24
"""Number of values of a row block sent at a time."""
_PATIENCE = timedelta(days=30)
"""How long processes wait for the main process, whose query strategy may take hours."""


def rank_and_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes launched together: (0, 1) if alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ.get("RANK", "0")), size) if size > 1 else (0, 1)


def block(n: int, number: int, of: int) -> slice:
    """Rows of block ``number`` when n rows are cut into ``of`` blocks of almost equal size.

    Sizes differ by at most one; larger blocks come first.

    Examples
    --------
    >>> [block(5, i, 3) for i in range(3)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size, more = divmod(n, of)
    start = number * size + min(number, more)
    return slice(start, start + size + (number < more))


def usable_device(name: str) -> torch.device:
    """Return the torch device of that name; "auto" chooses a GPU if there is one.

    Raises
    ------
    UsageError
        If this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"device: expected 'auto', 'cpu' or a usable torch device, got {name!r}: {first}"
        ) from None
    return device


class ProcessGroup:
    """A group of processes that share the work, with this process's device and precision.

    A single process is a group of size 1, whose methods cost nothing. :meth:`open` joins the
    processes that ``accelerate launch`` or ``torchrun`` started. Every method that communicates
    must be called by all of them in the same order.

    Parameters
    ----------
    device : torch.device or str
        Device of this process; a name as in :func:`usable_device`.
    precision : {"auto", "fp32", "bf16"}
        Precision of :meth:`autocast`; "auto" is bf16 on a GPU that supports it, otherwise fp32.

    Attributes
    ----------
    device : torch.device
    precision : {"fp32", "bf16"}
    rank, size : int
        Number of this process, and number of processes.

    Raises
    ------
    UsageError
        If the device is not usable.
    """

    def __init__(self, device: torch.device | str = "cpu", precision: Precision = "fp32") -> None:
        self.device = usable_device(device) if isinstance(device, str) else device
        if precision == "auto":
            precision = "bf16" if _computes_in_bf16(self.device) else "fp32"
        self.precision: Literal["fp32", "bf16"] = precision
        self.rank, self.size = 0, 1
        self._host: Any = None

    @classmethod
    def open(
        cls,
        device: str = "auto",
        precision: Precision = "auto",
        *,
        patience: timedelta = _PATIENCE,
    ) -> ProcessGroup:
        """Join all processes launched together; a process that was launched alone is its own group.

        Parameters
        ----------
        device : str
            "auto", "cpu" or, for a single process, any torch device. Each of several processes uses
            the device that its launcher assigned, for GPUs one each.
        precision : {"auto", "fp32", "bf16"}
        patience : timedelta
            How long processes wait for each other before they end with an error. It matters only if a process
        hangs or its machine is lost. A process that has ended is noticed immediately.

        Raises
        ------
        UsageError
            If the device is not usable, or one device is named for several processes.
        PeerError
            If the other processes cannot be reached.
        """
        if rank_and_size()[1] == 1:
            return cls(device, precision)
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"device: expected 'auto', 'cpu' or 'cuda' for several processes, got {device!r}; "
                "the launcher assigns GPUs to processes (CUDA_VISIBLE_DEVICES)"
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        usable_device(device)
        # An Accelerator would set one mixed precision for the process; runs in one process may
        # differ.
        from accelerate import PartialState

        own = not torch.distributed.is_initialized()
        with _speaking():
            state = PartialState(cpu=device == "cpu", timeout=patience)
        group = cls("cpu" if device == "cpu" else state.device, precision)
        group.rank, group.size = state.process_index, state.num_processes
        if own:
            atexit.register(_leave)
        if torch.distributed.get_backend() != "gloo":
            with _speaking():
                group._host = torch.distributed.new_group(backend="gloo", timeout=patience)
        return group

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which decides, prints and writes."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Run networks in the block at the group's precision."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16)
        return _on_cpu(autocast) if self.device.type == "cpu" else autocast

    def place(self, model: nn.Module) -> nn.Module:
        """Move a network to the device; on several GPUs, its batch norms use the whole minibatch."""
        if self.size > 1 and self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return model.to(self.device)

    def block(self, n: int, rank: int | None = None) -> slice:
        """Rows of n that are assigned to this process or to ``rank``; see :func:`block`."""
        return block(n, self.rank if rank is None else rank, self.size)

    def broadcast(self, value: Any = None) -> Any:
        """Return the main process's value in every process; it must be picklable."""
        if self.size == 1:
            return value
        box = [value if self.is_main else None]
        with _speaking():
            torch.distributed.broadcast_object_list(box, src=0, group=self._host)
        return box[0]

    def collect(self, value: Any) -> list[Any]:
        """Return every process's value by rank in the main process, and an empty list in the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_main else None
        with _speaking():
            torch.distributed.gather_object(value, values, dst=0, group=self._host)
        return values or []

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value by rank, in all processes; they must be picklable."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _speaking():
            torch.distributed.all_gather_object(values, value, group=self._host)
        return values

    def add_up(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the arrays of all processes, which have the same shape."""
        if self.size == 1:
            return values
        total = torch.from_numpy(values.copy())
        with _speaking():
            torch.distributed.all_reduce(total, group=self._host)
        return total.numpy()

    def exchange(self, sent: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Send one array [n, k] to each process; return the arrays sent to this process, by rank."""
        if self.size == 1:
            return list(sent)
        rows, width = [len(a) for a in sent], sent[0].shape[1]
        mine = [counts[self.rank] for counts in self.gather(rows)]
        found = torch.empty((sum(mine), width), dtype=torch.int64)
        with _speaking():
            torch.distributed.all_to_all_single(
                found, torch.from_numpy(np.concatenate(sent)), mine, rows, group=self._host
            )
        return list(np.split(found.numpy(), np.cumsum(mine)[:-1]))

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            with _speaking():
                torch.distributed.barrier(group=self._host)

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors on the group's device with the main process's tensors of the same shapes."""
        if self.size > 1:
            with _speaking(), torch.no_grad():
                for tensor in tensors:
                    whole = tensor.detach().contiguous()
                    torch.distributed.broadcast(whole, src=0)
                    if not self.is_main:
                        tensor.copy_(whole)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor on the group's device over all processes, in place."""
        if self.size > 1:
            with _speaking():
                torch.distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum gradients over all processes; a parameter with a gradient in any process gets one in all."""
        if self.size == 1:
            return
        known = [p for p in parameters if p.requires_grad]
        has = torch.tensor([p.grad is not None for p in known], dtype=torch.uint8)
        with _speaking(), torch.no_grad():
            torch.distributed.all_reduce(has, torch.distributed.ReduceOp.MAX, group=self._host)
            for p, some in zip(known, has.tolist(), strict=True):
                if some and p.grad is None:
                    p.grad = torch.zeros_like(p)
            pending = []
            for bucket in _buckets([p.grad for p in known if p.grad is not None]):
                flat = torch.cat([g.reshape(-1) for g in bucket])
                pending.append((bucket, flat, torch.distributed.all_reduce(flat, async_op=True)))
            for bucket, flat, work in pending:
                work.wait()
                for g, part in zip(
                    bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True
                ):
                    g.copy_(part.view(g.shape))

    def gather_rows(self, rows: Tensor, n: int) -> None:
        """Bring the blocks of n rows together in the main process.

        Parameters
        ----------
        rows : tensor
            Contiguous, on the CPU. In the main process [n, ...], whose first block is filled before
            the call and the others after it; in other processes, their own block of rows.
        n : int
        """
        if self.size == 1:
            return
        with _speaking():
            if not self.is_main:
                for part in _messages(rows):
                    torch.distributed.send(part, dst=0, group=self._host)
                return
            for rank in range(1, self.size):
                for part in _messages(rows[self.block(n, rank)]):
                    torch.distributed.recv(part, src=rank, group=self._host)

    def leave(self) -> None:
        """Leave the group after an error in this process, so that the others end instead of waiting."""
        if self.size > 1:
            reports_error()
            _leave()


@contextlib.contextmanager
def _on_cpu(autocast: torch.autocast) -> Iterator[None]:
    with _Conv3dInFloat32(), autocast:
        yield


class _Conv3dInFloat32(TorchFunctionMode):
    """Excludes 3-D convolutions from autocast on CPUs.

    For some shapes, such as (1, 3, 3) kernels on AMX, torch's bfloat16 weight gradient is NaN or
    wrong by a tenth.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func is not torch.conv3d:
            return func(*args, **given)

        def wide(value: Any) -> Any:
            return value.float() if isinstance(value, Tensor) else value

        call: Any = torch.conv3d
        with torch.autocast("cpu", enabled=False):
            return call(*map(wide, args), **{k: wide(v) for k, v in given.items()})


def _computes_in_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def _messages(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows.view(-1), _MESSAGE) if rows.numel() else ()


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for g in gradients:
        if bucket and (
            g.dtype != bucket[0].dtype or sum(b.numel() for b in bucket) + g.numel() > _BUCKET
        ):
            yield bucket
            bucket = []
        bucket.append(g)
    if bucket:
        yield bucket


@contextlib.contextmanager
def _speaking() -> Iterator[None]:
    """Turn every failure to communicate with other processes into a :class:`PeerError`."""
    try:
        yield
    except RuntimeError as error:
        first = (str(error).splitlines() or [""])[0]
        fate = (
            "does not answer: it hangs, is much slower than the others, or its machine is lost"
            if "timed out" in first.lower()
            else "has ended, possibly killed for lack of memory"
        )
        raise PeerError(
            f"another process of this run {fate}; read the output of its launcher and start the command "
            f"again, a run with `rlmba run --resume` ({first[:200]})"
        ) from error


def _leave() -> None:
    """Close the connections to the other processes."""
    if torch.distributed.is_initialized():
        with contextlib.suppress(Exception):
            torch.distributed.destroy_process_group()


_spoken: list[bool] = []


def reports_error() -> bool:
    """Whether this process reports the error that ends all processes launched together.

    The first process to ask reports it: a failing process asks before it leaves the group, and the
    others notice only then. Repeated calls give the same answer. If the processes cannot
    communicate, the main process reports it.
    """
    rank, size = rank_and_size()
    if size == 1:
        return True
    if not _spoken:
        _spoken.append(_first_to_ask(rank))
    return _spoken[0]


def _first_to_ask(rank: int) -> bool:
    if not torch.distributed.is_initialized() and "TORCHELASTIC_USE_AGENT_STORE" not in os.environ:
        return rank == 0
    key = f"rlmba/spoken/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    try:
        store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=5),
        )
        return bool(store.add(key, 1) == 1)
    except (KeyError, ValueError, RuntimeError):
        return rank == 0
