"""What every backend of kmeans_plusplus agrees on beside ``common/d2_sampling.py``: the block sizes.

Uniform number 0 places the first center. A block holds as many proposals as there are centers at its
start, at least ``BLOCK_MIN`` and at most ``BLOCK_MAX``.
"""

from __future__ import annotations

BLOCK_MIN = 1
BLOCK_MAX = 256

SHAPES = [(1, 1), (2, 1), (7, 3), (40, 5), (300, 17), (5000, 8), (9000, 2)]
BENCH_SHAPES = {"food101": (44_719, 512, 1_000)}

RTOL = {"float32": 2e-7, "float64": 1e-13}
