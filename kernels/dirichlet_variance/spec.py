"""Shapes and tolerances for the tests and benches of dirichlet_variance."""

from __future__ import annotations

SHAPES = [(0, 3), (1, 1), (1, 2), (3, 16), (5, 17), (257, 101), (300, 7), (70, 1500), (2, 5000)]
BENCH_SHAPE = (1_000_000, 101)
GROWTH = [10_000, 100_000, 1_000_000]
GPU_BENCH_SHAPE = (1_000_000, 309)
"""Shape of each of two fused modalities. Lower bounds: 1.24 GB (half precision) or 2.47 GB (float32) read
and 12 MB written; 6.2e8 softplus evaluations with 1.5 special functions and about 13 instructions each."""

RELATIVE_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""Relative tolerance against a float64 (or wider) result."""
