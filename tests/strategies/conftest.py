from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.select_inputs import C, D, N


@pytest.fixture
def features(rng):
    return rng.normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def logits(rng):
    return (2 * rng.normal(size=(N, C))).astype(np.float32)


@pytest.fixture
def everything(features, logits, rng):
    return {
        "features": features,
        "logits": logits,
        "labeled": rng.normal(size=(9, D)).astype(np.float32),
        "labels": rng.integers(C, size=9),
        "head": (rng.normal(size=(C, D)), rng.normal(size=C)),
        "dropout_logits": rng.normal(size=(5, N, C)),
    }
