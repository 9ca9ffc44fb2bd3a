"""What every backend of kmeans_plusplus agrees on: the order of draws, and the block-size schedule.

Uniforms of a seed (:mod:`rlmba.kernels.common.random`) are used in this order: number 0 places the
first center, and is left unused where the caller gives it; proposal p (counted over all blocks) uses
number 1 + 2 p for its place and 2 + 2 p for its acceptance; the draws of an exhausted pool follow, from
1 + 2 (proposals walked through) on, one each.

A block holds as many proposals as there are centers at its start, at least ``BLOCK_MIN`` and at most
``BLOCK_MAX``. Proposals left over when the last center is accepted are discarded.

A place is the first row whose cumulated D^2 exceeds u times the total. Sums run in order over chunks of
``REDUCTION_ROWS`` rows, and in order over the chunks.
"""

from __future__ import annotations

BLOCK_MIN = 1
BLOCK_MAX = 256
REDUCTION_ROWS = 4096

SHAPES = [(1, 1), (2, 1), (7, 3), (40, 5), (300, 17), (5000, 8), (9000, 2)]
BENCH_SHAPES = {"food101": (44_719, 512, 1_000)}

RTOL = {"float32": 2e-7, "float64": 1e-13}
