"""D^2 sampling in blocks on a GPU, with the stream of :mod:`rlmba.kernels.common.d2_sampling`.

The work of a block depends on a few numbers on the device, such as the number of rows drawn and the
next uniform number. The host launches blocks without reading them; a block does nothing once all
rows are drawn. The host reads them after as many blocks as are needed if every proposal is
accepted, plus one.

D^2 is summed over the rows of one program instead of ``REDUCTION_ROWS``, and in another order. A
uniform number within that rounding error of a boundary may therefore choose the neighboring row.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from rlmba.kernels.common import d2_sampling
from rlmba.kernels.common.random import uniform01 as host_uniform01
from rlmba.kernels.common.triton_device import uniform01
from rlmba.kernels.common.triton_nearest import MANY, ROWS

__all__ = [
    "PIECE",
    "Draw",
    "Points",
    "centers_to_meet",
    "fill_exhausted",
    "overflowed",
    "propose",
    "run",
]

# Positions of the numbers in Draw.state.
_DRAWN = tl.constexpr(0)
_COUNTER = tl.constexpr(1)
_COUNT = tl.constexpr(2)
_FIRST = tl.constexpr(3)
_SIZE = tl.constexpr(4)
_STATUS = tl.constexpr(5)
_SEED = tl.constexpr(6)
_WANTED = tl.constexpr(7)

RUNNING, EXHAUSTED, OVERFLOW = 0, 1, 2
_EXHAUSTED = tl.constexpr(EXHAUSTED)
_OVERFLOW = tl.constexpr(OVERFLOW)
_NONE = tl.constexpr(2**62)
PIECE = 256
"""Number of chunk sums that a proposal searches at once."""


class Draw:
    """The draws so far, on the device.

    Parameters
    ----------
    rows, k : int
        Number of rows, and number of rows to draw.
    tile_rows : int
        Number of rows in every tile except the last.

    Attributes
    ----------
    state : int64 [8]
    indices, at_draw : int64 [k], float64 [k]
        Drawn rows, and the D^2 of each when it was drawn.
    squared, labels, sums : float64 [rows], int64 [rows], float64 [chunks]
        Squared distance of every row to the nearest drawn row, which that is, and sums over ROWS
        rows.
    place, before, least, order, pairs : tensors of ``capacity`` (pairs: its square)
        For the proposals of a block: position, D^2, the smallest D^2 for acceptance, the accepted
        proposals, and the squared distances between proposals.
    """

    def __init__(
        self,
        rows: int,
        k: int,
        seed: int,
        blocks: tuple[int, int],
        tile_rows: int,
        device: torch.device,
    ) -> None:
        self.rows, self.k, self.seed, self.blocks = rows, k, seed, blocks
        self.tile_rows = tile_rows
        self.tile_chunks = triton.cdiv(tile_rows, ROWS)
        full, rest = divmod(rows, tile_rows)
        self.chunks = full * self.tile_chunks + triton.cdiv(rest, ROWS)
        # Two's complement, as in Triton's interpreter and on GPUs.
        bits = seed - 2**64 if seed >= 2**63 else seed
        self.state = torch.tensor(
            [1, 1, 1, 0, 0, RUNNING, bits, k], dtype=torch.int64, device=device
        )
        self.capacity = max(MANY, triton.next_power_of_2(min(blocks[1], max(k, blocks[0]))))
        n = self.capacity
        self.indices = torch.empty(k, dtype=torch.int64, device=device)
        self.at_draw = torch.empty(k, dtype=torch.float64, device=device)
        self.squared = torch.full((rows,), torch.inf, dtype=torch.float64, device=device)
        self.labels = torch.full((rows,), -1, dtype=torch.int64, device=device)
        self.sums = torch.empty(self.chunks, dtype=torch.float64, device=device)
        self.place = torch.zeros(n, dtype=torch.int64, device=device)
        self.order = torch.zeros_like(self.place)
        self.before = torch.empty(n, dtype=torch.float64, device=device)
        self.least = torch.empty_like(self.before)
        self.pairs = torch.empty((n, n), dtype=torch.float64, device=device)

    @property
    def count(self) -> Tensor:
        """Number of centers from the last block, int64 [1]."""
        return self.state[_COUNT.value : _COUNT.value + 1]

    @property
    def first_label(self) -> Tensor:
        """Label of the first of these centers, int64 [1]."""
        return self.state[_FIRST.value : _FIRST.value + 1]

    @property
    def size(self) -> Tensor:
        """Number of proposals in the block, int64 [1]."""
        return self.state[_SIZE.value : _SIZE.value + 1]

    def law(self) -> tuple[object, ...]:
        """The arguments of :func:`propose`."""
        return (
            self.state, self.squared, self.sums, self.chunks, self.rows, self.tile_rows,
            self.tile_chunks, self.place, self.before, self.least, *self.blocks,
        )  # fmt: skip

    def read(self) -> list[int]:
        """Read the state; waits for the GPU."""
        return [int(number) for number in self.state.tolist()]

    def tile_sums(self, begin: int) -> Tensor:
        """Return the sums of the tile that begins at a row."""
        return self.sums[begin // self.tile_rows * self.tile_chunks :]


class Points(Protocol):
    """Interface to rows whose pairwise distances can be computed."""

    def propose(self, draw: Draw, most: int) -> None:
        """Launch a block of at most ``most`` proposals, and fill ``draw.pairs``."""

    def update(self, draw: Draw, most: int) -> None:
        """Update the nearest centers with the at most ``most`` proposals named by ``draw.order``."""


@triton.jit
def next_block(state, block_min, block_max):
    """Number of proposals in the block; zero once all rows are drawn or the pool is exhausted."""
    drawn = tl.load(state + _DRAWN)
    size = tl.minimum(tl.maximum(drawn, block_min), block_max)
    more = tl.where(drawn < tl.load(state + _WANTED), size, 0)
    return tl.where(tl.load(state + _STATUS) == 0, more, 0)


@triton.jit
def propose(
    state,
    squared,
    sums,
    chunks,
    rows,
    tile_rows,
    tile_chunks,
    place,
    before,
    least,
    block_min,
    block_max,
    MANY: tl.constexpr,
    PIECE: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Positions [MANY] of this program's proposals, and which of them are in the block."""
    some = tl.program_id(0).to(tl.int64) * MANY + tl.arange(0, MANY)
    size = next_block(state, block_min, block_max)
    total = tl.zeros((PIECE,), tl.float64)
    for begin in range(0, chunks, PIECE):
        piece = begin + tl.arange(0, PIECE)
        total += tl.load(sums + piece, piece < chunks, other=0)
    weight = tl.sum(total)
    fine = (weight > 0) & (weight < float("inf"))
    size = tl.where(fine, size, 0)
    if tl.program_id(0) == 0:
        # Every D^2 is 0, so no row can be proposed.
        stuck = tl.where(fine, 0, next_block(state, block_min, block_max))
        if stuck > 0:
            tl.store(state + _STATUS, tl.where(weight == 0, _EXHAUSTED, _OVERFLOW))
        tl.store(state + _SIZE, size)
    inside = some < size
    seed = tl.load(state + _SEED)
    counter = tl.load(state + _COUNTER) + 2 * some
    target = uniform01(seed, counter) * weight

    # The first chunk whose cumulative sum exceeds the target, or the last if rounding leaves none.
    chunk = tl.full((MANY,), _NONE, tl.int64)
    start = tl.zeros((MANY,), tl.float64)
    last = tl.full((MANY,), 0, tl.int64)
    carried = weight * 0
    for begin in range(0, chunks, PIECE):
        piece = begin + tl.arange(0, PIECE).to(tl.int64)
        part = tl.load(sums + piece, piece < chunks, other=0)
        ends = carried + tl.cumsum(part)
        over = (ends[None, :] > target[:, None]) & (part > 0)[None, :]
        found = tl.min(tl.where(over, piece[None, :], _NONE), 1)
        earlier = tl.max(tl.where(piece[None, :] < found[:, None], ends[None, :], carried), 1)
        start = tl.where((chunk == _NONE) & (found < _NONE), earlier, start)
        chunk = tl.minimum(chunk, found)
        last = tl.maximum(last, tl.max(tl.where(part > 0, piece, 0)))
        carried += tl.sum(part)
    rest = tl.where(chunk < _NONE, target - start, float("inf"))
    chunk = tl.where(chunk < _NONE, chunk, last)

    tile = chunk // tile_chunks
    row = tile * tile_rows + (chunk - tile * tile_chunks) * CHUNK
    end = tl.minimum(tl.minimum(row + CHUNK, (tile + 1) * tile_rows), rows)
    at = row[:, None] + tl.arange(0, CHUNK)[None, :]
    part = tl.load(squared + at, (at < end[:, None]) & inside[:, None], other=0)
    over = (tl.cumsum(part, 1) > rest[:, None]) & (part > 0)
    found = tl.min(tl.where(over, at, _NONE), 1)
    found = tl.where(found < _NONE, found, tl.max(tl.where(part > 0, at, 0), 1))
    now = tl.sum(tl.where(at == found[:, None], part, 0.0), 1)
    tl.store(place + some, tl.where(inside, found, 0))
    tl.store(before + some, now, inside)
    tl.store(least + some, uniform01(seed, counter + 1) * now, inside)
    return some, found, inside


@triton.jit
def centers_to_meet(state):
    """Number of centers from the last block, or 0 if no further block needs them."""
    more = tl.load(state + _DRAWN) < tl.load(state + _WANTED)
    return tl.where(more, tl.load(state + _COUNT), 0)


@triton.jit
def _accept(state, place, before, least, pairs, order, indices, at_draw, SIZE: tl.constexpr):
    """Examine the proposals of a block one after another."""
    size = tl.load(state + _SIZE)
    among = tl.arange(0, SIZE)
    drawn = tl.load(state + _DRAWN)
    if size > 0:
        inside = among < size
        now = tl.load(before + among, inside, other=0)
        bound = tl.load(least + among, inside, other=float("inf"))
        kept = tl.zeros((SIZE,), tl.int32)
        for j in tl.range(0, size, num_stages=4):
            later = tl.load(pairs + j * SIZE + among, inside & (among > j), other=float("inf"))
            good = (among == j) & (now > 0) & (bound <= now)
            kept += good.to(tl.int32)
            taken = tl.sum(good.to(tl.int32)) > 0
            # Later proposals may be nearer to this center.
            now = tl.where(among > j, tl.where(taken, tl.minimum(now, later), now), now)
        room = tl.load(state + _WANTED) - drawn
        rank = tl.cumsum(kept)
        final = (kept > 0) & (rank <= room)
        count = tl.sum(final.to(tl.int64))
        to = (rank - 1).to(tl.int64)
        tl.store(order + to, among.to(tl.int64), final)
        tl.store(indices + drawn + to, tl.load(place + among, inside, other=0), final)
        tl.store(at_draw + drawn + to, now, final)
        # Proposals after the last accepted row were not examined.
        walked = tl.max(tl.where(final, among + 1, 0)).to(tl.int64)
        walked = tl.where(count < room, size, walked)
        tl.store(state + _COUNTER, tl.load(state + _COUNTER) + 2 * walked)
        tl.store(state + _FIRST, drawn)
        tl.store(state + _DRAWN, drawn + count)
        tl.store(state + _COUNT, count)
    else:
        tl.store(state + _COUNT, size)


def accept(draw: Draw) -> None:
    """Launch the acceptance of the proposals in ``draw``."""
    _accept[(1,)](
        draw.state, draw.place, draw.before, draw.least, draw.pairs, draw.order, draw.indices,
        draw.at_draw, SIZE=draw.capacity, num_warps=max(1, draw.capacity // 256),
    )  # fmt: skip


def run(points: Points, draw: Draw, *, ahead: bool) -> list[int]:
    """Draw until all wanted rows are drawn or the pool is exhausted; return the final state.

    The first row must have been drawn, and distances to it computed. With ``ahead``, blocks are
    launched before the results of earlier blocks are read; without it the host waits for every
    block.
    """
    drawn, spare = 1, int(ahead)
    state = draw.read() if draw.k == 1 else []
    while not state:
        most, left = drawn, 1 + spare
        while left:
            size = min(max(most, draw.blocks[0]), draw.blocks[1])
            points.propose(draw, size)
            accept(draw)
            points.update(draw, size)
            most = min(most + size, draw.k)
            if most == draw.k or not ahead:
                left -= 1
        spare = 0
        seen = draw.read()
        drawn = seen[_DRAWN.value]
        if drawn == draw.k or seen[_STATUS.value] != RUNNING:
            state = seen
    return state


def fill_exhausted(draw: Draw, state: list[int]) -> None:
    """Draw the remaining rows of an exhausted pool on the host; this happens rarely and at most once."""
    drawn = state[_DRAWN.value]
    if state[_STATUS.value] != EXHAUSTED or drawn == draw.k:
        return
    uniforms = host_uniform01(draw.seed, state[_COUNTER.value], draw.k - drawn)
    rest = d2_sampling.draw_exhausted(draw.rows, draw.indices[:drawn].tolist(), uniforms)
    draw.indices[drawn:] = torch.from_numpy(np.array(rest)).to(draw.indices.device)
    draw.at_draw[drawn:] = 0.0


def overflowed(state: list[int]) -> bool:
    """Whether the sum of D^2 exceeded float64."""
    return bool(state[_STATUS.value] == OVERFLOW)
