"""Pools in which there is little or nothing to compare: exactly n distinct samples, or a named error."""

from __future__ import annotations

import numpy as np
import pytest

import rlmba
from rlmba.errors import UsageError
from rlmba.strategies.cost import COSTS

N, L, C = 12, 3, 3
EVERY_BUILT_IN = sorted(COSTS)


def given(rng, *, equal=False, classes=C, scale=1.0):
    """Two modalities with everything that a strategy may need."""

    def rows(n, d):
        return np.ones((n, d)) if equal else scale * rng.normal(size=(n, d))

    features = {m: rows(N, 4) for m in ("a", "b")}
    weight = rng.normal(size=(classes, 4))
    logits = {m: f @ weight.T for m, f in features.items()}
    fused = sum(features.values()) / 2
    return {
        "features": features,
        "logits": logits | {"mm": fused @ weight.T},
        "head": (weight, np.zeros(classes)),
        "dropout_logits": rng.normal(size=(4, N, classes)),
        "labeled": {m: rows(L, 4) for m in features},
        "labels": np.arange(L) % classes,
        "input_features": {m: rows(N, 7) for m in features},
        "labeled_input_features": {m: rows(L, 7) for m in features},
        "rng": 0,
    }


def check(name, n, arrays):
    chosen = rlmba.select(name, n=n, **arrays)
    assert len(set(chosen.positions.tolist())) == n
    assert set(chosen.positions.tolist()) <= set(range(N))
    assert np.isfinite(chosen.scores).all()


@pytest.mark.parametrize("name", EVERY_BUILT_IN)
@pytest.mark.parametrize("n", [1, 5, N])
@pytest.mark.parametrize(
    "case", [{"equal": True}, {"classes": 1}, {"scale": 1e-30}], ids=["equal", "one class", "tiny"]
)
def test_rows_that_hardly_differ(name, n, case, rng):
    check(name, n, given(rng, **case))


@pytest.mark.parametrize("name", EVERY_BUILT_IN)
def test_labels_of_one_class_only(name, rng):
    check(name, 5, given(rng) | {"labels": np.zeros(L, int)})


@pytest.mark.parametrize("name", EVERY_BUILT_IN)
def test_a_modality_that_no_sample_has(name, rng):
    arrays = given(rng)
    present = np.ones((N, 2), bool)
    present[:, 1] = False
    for key in ("features", "logits", "input_features"):
        arrays[key]["b"][:] = np.nan
    check(name, 5, arrays | {"present": present})


@pytest.mark.parametrize("name", EVERY_BUILT_IN)
def test_what_cannot_be_chosen_from_is_an_error(name, rng):
    arrays = given(rng)
    with pytest.raises(UsageError, match=rf"^{name}: expected n within 0..{N}"):
        rlmba.select(name, n=N + 1, **arrays)
    del arrays["labeled_input_features"]
    arrays |= {"labeled": np.arange(N), "labels": np.arange(N) % C}
    with pytest.raises(UsageError, match=r"expected n within 0\.\.0"):
        rlmba.select(name, n=1, **arrays)
