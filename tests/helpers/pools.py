"""Pools with a known structure, for tests of strategies that compare features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlmba.strategies.geometry import unit_rows
from tests.helpers.contract import make_pool


def make_blobs(sizes, d=5, seed=0):
    """Unit rows around far centers, one group for each size, in mixed order; and their groups."""
    rng = np.random.default_rng(seed)
    centers = np.linalg.qr(rng.normal(size=(max(d, len(sizes)),) * 2))[0][: len(sizes)]
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = centers[group] + 0.05 * rng.normal(size=(len(group), centers.shape[1]))
    return unit_rows(rows), group


def pool_of(features):
    """A pool with these features, fused and in each modality."""
    pool = make_pool(n=len(features), d=features.shape[1], dtype=np.float64)
    return replace(pool, fused_features=features, features=dict.fromkeys(pool.features, features))


def headed(pool, weight, bias):
    """The pool with the fused logits of this linear head."""
    return replace(pool, fused_logits=pool.fused_features @ weight.T + bias)
