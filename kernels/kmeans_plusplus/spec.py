"""Block sizes shared by all backends of kmeans_plusplus (see ``common/d2_sampling.py``).

Uniform number 0 chooses the first center. A block has as many proposals as centers were drawn
before it, at least ``BLOCK_MIN`` and at most ``BLOCK_MAX``.
"""

from __future__ import annotations

BLOCK_MIN = 1
BLOCK_MAX = 256

SHAPES = [(1, 1), (2, 1), (7, 3), (40, 5), (300, 17), (5000, 8), (9000, 2)]
BENCH_SHAPES = {"food101": (44_719, 512, 1_000)}

RTOL = {"float32": 2e-7, "float64": 1e-13}
