"""D^2 sampling over several processes: k-means++ of rows, and of gradient embeddings.

The random stream is that of :mod:`rlmba.kernels.common.d2_sampling`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels import dispatch
from rlmba.kernels.common import arrays, d2_sampling, distances
from rlmba.kernels.common.d2_sampling import REDUCTION_ROWS
from rlmba.kernels.common.random import uniform01
from rlmba.kernels.gradient_kmeans_plusplus import spec as gradient_spec
from rlmba.kernels.kmeans_plusplus import spec as rows_spec
from rlmba.kernels.sharded.group import Group, agreed
from rlmba.kernels.sharded.rows import RowBlocks, Span, owner, span_of

__all__ = ["Drawn", "gradient_kmeans_plusplus", "kmeans_plusplus"]

_Copies = tuple[NDArray[Any], ...]


class Drawn(NamedTuple):
    """Rows in drawn order.

    ``indices`` int64 [k], positions among the rows of all processes; ``distances`` [k], the distance of
    each to the nearest row drawn before (for the first: its norm, or infinity for plain rows); and for
    the rows of this process ``squared`` float64 [n] and ``labels`` int64 [n], the squared distance to the
    nearest drawn row, and which it is (empty for gradient embeddings).
    """

    indices: NDArray[np.int64]
    distances: NDArray[Any]
    squared: NDArray[np.float64]
    labels: NDArray[np.int64]


class _Points(Protocol):
    """Rows of this process, with ``squared`` [n]; some of them are copied to all processes."""

    squared: NDArray[np.float64]
    update_last: bool

    def copies(self, rows: NDArray[np.int64]) -> _Copies: ...

    def pairs(self, copies: _Copies) -> NDArray[np.float64]:
        """Squared distances of copied rows to those before them: [c, c], below the diagonal."""
        ...

    def update(self, copies: _Copies, first_label: int) -> None:
        """Lower ``squared`` to the distances to copied rows."""
        ...


class _Rows:
    """Plain rows [n, D]."""

    update_last = True

    def __init__(self, rows: RowBlocks, span: Span) -> None:
        self._rows, self._span = rows, span
        self._core = dispatch.require_core()
        self.squared = np.full(len(rows), np.inf)
        self.labels = np.full(len(rows), -1, dtype=np.int64)

    def copies(self, rows: NDArray[np.int64]) -> _Copies:
        return (self._rows.take(rows)[0],)

    def pairs(self, copies: _Copies) -> NDArray[np.float64]:
        found = np.zeros((len(copies[0]), len(copies[0])))
        self._core.row_pairs(copies[0], found)
        return found

    def update(self, copies: _Copies, first_label: int) -> None:
        for at, (x,) in self._rows.blocks():
            part = slice(at, at + len(x))
            bad = self._core.update_nearest(
                x,
                copies[0],
                distances.UNBOUNDED,
                self.squared[part],
                self.labels[part],
                first_label,
            )
            if bad >= 0:
                raise arrays.non_finite(x, "x", bad, offset=self._span.begin + at)


class _Gradients:
    """Gradient embeddings: residuals [n, C], parts of the features [n, d_m], and scales [n, M] or none."""

    update_last = False

    def __init__(self, rows: RowBlocks, span: Span, parts: int, *, scaled: bool) -> None:
        self._rows, self._span, self._parts, self._scaled = rows, span, parts, scaled
        self._core = dispatch.require_core()
        self.squared = np.full(len(rows), np.inf)

    def _factors(self, given: Sequence[NDArray[Any]]) -> tuple[Any, list[Any], Any]:
        features = list(given[1 : 1 + self._parts])
        return given[0], features, given[-1] if self._scaled else None

    def norms(self) -> NDArray[np.float64]:
        """Squared norms [n]; checks that all rows are finite."""
        found = np.empty(len(self.squared))
        for at, given in self._rows.blocks():
            out = found[at : at + len(given[0])]
            self._checked(self._core.gradient_norms(*self._factors(given), out), at, given)
        return found

    def _checked(self, status: int, at: int, given: Sequence[NDArray[Any]]) -> None:
        if status == self._core.kmeans_overflow:
            raise distances.overflow("features")
        if status >= 0:
            residuals, features, scales = self._factors(given)
            names = ["residuals", *(f"features[{m}]" for m in range(len(features))), "scales"]
            for name, part in zip(names, [residuals, *features, scales], strict=True):
                if part is not None and not np.isfinite(part[status]).all():
                    raise arrays.non_finite(part, name, status, offset=self._span.begin + at)
            raise distances.overflow("features")

    def copies(self, rows: NDArray[np.int64]) -> _Copies:
        given = self._rows.take(rows)
        residuals, features, scales = self._factors(given)
        a = np.empty_like(residuals)
        z = np.empty((len(rows), sum(part.shape[1] for part in features)), dtype=a.dtype)
        every = np.arange(len(rows))
        self._core.gradient_rows(residuals, features, scales, every, a, z)
        return a, z

    def pairs(self, copies: _Copies) -> NDArray[np.float64]:
        found = np.zeros((len(copies[0]), len(copies[0])))
        self._core.gradient_pairs(*copies, found)
        return found

    def update(self, copies: _Copies, first_label: int) -> None:
        del first_label
        for at, given in self._rows.blocks():
            out = self.squared[at : at + len(given[0])]
            status = self._core.gradient_update(
                *self._factors(given), *copies, distances.UNBOUNDED, out
            )
            self._checked(status, at, given)


class _Draw:
    """One draw: what all processes know."""

    def __init__(self, points: _Points, group: Group, span: Span) -> None:
        self._points, self._group, self._span = points, group, span

    def copies(self, positions: NDArray[np.int64]) -> tuple[_Copies, NDArray[np.float64]]:
        """Copies of rows of any process, and their squared distances so far, in the given order."""
        owners = owner(self._span, positions)
        mine = np.flatnonzero(owners == self._group.rank)
        at = positions[mine] - self._span.begin
        given = (mine, self._points.copies(at), self._points.squared[at]) if len(mine) else None
        parts = [part for part in self._group.gather(given) if part is not None]
        order = np.argsort(np.concatenate([numbers for numbers, *_ in parts]))
        copies = [np.concatenate(c)[order] for c in zip(*(p[1] for p in parts), strict=True)]
        return tuple(copies), np.concatenate([p[2] for p in parts])[order]

    def law(self) -> d2_sampling.ChunkLaw:
        """The law of the next draw, by chunk."""
        sums = self._group.gather(d2_sampling.chunk_sums(self._points.squared))
        return d2_sampling.ChunkLaw(np.concatenate(sums))

    def positions(
        self, law: d2_sampling.ChunkLaw, uniforms: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Draw one position for each uniform number."""
        drawn = [law.draw(u) for u in uniforms.tolist()]
        starts = np.array([chunk * REDUCTION_ROWS for chunk, _ in drawn])
        mine = np.flatnonzero(owner(self._span, starts) == self._group.rank)
        begin, squared = self._span.begin, self._points.squared
        found = np.array(
            [
                begin + d2_sampling.draw_within(squared, starts[j] - begin, drawn[j][1])
                for j in mine
            ],
            dtype=np.int64,
        )
        parts = self._group.gather((mine, found))
        order = np.argsort(np.concatenate([numbers for numbers, _ in parts]))
        return np.concatenate([p for _, p in parts])[order]


def _between(pairs: NDArray[np.float64], proposal: int, others: list[int]) -> NDArray[np.float64]:
    return np.asarray(pairs[proposal, others])


def _draw(  # noqa: PLR0917
    points: _Points,
    group: Group,
    span: Span,
    k: int,
    seed: int,
    first: int,
    blocks: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions [k] in drawn order, and the D^2 of each when drawn (infinity for the first)."""
    draw = _Draw(points, group, span)
    drawn, at_draw, counter = [first], [np.inf], 1
    centers, _ = draw.copies(np.array([first]))
    if points.update_last or k > 1:
        with agreed(group):
            points.update(centers, 0)
    while len(drawn) < k:
        law = draw.law()
        if not np.isfinite(law.total):
            raise distances.overflow()
        if law.total <= 0:
            break
        size = min(max(len(drawn), blocks[0]), blocks[1])
        uniforms = uniform01(seed, counter, 2 * size)
        positions = draw.positions(law, uniforms[::2])
        proposals, before = draw.copies(positions)
        pairs = points.pairs(proposals)
        kept, now, walked = d2_sampling.accept_block(
            before.tolist(), partial(_between, pairs), uniforms[1::2], k - len(drawn)
        )
        counter += 2 * walked
        if points.update_last or len(drawn) + len(kept) < k:
            with agreed(group):
                points.update(tuple(c[kept] for c in proposals), len(drawn))
        drawn += positions[kept].tolist()
        at_draw += now
    left = k - len(drawn)
    drawn += d2_sampling.draw_exhausted(span.total, drawn, uniform01(seed, counter, left))
    return np.array(drawn, dtype=np.int64), np.array(at_draw + [0.0] * left)


def kmeans_plusplus(rows: RowBlocks, k: int, *, seed: int, group: Group) -> Drawn:
    """Draw ``k`` rows by k-means++, as :func:`rlmba.kernels.kmeans_plusplus`.

    Parameters
    ----------
    rows : RowBlocks
        One array [N, D] of float32 or float64, the same in all processes.
    k : int
        1 <= k <= the number of rows of all processes.
    seed : int
        As returned by :func:`rlmba.kernels.common.random.seed_from`.
    group : Group

    Raises
    ------
    NonFiniteError
        If a row contains NaN or infinity; ``.row`` is its position.
    DataError
        If distances overflow.
    """
    span = span_of(rows, group)
    points = _Rows(rows, span)
    first = d2_sampling.place(float(uniform01(seed, 0, 1)[0]), span.total)
    blocks = rows_spec.BLOCK_MIN, rows_spec.BLOCK_MAX
    indices, squared = _draw(points, group, span, k, seed, first, blocks)
    return Drawn(indices, np.sqrt(squared), points.squared, points.labels)


def gradient_kmeans_plusplus(
    rows: RowBlocks, n: int, *, seed: int, group: Group, parts: int = 1, scaled: bool = False
) -> Drawn:
    """Draw ``n`` gradient embeddings, as :func:`rlmba.kernels.gradient_kmeans_plusplus`.

    Parameters
    ----------
    rows : RowBlocks
        Residuals [N, C], then ``parts`` arrays [N, d_m], then scales [N, parts] if ``scaled``; all float32
        or all float64, and the same in all processes.
    n : int
        1 <= n <= the number of rows of all processes.
    seed : int
        As returned by :func:`rlmba.kernels.common.random.seed_from`.
    group : Group

    Raises
    ------
    NonFiniteError
        If a row contains NaN or infinity; ``.row`` is its position.
    DataError
        If a squared norm or the sum of squared distances overflows.

    Notes
    -----
    A block of proposals costs one pass over the rows, in which the accepted rows are compared with all
    rows of the process. At most 512 proposed rows are copied to all processes. Memory: 8 bytes a row.
    """
    span = span_of(rows, group)
    points = _Gradients(rows, span, parts, scaled=scaled)
    largest = (-1.0, 0)
    with agreed(group):
        norms = points.norms()
        if len(norms):
            at = int(norms.argmax())
            largest = (float(norms[at]), span.begin + at)
    norm2, first = max(group.gather(largest), key=lambda pair: (pair[0], -pair[1]))
    del norms
    blocks = gradient_spec.BLOCK_MIN, gradient_spec.BLOCK_MAX
    indices, squared = _draw(points, group, span, n, seed, first, blocks)
    squared[0] = norm2
    wide = any(given[0].dtype == np.float64 for _, given in itertools.islice(rows.blocks(), 1))
    dtype = np.dtype(np.float64 if any(group.gather(wide)) else np.float32)
    return Drawn(indices, distances.root(squared, dtype), points.squared, np.empty(0, np.int64))
