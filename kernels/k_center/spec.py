"""Shapes and tolerances for the tests and benches of k_center. Picks have no tolerance."""

from __future__ import annotations

SHAPES = [
    # N, D, labeled rows: panels and slices from both sides of their edges
    (1, 1, 0),
    (2, 1, 1),
    (17, 2, 0),
    (64, 3, 5),
    (65, 16, 1),
    (300, 33, 40),
    (257, 64, 0),
    (130, 65, 70),
    (200, 300, 9),
    (1500, 2, 0),
    (3000, 8, 3),
]
BENCH_SHAPES = {"food101": (44_719, 512, 1_000, 1_000)}
"""N, D, labeled rows, picks."""
GROWTH = [(10_000, 128), (100_000, 128), (1_000_000, 64)]
"""N, D of the scaling benchmark; 1,000 picks, no labeled rows."""
MAPPED_WIDTH = 1_024
MAPPED = {200_000: 2_000, 2_000_000: 1_000}
"""Rows of a memory-mapped bank, and how many of them are picked."""

RTOL = {"float32": 2e-7, "float64": 1e-13}
"""Relative error of a distance: squares are summed in float64 and rounded once to the input's dtype."""
