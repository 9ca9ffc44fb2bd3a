"""Let RL-MBA and its variant pick a batch from arrays of another code: no model, no data set of ours."""

from __future__ import annotations

import numpy as np

from rlmba import strategies
from rlmba.types import PoolOutputs, QueryContext

rng = np.random.default_rng(0)
n, classes, width = 2_000, 10, 64

# What your own model says of its unlabeled pool: features and logits of each modality's head and of
# the fused one.
image, text = (rng.normal(size=(n, width)).astype(np.float32) for _ in range(2))
image_logits, text_logits = (3 * rng.normal(size=(n, classes)).astype(np.float32) for _ in range(2))
pool = PoolOutputs(
    ids=np.array([f"sample-{i}" for i in range(n)]),
    features={"image": image, "text": text},
    logits={"image": image_logits, "text": text_logits},
    fused_features=(image + text) / 2,
    fused_logits=(image_logits + text_logits) / 2,
)

for name in ("rlmba", "rlmba-x"):
    context = QueryContext(rng=np.random.default_rng(1), weights=np.array([0.4, 0.6]))
    selection = strategies.create(name).query(pool, context, 20)
    milliseconds = {stage: round(1e3 * s, 1) for stage, s in selection.seconds.items()}
    print(name, pool.ids[selection.positions][:3], milliseconds, dict(selection.backends))
