"""Definition shared by all backends of graph_propagate, and sizes and tolerances for tests.

With x_i = f_i / |f_i| (a row of zeros stays zero), S_ij = x_i . x_j for the affinity "cosine" and
(1 + x_i . x_j) / 2 for "shifted", S_ii = 0, d_j = sum_i S_ij, the operation is A H = S diag(1/d) H
+ H. Where d_j is 0 up to rounding (``ISOLATED`` relative to |sum_i x_i|), row j is isolated: column
j of S diag(1/d) is 0.

"auto" is "cosine" where no feature is negative, so that no similarity is negative and 1/d gives
averages. It is also "cosine" where every nonzero row has a mean similarity of at least
``SAFE_MEAN`` to the others. Otherwise it is "shifted".
"""

from __future__ import annotations

AFFINITIES = ("cosine", "shifted")
ISOLATED = 1e-12
SAFE_MEAN = 0.01

SHAPES = [(2, 1, 1), (3, 2, 5), (40, 7, 3), (300, 33, 17), (1500, 64, 130), (5000, 20, 1)]
BENCH_SHAPES = {"food101": (44_719, 512, 128), "dense": (10_000, 512, 128)}

# Relative to the largest magnitude of the result.
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
