"""Where training runs: a device, a precision, and the processes that share the work."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rlmba.errors import PeerError, UsageError

__all__ = ["Mesh", "Precision", "block", "launched", "may_speak", "usable_device"]

Precision: TypeAlias = Literal["auto", "fp32", "bf16"]

_BUCKET = 1 << 24
"""Numbers of a gradient summed over processes in one go."""
_MESSAGE = 1 << 24
"""Numbers of a row block sent in one go."""
_PATIENCE = timedelta(days=30)
"""How long processes wait for the main one, which may query a strategy for hours."""


def launched() -> tuple[int, int]:
    """Rank of this process and how many were launched together: (0, 1) of a process on its own."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ.get("RANK", "0")), size) if size > 1 else (0, 1)


def block(n: int, number: int, of: int) -> slice:
    """Rows of block ``number`` of ``of`` that n rows are cut into: sizes differ by one at most, larger first.

    Examples
    --------
    >>> [block(5, i, 3) for i in range(3)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size, more = divmod(n, of)
    start = number * size + min(number, more)
    return slice(start, start + size + (number < more))


def usable_device(name: str) -> torch.device:
    """The torch device of that name; "auto" is a GPU where there is one.

    Raises
    ------
    UsageError
        If there is no such device here.
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


class Mesh:
    """A device, a precision, and this process's place among those that share the work.

    On its own a process is a mesh of size 1, whose methods cost nothing. :meth:`open` joins the
    processes that ``accelerate launch`` or ``torchrun`` started. Every method that speaks to the others
    must be called by all of them, in the same order.

    Parameters
    ----------
    device : torch.device or str
        Where this process computes; a name as in :func:`usable_device`.
    precision : {"auto", "fp32", "bf16"}
        Of :meth:`autocast`; "auto" is bf16 on a GPU that computes in it, else fp32.

    Attributes
    ----------
    device : torch.device
    precision : {"fp32", "bf16"}
    rank, size : int
        This process's number and how many there are.

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
    def open(cls, device: str = "auto", precision: Precision = "auto") -> Mesh:
        """The mesh of all processes launched together; of this one where there are no others.

        Parameters
        ----------
        device : str
            "auto", "cpu" or, for a process on its own, any torch device. Each of several processes has
            the device its launcher gave it: on GPUs one each.
        precision : {"auto", "fp32", "bf16"}

        Raises
        ------
        UsageError
            If the device is not usable, or is a particular one for several processes.
        PeerError
            If the others cannot be reached.
        """
        if launched()[1] == 1:
            return cls(device, precision)
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"device: expected 'auto', 'cpu' or 'cuda' for several processes, got {device!r}; "
                "which GPU a process has is up to the launcher (CUDA_VISIBLE_DEVICES)"
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        usable_device(device)
        # Its Accelerator would add one process-wide mixed precision, which runs of their own
        # precision in one process could not share.
        from accelerate import PartialState

        own = not torch.distributed.is_initialized()
        with _speaking():
            state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
        mesh = cls("cpu" if device == "cpu" else state.device, precision)
        mesh.rank, mesh.size = state.process_index, state.num_processes
        if own:
            atexit.register(_leave)
        if torch.distributed.get_backend() != "gloo":
            with _speaking():
                mesh._host = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
        return mesh

    @property
    def main(self) -> bool:
        """Whether this is the process that decides, prints and writes."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """A block in which a network computes at the mesh's precision."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16)
        return _on_cpu(autocast) if self.device.type == "cpu" else autocast

    def place(self, model: nn.Module) -> nn.Module:
        """Move a network to the device; on several GPUs its batch norms see all of a minibatch."""
        if self.size > 1 and self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return model.to(self.device)

    def block(self, n: int, rank: int | None = None) -> slice:
        """Rows of n that fall to this process, or to ``rank``: see :func:`block`."""
        return block(n, self.rank if rank is None else rank, self.size)

    def broadcast(self, value: Any = None) -> Any:
        """The main process's value, anything that pickles, in every process."""
        if self.size == 1:
            return value
        box = [value if self.main else None]
        with _speaking():
            torch.distributed.broadcast_object_list(box, src=0, group=self._host)
        return box[0]

    def collect(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks, in the main process; in others nothing."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.main else None
        with _speaking():
            torch.distributed.gather_object(value, values, dst=0, group=self._host)
        return values or []

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            with _speaking():
                torch.distributed.barrier(group=self._host)

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors, on the mesh's device, with the main process's of the same shapes."""
        if self.size > 1:
            with _speaking(), torch.no_grad():
                for tensor in tensors:
                    whole = tensor.detach().contiguous()
                    torch.distributed.broadcast(whole, src=0)
                    if not self.main:
                        tensor.copy_(whole)

    def sum(self, tensor: Tensor) -> Tensor:
        """A tensor on the mesh's device, summed over all processes in place."""
        if self.size > 1:
            with _speaking():
                torch.distributed.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum gradients over all processes; a parameter that has one in any then has it in all."""
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
            On the CPU, contiguous. In the main process [n, ...], whose first block is filled, and
            the others are after the call; in other processes their own block of rows.
        n : int
        """
        if self.size == 1:
            return
        with _speaking():
            if not self.main:
                for part in _messages(rows):
                    torch.distributed.send(part, dst=0, group=self._host)
                return
            for rank in range(1, self.size):
                for part in _messages(rows[self.block(n, rank)]):
                    torch.distributed.recv(part, src=rank, group=self._host)

    def abandon(self) -> None:
        """Leave the others after an error here, so that they end too instead of waiting."""
        if self.size > 1:
            may_speak()
            _leave()


@contextlib.contextmanager
def _on_cpu(autocast: torch.autocast) -> Iterator[None]:
    with _Conv3dInFloat32(), autocast:
        yield


class _Conv3dInFloat32(TorchFunctionMode):
    """Keeps 3-D convolutions out of autocast on CPUs.

    For some shapes (kernels of (1, 3, 3) on AMX) torch's bfloat16 weight gradient is NaN, or finite and
    a tenth off.
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
    """Every failure of speaking to the other processes as what it means."""
    try:
        yield
    except RuntimeError as error:
        first = (str(error).splitlines() or [""])[0]
        raise PeerError(
            "another process of this run has ended, perhaps killed for want of memory; look at what "
            f"its launcher says, and start the same again, a run with `rlmba run --resume` ({first[:200]})"
        ) from error


def _leave() -> None:
    """Break the connections to the others."""
    if torch.distributed.is_initialized():
        with contextlib.suppress(Exception):
            torch.distributed.destroy_process_group()


_spoken: list[bool] = []


def may_speak() -> bool:
    """Whether this process is the one to report the error that ends all launched together.

    The first to ask is: the one that fails asks before it leaves the others, who then notice. Asking
    again gives the same answer. Where they cannot agree it is the main process.
    """
    rank, size = launched()
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
