from __future__ import annotations

import numpy as np
import pytest

from rlmba.types import PoolOutputs


@pytest.fixture
def pool(rng) -> PoolOutputs:
    n, c, d = 120, 5, 8
    features = {m: rng.normal(size=(n, d)).astype(np.float32) for m in ("image", "audio")}
    logits = {m: rng.normal(size=(n, c), scale=3).astype(np.float32) for m in features}
    return PoolOutputs(
        ids=np.array([f"s{i:03d}" for i in range(n)]),
        features=features,
        logits=logits,
        fused_features=sum(features.values()) / 2,
        fused_logits=sum(logits.values()) / 2,
    )
