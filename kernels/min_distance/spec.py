"""Shapes and tolerances for the tests and benches of min_distance."""

from __future__ import annotations

SHAPES = [
    # N, D, k: tiles, panels and slices of 256 columns from both sides of their edges
    (1, 1, 1),
    (3, 1, 2),
    (5, 2, 3),
    (13, 7, 31),
    (14, 16, 32),
    (15, 17, 33),
    (200, 33, 65),
    (257, 255, 40),
    (130, 256, 129),
    (61, 257, 64),
    (40, 600, 7),
    (2000, 3, 1100),
]
BENCH_SHAPES = {"food101": (44_719, 512, 1_000)}

RTOL = {"float32": 2e-7, "float64": 1e-13}
"""Relative error of a distance: squares are summed in float64 and rounded once to the input's dtype."""
