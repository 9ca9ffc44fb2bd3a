"""Fused features completed for distances, so that a missing modality does not change them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.kernels.common import exact_sums
from rlmba.kernels.common.arrays import match_kind, to_host
from rlmba.method.completing import BLOCK_ROWS, nearest_values
from rlmba.method.efda import sample_weights
from rlmba.types import PoolOutputs, QueryContext

__all__ = ["CHECKED_ROWS", "Fusion", "Samples", "completed", "fusion_of", "labeled_samples"]

CHECKED_ROWS = 200
_TOLERANCE = 1e-3


def completed(pool: PoolOutputs, context: QueryContext) -> tuple[PoolOutputs, QueryContext]:
    """Complete the fused features of samples that lack a modality, for distances between samples.

    The features of a single modality have a larger spread than a mean of several, so an incomplete
    sample would be far from all others only because it is incomplete. In a concatenation, where the
    missing part is zero, it would be near to all others. Its missing modality is therefore taken from
    the nearest sample that has it. Nearness is measured by the modalities that both samples have, among
    the pool and the labeled samples. If no sample has both modalities, the modality's mean is used.

    Parameters
    ----------
    pool : PoolOutputs
        NumPy arrays, or tensors, which stay on their device.
    context : QueryContext
        Labeled samples are completed if ``labeled_modalities`` has their features.

    Returns
    -------
    (PoolOutputs, QueryContext)
        ``fused_features`` and ``labeled_features`` differ in the incomplete rows; everything else is
        unchanged, including predictions and ``present``. The arguments themselves are returned if
        every sample is complete, and if ``fused_features`` are neither the convex combination by
        ``fusion_weights`` nor the concatenation, because it is then unknown how to complete them.

    Raises
    ------
    ShapeError
        If the labeled samples have other modalities than the pool.

    Notes
    -----
    Ties between equally near samples: the pool before the labeled samples, then the lower position. Rows
    that contain NaN or infinity are unchanged. O(A N D) time for A incomplete samples.
    """
    if all(p is None or p.all() for p in (pool.present, context.labeled_present)):
        return pool, context
    groups = [Samples.of(list(pool.features.values()), pool.fused_features, pool.present)]
    if context.labeled_features is not None and context.labeled_modalities is not None:
        groups.append(labeled_samples(pool, context))
    fusion = fusion_of(groups[0], context.fusion_weights_for(pool))
    if fusion is None:
        return pool, context
    pool = replace(pool, fused_features=groups[0].completed(groups, fusion))
    if len(groups) > 1:
        labeled = to_host(groups[1].completed(groups, fusion))
        context = replace(context, labeled_features=labeled)
    return pool, context


@dataclass(frozen=True, eq=False)
class Fusion:
    """How modalities are fused: convex with ``weights`` [M], or concatenated where they are None."""

    weights: NDArray[np.float64] | None

    def coordinates(self, features: Sequence[Any], which: Sequence[int], rows: Any) -> Any:
        """The coordinates [rows, sum of widths] for distances by the modalities ``which``."""
        parts = [features[k][match_kind(rows, features[k])] for k in which]
        if self.weights is not None and (w := self.weights[list(which)]).any():
            parts = [f * float(v) for f, v in zip(parts, w, strict=True)]
        return _joined(parts)

    def fuse(self, parts: Sequence[Any]) -> Any:
        """Fused features of samples that have every modality."""
        if self.weights is None:
            return _joined(parts)
        return sum(f * float(v) for f, v in zip(parts, self.weights, strict=True))


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples: M arrays [n, d_m], the fused [n, D], bool [n, M] ``present`` and bool [n] ``finite``."""

    features: Sequence[Any]
    fused: Any
    present: NDArray[np.bool_]
    finite: NDArray[np.bool_]

    @classmethod
    def of(cls, features: Sequence[Any], fused: Any, present: NDArray[np.bool_] | None) -> Samples:
        """Create samples; their rows are checked for NaN and infinity. ``present`` None: all are complete."""
        if present is None:
            present = np.ones((len(fused), len(features)), np.bool_)
        finite = _finite_rows(fused)
        for k, f in enumerate(features):
            finite &= _finite_rows(f) | ~present[:, k]
        return cls(features, fused, present, finite)

    def having(self, modalities: Sequence[int]) -> NDArray[np.int64]:
        """Rows of finite numbers that have all of these modalities, ascending."""
        return np.flatnonzero(self.present[:, list(modalities)].all(axis=1) & self.finite)

    def terms(self, modality: int) -> NDArray[Any]:
        """Features of a modality, of the samples that have it, in host memory."""
        rows, feature = self.having([modality]), self.features[modality]
        return to_host(feature[match_kind(rows, feature)])

    def completed(self, groups: Sequence[Samples], fusion: Fusion) -> Any:
        """The fused features, with the missing modalities of incomplete rows taken from other rows."""
        rows = np.flatnonzero(~self.present.all(axis=1) & self.finite)
        if not len(rows):
            return self.fused
        parts = [f[match_kind(rows, f)] for f in self.features]
        for pattern in np.unique(self.present[rows], axis=0):
            at = np.flatnonzero((self.present[rows] == pattern).all(axis=1))
            shared = np.flatnonzero(pattern).tolist()
            for m in np.flatnonzero(~pattern).tolist():
                value = None
                if shared:
                    mine = fusion.coordinates(self.features, shared, rows[at])
                    value = _from_nearest(mine, groups, fusion, shared, m)
                parts[m][match_kind(at, parts[m])] = _mean(groups, m) if value is None else value
        fused = np.array(self.fused) if isinstance(self.fused, np.ndarray) else self.fused.clone()
        fused[match_kind(rows, fused)] = fusion.fuse(parts)
        return fused


def labeled_samples(pool: PoolOutputs, context: QueryContext) -> Samples:
    """The labeled samples, in the same form as those of the pool; needs their features by modality."""
    given = context.labeled_modalities_for(pool) or {}
    context.labeled_for(pool)  # checks the fused features
    features = [_alike(given[m], f) for m, f in pool.features.items()]
    fused = _alike(context.labeled_features, pool.fused_features)
    return Samples.of(features, fused, context.labeled_present)


def _alike(x: Any, other: Any) -> Any:
    """``x`` on the device and with the dtype of ``other``."""
    if isinstance(other, np.ndarray):
        return to_host(x).astype(other.dtype, copy=False)
    return match_kind(x, other).to(other.dtype)


def fusion_of(group: Samples, weights: NDArray[np.float64]) -> Fusion | None:
    """The fusion that made a group's fused features; None if it is neither of the two.

    It is recognized on the complete rows, or on all rows if there are none.
    """
    widths = [f.shape[1] for f in group.features]
    joined = len(widths) > 1 and group.fused.shape[1] == sum(widths)
    if not joined and any(width != group.fused.shape[1] for width in widths):
        return None
    rows = group.having(range(len(widths)))
    rows = (rows if len(rows) else group.having([]))[:CHECKED_ROWS]
    there = group.present[rows]
    parts = [
        np.where(there[:, k, None], to_host(f[match_kind(rows, f)]).astype(np.float64), 0)
        for k, f in enumerate(group.features)
    ]
    given = to_host(group.fused[match_kind(rows, group.fused)])
    if joined:
        made = _joined(parts)
    else:
        made = np.einsum("nm,mnd->nd", sample_weights(weights, there), np.stack(parts))
    close = np.abs(made - given).max(initial=0) <= _TOLERANCE * np.abs(given).max(initial=0)
    return Fusion(None if joined else weights) if close else None


def _from_nearest(
    rows: Any, groups: Sequence[Samples], fusion: Fusion, shared: Sequence[int], modality: int
) -> Any:
    """A modality of the samples nearest to rows by shared modalities; None if no sample has all."""

    def blocks() -> Iterator[tuple[Any, Any]]:
        for group in groups:
            feature = group.features[modality]
            donors = group.having([*shared, modality])
            for start in range(0, len(donors), BLOCK_ROWS):
                block = donors[start : start + BLOCK_ROWS]
                coordinates = fusion.coordinates(group.features, shared, block)
                yield coordinates, feature[match_kind(block, feature)]

    return nearest_values(rows, blocks())


def _mean(groups: Sequence[Samples], modality: int) -> Any:
    """The mean of a modality over all samples that have it; 0 if no sample has it."""
    terms = [group.terms(modality) for group in groups]
    count = sum(map(len, terms))
    by = exact_sums.constants(max(map(exact_sums.largest_of, terms)), count, np.float64)
    total = sum(exact_sums.add_up(x, by) for x in terms)
    mean = np.asarray(total).sum(axis=0) / max(count, 1)
    return _alike(mean, groups[0].features[modality])


def _finite_rows(x: Any) -> NDArray[np.bool_]:
    finite: Any = np.isfinite(x) if isinstance(x, np.ndarray) else x.isfinite()
    return to_host(finite.all(1))


def _joined(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts, axis=1)
    import torch

    return torch.cat(list(parts), dim=1)
