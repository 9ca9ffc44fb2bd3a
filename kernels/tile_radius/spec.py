"""Shapes and tolerances for the tests and benches of tile_radius."""

from __future__ import annotations

SHAPES = [
    # N, D of each modality, k
    (2, (3,), 1),
    (5, (2, 4), 5),
    (64, (16,), 7),
    (333, (5, 33), 20),
]

RTOL = 1e-13
"""Relative error: distances are summed in float64."""
