"""Input features in ``rlmba.select``: preparation, labeled samples, what is missing, what is used instead."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import rlmba
from rlmba import strategies
from rlmba.errors import DataError, NonFiniteError, RlmbaWarning, ShapeError, UsageError
from rlmba.method import herding
from rlmba.method.completing import completed_features
from rlmba.method.input_space import InputSpace
from tests.helpers.select_inputs import C, N, probe


@pytest.fixture
def raw(rng):
    return {"image": rng.normal(3, 9, (N, 200)), "text": rng.integers(0, 5, (N, 6))}


@pytest.fixture
def both(rng):
    return {m: rng.normal(size=(N, C)) for m in ("image", "text", "mm")}


def seen(**given):
    strategy = probe("input_features")
    rlmba.select(strategy, n=3, **given)
    return strategy.pool.input_features, strategy.context.labeled_input_features


def prepared(raw, present=None):
    made = InputSpace.fit(raw, present=present).prepare(raw, present=present)
    return completed_features(made, present)


def assert_same(found, expected, rows):
    for m, a in expected.items():
        np.testing.assert_allclose(found[m], a[rows], atol=1e-6)


def test_they_alone_make_a_pool(raw):
    found, labeled = seen(input_features=raw)
    assert labeled is None
    assert_same(found, prepared(raw), np.arange(N))
    batch = rlmba.select("rlmba-h", n=7, input_features=raw, ids=[f"s{i}" for i in range(N)])
    first = herding.first_batch(prepared(raw), 7).indices
    assert batch.positions.tolist() == first.tolist()
    assert batch.ids.tolist() == [f"s{i}" for i in first]
    one = rlmba.select("rlmba-h", n=7, input_features=raw["image"])
    other = rlmba.select("rlmba-h", n=7, input_features={"image": raw["image"]})
    assert one.positions.tolist() == other.positions.tolist()


def test_labeled_rows_are_prepared_with_the_pool(raw, both):
    at = np.array([4, 50, 9])
    found, labeled = seen(input_features=raw, logits=both, labeled=at)
    rows = np.sort(at)
    assert_same(found, prepared(raw), np.setdiff1d(np.arange(N), at))
    assert_same(labeled, prepared(raw), rows)
    pool = {m: a[:-5] for m, a in raw.items()}
    others = {m: a[-5:] for m, a in raw.items()}
    found, labeled = seen(input_features=pool, labeled_input_features=others)
    assert_same(found, prepared(raw), np.arange(N - 5))
    assert_same(labeled, prepared(raw), np.arange(N - 5, N))


def test_labeled_positions_are_never_chosen(raw, both):
    batch = rlmba.select("rlmba-h", n=N - 3, input_features=raw, logits=both, labeled=[0, 7, 59])
    assert sorted({*range(N)} - set(batch.positions.tolist())) == [0, 7, 59]


def test_missing_modalities_are_completed(raw, rng):
    present = rng.random((N, 2)) < 0.7
    present[~present.any(axis=1), 0] = True
    raw["text"] = raw["text"].astype(float)
    raw["text"][~present[:, 1]] = np.nan
    found, _ = seen(input_features=raw, present=present)
    clean = {m: np.where(present[:, [j]], a, 0) for j, (m, a) in enumerate(raw.items())}
    assert_same(found, prepared(clean, present), np.arange(N))


def test_without_them_the_features_are_used_with_a_warning(features, logits):
    with pytest.warns(RlmbaWarning, match="pass input_features="):
        batch = rlmba.select("rlmba-h", n=5, features=features, logits=logits, labeled=features[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = rlmba.select(
            "rlmba-h",
            n=5,
            features=features,
            logits=logits,
            input_features=features,
            labeled_input_features=features[:4],
        )
        rlmba.select("margin", n=5, features=features, logits=logits)
    assert batch.positions.tolist() == same.positions.tolist()


def test_a_labeled_sample_that_is_not_finite_is_named(raw):
    others = {m: a[:4].astype(float) for m, a in raw.items()}
    others["text"][2, 0] = np.nan
    with pytest.raises(DataError, match=r"^labeled_input_features\['text'\]: .* row 2 "):
        rlmba.select("rlmba-h", n=2, input_features=raw, labeled_input_features=others)


def test_the_option_weights_is_a_text(raw):
    given = {"n": 7, "input_features": raw, "rng": 0}
    given["logits"] = {m: a[:, :4] for m, a in raw.items()} | {"mm": raw["image"][:, :4]}
    given["fusion_weights"] = [0.9, 0.1]
    uniform = rlmba.select("rlmba-h", weights="uniform", **given)
    made = strategies.create("rlmba-h", weights="uniform")
    assert uniform.positions.tolist() == rlmba.select(made, **given).positions.tolist()
    assert uniform.positions.tolist() != rlmba.select("rlmba-h", **given).positions.tolist()
    with pytest.raises(UsageError, match="'margin' has no option 'weights'"):
        rlmba.select("margin", weights="uniform", **given)


def test_errors(raw, both, features, logits):
    with pytest.raises(UsageError, match=r"pass input_features=\[N, D\]"):
        rlmba.select("rlmba-h", n=2, logits=logits)
    with pytest.raises(UsageError, match="pass labeled_input_features="):
        rlmba.select("rlmba-h", n=2, features=features, input_features=features, labeled=features)
    with pytest.raises(ShapeError, match=r"labeled_input_features.*expected width 7"):
        rlmba.select(
            "rlmba-h", n=2, input_features=features, labeled_input_features=features[:, 1:]
        )
    with pytest.raises(UsageError, match="leave labeled_input_features out"):
        rlmba.select(
            "rlmba-h",
            n=2,
            input_features=features,
            labeled=[0, 1],
            labeled_input_features=features[:2],
        )
    with pytest.raises(UsageError, match="expected the modalities"):
        rlmba.select("rlmba-h", n=2, input_features={"image": raw["image"]}, logits=both)
    with pytest.raises(UsageError, match="got one array"):
        rlmba.select("rlmba-h", n=2, input_features=raw["image"], logits=both)
    with pytest.raises(ShapeError, match="one row for each sample"):
        rlmba.select("rlmba-h", n=2, input_features=features[1:], logits=logits)
    raw["image"][8, 3] = np.nan
    with pytest.raises(NonFiniteError, match=r"'id-8'.*'image'") as error:
        rlmba.select("rlmba-h", n=2, input_features=raw, ids=[f"id-{i}" for i in range(N)])
    assert error.value.row == 8
