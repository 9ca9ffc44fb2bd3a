"""Select a batch with RL-MBA and with rlmba-x from the outputs of your own model.

Run it: ``python examples/select_batch.py``
"""

from __future__ import annotations

import numpy as np

import rlmba

rng = np.random.default_rng(0)
n, classes, width = 2_000, 10, 64

# The outputs of your model for all samples: features and logits of each modality, and the logits of
# the fused head ("mm"). Fused features are computed from the modalities, or passed as "mm" as well.
features = {m: rng.normal(size=(n, width)).astype(np.float32) for m in ("image", "text")}
logits = {m: 3 * rng.normal(size=(n, classes)).astype(np.float32) for m in ("image", "text", "mm")}
ids = [f"sample-{i}" for i in range(n)]

# Labeled samples are never selected; positions in the result are rows of these arrays.
labeled = rng.choice(n, size=100, replace=False)

for name in ("rlmba", "rlmba-x"):
    batch = rlmba.select(
        name,
        features=features,
        logits=logits,
        weights=[0.4, 0.6],
        labeled=labeled,
        ids=ids,
        n=20,
        rng=1,
    )
    assert not set(batch.positions) & set(labeled)
    milliseconds = {stage: round(1e3 * s, 1) for stage, s in batch.seconds.items()}
    print(name, batch.ids[:3], milliseconds, dict(batch.backends))

# Probabilities are enough for a strategy that only compares classes; ids are optional.
p = np.exp(logits["mm"])
p /= p.sum(axis=1, keepdims=True)
print("margin", rlmba.select("margin", probabilities=p, n=3).positions)
