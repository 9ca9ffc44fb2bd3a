"""Shapes and tolerances for the tests and benches of deepfool_distance."""

from __future__ import annotations

SHAPES = [(0, 3, 4), (1, 1, 1), (5, 1, 3), (9, 2, 1), (30, 3, 5), (300, 101, 20), (70, 309, 33)]
SHAPES += [(33, 8, 16), (33, 16, 17)]
"""(N, C, D)."""

RELATIVE_TOLERANCE = 1e-13
"""Tolerance against a float64 result: norms are sums of D squares in float64."""

BENCH_SHAPE = (44_719, 101, 512)
GROWTH = [10_000, 100_000, 1_000_000]
