"""Shapes and tolerances that tests and benches of dirichlet_variance share."""

from __future__ import annotations

SHAPES = [(0, 3), (1, 1), (1, 2), (3, 16), (5, 17), (257, 101), (300, 7), (70, 1500), (2, 5000)]
BENCH_SHAPE = (1_000_000, 101)
GROWTH = [10_000, 100_000, 1_000_000]
RELATIVE_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""Against a float64 (or wider) answer, relative to that answer."""
