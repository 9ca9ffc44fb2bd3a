"""Shapes and tolerances for the tests and benches of fused_score."""

from __future__ import annotations

SHAPES = [(0, 3, 1), (1, 4, 2), (2, 3, 2), (300, 101, 2), (259, 17, 3), (40, 1100, 2), (500, 5, 9)]
BENCH_SHAPE = (1_000_000, 101, 2)
GROWTH = [10_000, 100_000, 1_000_000]

GPU_SECOND_PASS_SHAPE = (10_000_000, 2)
"""(N, M) of the second pass alone, float32. Lower bounds: 120 MB read for the extremes, 120 MB read and 160
MB written for the score; 3 divisions per row."""

UNCERTAINTY_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""Tolerance of uncertainty and difficulty, relative to a float64 result."""

UNIT_TOLERANCE = {"float32": 2e-4, "float64": 1e-10}
"""Absolute tolerance of normalized uncertainties and the score. Min-max divides the error of u by its range,
assumed to be at least a tenth of its largest value."""
