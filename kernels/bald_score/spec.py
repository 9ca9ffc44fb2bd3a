"""Shapes and tolerances for the tests and benches of bald_score."""

from __future__ import annotations

SHAPES = [
    (1, 5, 3),
    (2, 0, 4),
    (2, 1, 1),
    (2, 7, 2),
    (3, 6, 3),
    (10, 70, 101),
    (4, 9, 309),
    (7, 3, 8),
]
"""(K, N, C)."""

SUM_SLACK = 1e-3
"""Tolerance for the sum of the probabilities of a pass, which should be 1."""

RELATIVE_TOLERANCE = 1e-11
"""Relative tolerance of scores above 1e-6, against a float64 result."""

ABSOLUTE_TOLERANCE = 1e-17
"""Absolute tolerance of smaller scores: the rounding of probabilities (about 1e-16) times the spread of the
passes."""

BENCH_SHAPE = (10, 44_719, 101)
GROWTH = [10_000, 100_000, 1_000_000]
GROWTH_PASSES = 4
