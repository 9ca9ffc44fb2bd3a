"""Use one acquisition kernel on a NumPy array.

Run it: ``python examples/kernels_on_arrays.py``
"""

from __future__ import annotations

import numpy as np

from rlmba import kernels

rng = np.random.default_rng(0)
scores = rng.normal(size=1_000_000).astype(np.float32)

with kernels.record() as calls:
    best = kernels.top_k(scores, 5)

print("positions of the five largest of a million scores:", best.indices.tolist())
print("their values:", np.round(best.values, 3).tolist())
print("served by:", [f"{call.op} on {call.backend}" for call in calls])

# Torch tensors give torch tensors. A backend that is named never falls back to another one.
naive = kernels.top_k(scores, 5, backend="reference")
assert best.indices.tolist() == naive.indices.tolist()
