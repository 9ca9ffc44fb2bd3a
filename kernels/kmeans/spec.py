"""Shapes and tolerances for the tests and benches of kmeans."""

from __future__ import annotations

SHAPES = [
    # N, D, k
    (1, 1, 1),
    (9, 1, 3),
    (50, 3, 50),
    (300, 17, 12),
    (2000, 8, 40),
]
BENCH_SHAPES = {"food101": (44_719, 512, 1_000)}
GROWTH_ROWS = (10_000, 100_000, 1_000_000)
GROWTH_WIDTH = 128

RTOL = {"float32": 1e-6, "float64": 1e-12}
"""Relative error of a distance: centers are means in float64, rounded once to the input's dtype."""
