"""NumPy implementation of :func:`rlmba.kernels.gradient_kmeans_plusplus`: factored distances in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import arrays, d2_sampling
from rlmba.kernels.gradient_kmeans_plusplus import spec


class Factors(NamedTuple):
    """Factors of the embeddings: residuals [N, C], parts [N, d_m], and scales [N, M] or None."""

    residuals: arrays.Float
    features: Sequence[arrays.Float]
    scales: arrays.Float | None = None


class OuterRows:
    """Rows a_i (x) z_i, for :mod:`rlmba.kernels.common.d2_sampling`.

    |a (x) z - b (x) w|^2 is (|a - b|^2 |z + w|^2 + |a + b|^2 |z - w|^2 + 2 (|a|^2 - |b|^2) (|z|^2 -
    |w|^2)) / 4, where b (x) w is taken as (r b) (x) (w / r) with the power of two r that makes |a|
    and |r b| similar, so that the last term does not cancel.
    """

    def __init__(self, factors: Factors) -> None:
        parts = list(factors.features)
        if factors.scales is not None:
            parts = [factors.scales[:, m, None] * z for m, z in enumerate(parts)]
        self.a = factors.residuals.astype(np.float64)
        self.z = np.concatenate(parts, axis=1).astype(np.float64)
        with np.errstate(over="ignore"):  # overflow shows in the total of D^2
            self.a2 = (self.a**2).sum(axis=1)
            self.z2 = (self.z**2).sum(axis=1)

    def __len__(self) -> int:
        return len(self.a)

    @property
    def norms2(self) -> NDArray[np.float64]:
        """|a_i|^2 |z_i|^2 of every row."""
        return np.asarray(self.a2 * self.z2)

    def _to(self, center: int, rows: slice | list[int]) -> NDArray[np.float64]:
        a2, z2 = self.a2[rows], self.z2[rows]
        exponents = np.frexp(a2)[1] - np.frexp(self.a2[center])[1]
        r = np.ldexp(1.0, np.clip(np.trunc(exponents / 2).astype(np.int64), -256, 256))
        b2, w2 = self.a2[center] * r * r, self.z2[center] / (r * r)
        da = ((self.a[rows] - r[:, None] * self.a[center]) ** 2).sum(axis=1)
        dz = ((self.z[rows] - self.z[center] / r[:, None]) ** 2).sum(axis=1)
        sa = np.maximum(2 * a2 + 2 * b2 - da, 0)
        sz = np.maximum(2 * z2 + 2 * w2 - dz, 0)
        squared = np.maximum(0.25 * (da * sz + sa * dz + 2 * (a2 - b2) * (z2 - w2)), 0)
        zero = (a2 == 0) | (self.a2[center] == 0)
        return np.asarray(np.where(zero, a2 * z2 + self.a2[center] * self.z2[center], squared))

    def nearest(self, positions: list[int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """See :class:`rlmba.kernels.common.d2_sampling.Points`."""
        squared = np.full(len(self), np.inf)
        labels = np.zeros(len(self), dtype=np.int64)
        for place, position in enumerate(positions):
            d = self._to(position, slice(None))
            nearer = d < squared
            squared[nearer], labels[nearer] = d[nearer], place
        return squared, labels

    def squared(self, position: int, others: list[int]) -> NDArray[np.float64]:
        """See :class:`rlmba.kernels.common.d2_sampling.Points`."""
        return self._to(position, others)


def gradient_kmeans_plusplus(
    factors: Factors,
    n: int,
    seed: int,
    first: int | None,
    *,
    block_min: int = spec.BLOCK_MIN,
    block_max: int = spec.BLOCK_MAX,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions [n] in drawn order, and the D^2 of each when drawn (for the first, its norm^2)."""
    rows = OuterRows(factors)
    if first is None:
        first = int(rows.norms2.argmax())
    with np.errstate(over="ignore", invalid="ignore"):  # overflow shows in the total
        drawn = d2_sampling.draw_blocks(
            rows, n, seed, first, block_min=block_min, block_max=block_max
        )
    at_draw = drawn.at_draw
    at_draw[0] = rows.norms2[first]
    return drawn.indices, at_draw
