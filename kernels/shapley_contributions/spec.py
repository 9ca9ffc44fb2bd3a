"""Shapes, tolerances and constants of shapley_contributions, shared by its backends, tests and bench."""

from __future__ import annotations

EXACT_MODALITIES = 8
"""Up to this many modalities every coalition is evaluated; above it, permutations are sampled."""

PERMUTATIONS = 128
"""Number of sampled permutations."""

MAX_MODALITIES = 64

SHAPES = [(0, 3, 2), (1, 1, 1), (1, 2, 2), (7, 3, 3), (300, 101, 2), (65, 309, 3), (40, 17, 4)]
SHAPES += [(5, 9, 8), (6, 12, 9), (3, 5, 12)]
"""(N, C, M)."""

ABSOLUTE_TOLERANCE = {"float32": 1e-13, "float64": 1e-13}
"""Tolerance against a float64 result; values lie in [-1, 1]. float32 parts are added up in float64 as
well."""

BENCH_SHAPE = (44_719, 101, 2)
GROWTH = [10_000, 100_000, 1_000_000]
