"""Cases, how they are run, and the rows of their results."""

from __future__ import annotations

import functools
import gc
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import torch

from bench.gpu import clock
from rlmba.errors import BackendError
from rlmba.kernels import dispatch

__all__ = ["Aim", "Case", "Floor", "Row", "Work", "run"]

Shape = Mapping[str, int]


class Floor(NamedTuple):
    """Minimum work of any implementation: bytes read and written, multiplications and additions."""

    bytes: int
    operations: int

    def seconds(self, bytes_per_second: float, operations_per_second: float) -> float:
        """The larger of the two times."""
        return max(self.bytes / bytes_per_second, self.operations / operations_per_second)


@dataclass(frozen=True)
class Aim:
    """A target: a fraction of a ceiling, milliseconds, or a multiple of a peer's speed."""

    kind: Literal["copy", "matmul", "milliseconds", "times"]
    value: float
    peer: str | None = None

    def __str__(self) -> str:
        return {
            "copy": f"{self.value} of copy",
            "matmul": f"{self.value} of matmul",
            "milliseconds": f"{self.value:g} ms",
            "times": f"{self.value:g} x {self.peer}",
        }[self.kind]

    def met(self, row: Row, peers: Sequence[Row]) -> bool | None:
        """Whether a timed row reaches it; None if unknown."""
        if row.p50 is None:
            return None
        if self.kind == "milliseconds":
            return row.p50 * 1e3 <= self.value
        if self.kind == "times":
            peer_times = [p.p50 for p in peers if p.form == self.peer and p.p50 is not None]
            return peer_times[0] / row.p50 >= self.value if peer_times else None
        fraction = row.fraction_of_copy if self.kind == "copy" else row.fraction_of_matmul
        return None if fraction is None else fraction >= self.value


@dataclass(frozen=True)
class Work:
    """A case at one size, with its arrays.

    ``ours`` takes a backend's name. ``check`` takes a result of ours or of a peer and raises
    AssertionError if it is wrong. It is also told whether the result is ours, since peers that
    round their products to the data's dtype have a larger tolerance.
    """

    ours: Callable[[str], Any]
    peers: Mapping[str, Callable[[], Any]]
    check: Callable[[Any, bool], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A benchmark of operations at given sizes.

    ``group``: cases that share a process. ``backends``: backends to time on a GPU.
    """

    name: str
    ops: tuple[str, ...]
    group: str
    dtype: str
    full: Shape
    tiny: Shape
    floor: Callable[[Shape, int], Floor]
    make: Callable[[Shape, torch.dtype, torch.device], Work]
    aim: Aim
    backends: Sequence[str] = dispatch.ACCELERATED

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the data."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    def floor_at(self, shape: Shape) -> Floor:
        """The floor at a size."""
        return self.floor(shape, self.torch_dtype.itemsize)


@dataclass(kw_only=True)
class Row:
    """One implementation of a case with its times; ``problem`` tells why there are none."""

    case: str
    form: str
    ours: bool
    shape: Shape
    dtype: str
    bytes: int
    operations: int
    aim: str
    p20: float | None = None
    p50: float | None = None
    p80: float | None = None
    repeats: int = 0
    bytes_per_second: float | None = None
    operations_per_second: float | None = None
    fraction_of_copy: float | None = None
    fraction_of_matmul: float | None = None
    times_floor: float | None = None
    met: bool | None = None
    status: Literal["timed", "absent", "failed"] = "failed"
    problem: str | None = None
    trace: str | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serializable values."""
        return asdict(self) | {"shape": dict(self.shape)}


def run(
    case: Case,
    device: torch.device,
    ceilings: Mapping[str, float],
    *,
    tiny: bool = False,
    backends: Sequence[str] | None = None,
    peers: bool = True,
    timed: bool = True,
) -> list[Row]:
    """Check and time every implementation of a case: each of our backends, then the peers.

    Parameters
    ----------
    case : Case
    device : torch.device
        Device of the data.
    ceilings : mapping
        Result of :func:`bench.gpu.machine.ceilings`.
    tiny : bool
        Whether to use the size for tests.
    backends : sequence of str, optional
        Backends to run; by default those of the case.
    peers : bool
        Whether to run the peers.
    timed : bool
        False only checks the results, with one call each.
    """
    shape = case.tiny if tiny else case.full
    torch.manual_seed(0)
    work = case.make(shape, case.torch_dtype, device)
    forms: list[tuple[str, bool, Callable[[], Any]]] = [
        (f"rlmba {b}", True, functools.partial(work.ours, b)) for b in backends or case.backends
    ]
    if peers:
        forms += [(name, False, call) for name, call in work.peers.items()]
    rows = []
    for name, is_ours, call in forms:
        floor = case.floor_at(shape)
        row = Row(
            case=case.name, form=name, ours=is_ours, shape=shape, dtype=case.dtype,
            bytes=floor.bytes, operations=floor.operations, aim=str(case.aim),
        )  # fmt: skip
        _fill(row, work, call, device, timed=timed)
        _relate(row, floor, ceilings)
        rows.append(row)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    others = [r for r in rows if not r.ours]
    for row in rows:
        if row.ours:
            row.met = case.aim.met(row, others)
    return rows


def _fill(
    row: Row, work: Work, call: Callable[[], Any], device: torch.device, *, timed: bool
) -> None:
    try:
        work.check(call(), row.ours)
        if timed:
            t = clock.measure(call, device)
            row.p20, row.p50, row.p80, row.repeats = t.p20, t.p50, t.p80, t.repeats
        row.status = "timed"
    except BackendError as error:
        row.status, row.problem = "absent", str(error)
    except Exception as error:  # a failure must not lose the other rows
        row.problem = f"{type(error).__name__}: {error}".splitlines()[0]
        row.trace = traceback.format_exc()


def _relate(row: Row, floor: Floor, ceilings: Mapping[str, float]) -> None:
    if row.p50 is None:
        return
    copy = ceilings["copy_bytes_per_second"]
    matmul = ceilings["matmul_operations_per_second"]
    row.bytes_per_second = floor.bytes / row.p50
    row.operations_per_second = floor.operations / row.p50
    row.fraction_of_copy = row.bytes_per_second / copy
    row.fraction_of_matmul = row.operations_per_second / matmul
    row.times_floor = row.p50 / floor.seconds(copy, matmul)
