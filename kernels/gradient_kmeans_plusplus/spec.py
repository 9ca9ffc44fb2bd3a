"""Constants shared by all backends of gradient_kmeans_plusplus (see ``common/d2_sampling.py``).

The first row is given or has the largest norm; uniform number 0 is not used. A block has as many
proposals as rows were drawn before it, at least ``BLOCK_MIN`` and at most ``BLOCK_MAX``. Gradient
embeddings are so far apart that few proposals are rejected, so large blocks save passes from the
start.
"""

from __future__ import annotations

BLOCK_MIN = 64
BLOCK_MAX = 512

SHAPES = [
    (1, 1, [1]),
    (2, 3, [1]),
    (9, 1, [4]),
    (40, 5, [3, 2]),
    (300, 17, [40]),
    (2500, 6, [9, 1]),
]
"""(N, C, widths of the parts)."""

BENCH_SHAPES = {
    "badge food101": (44_719, 101, [2_816], 1_000),
    "bmmal food101": (44_719, 101, [512, 512], 1_000),
    "badge small": (5_000, 100, [768], 10),
}
"""(N, C, widths, n)."""

RTOL = {"float32": 2e-7, "float64": 1e-12}
"""Tolerance of each row's distance when it was drawn."""
