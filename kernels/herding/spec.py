"""Shapes and tolerances for the tests and benches of herding. Picks have no tolerance."""

from __future__ import annotations

SHAPES = [
    # N, D of each modality, labeled rows: panels and slices from both sides of their edges
    (1, (1,), 0),
    (2, (1,), 1),
    (17, (2,), 0),
    (64, (3, 1), 5),
    (65, (16,), 1),
    (300, (33, 20), 40),
    (257, (64,), 0),
    (130, (65, 70, 1), 70),
    (200, (300,), 9),
    (1100, (40,), 3),
]
BENCH = {"rows": 44_719, "widths": (64, 64), "labeled": 1_000, "picks": 1_000}
GROWTH = [(10_000, None), (100_000, 10_000), (1_000_000, 10_000)]
"""N and the number of targets of the scaling benchmark."""

RTOL = 1e-9
"""Relative error of a gain, which is a sum of differences of kernels."""
