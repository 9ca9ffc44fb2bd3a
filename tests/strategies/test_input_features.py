"""Input features in the types that carry them between rooms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlmba.errors import DataError, ShapeError
from tests.helpers.contract import make_context, make_pool


def test_taking_and_moving_the_outputs_moves_them_too():
    pool = make_pool(n=9)
    taken = pool.take(np.array([4, 1]))
    for m, a in pool.input_features.items():
        np.testing.assert_array_equal(taken.input_features[m], a[[4, 1]])
    tensors = pool.on("cpu")
    assert all(isinstance(a, torch.Tensor) for a in tensors.input_features.values())
    assert isinstance(tensors.host().input_features["m0"], np.ndarray)
    without = replace(pool, input_features=None)
    assert without.take(np.array([0])).on("cpu").input_features is None


def test_they_have_a_row_for_each_sample_and_the_modalities_in_order():
    pool = make_pool(n=9)
    a, b = pool.input_features.values()
    for wrong in ({"m0": a}, {"m1": b, "m0": a}, {"m0": a, "m1": b[:-1]}):
        with pytest.raises(ShapeError, match="input_features"):
            replace(pool, input_features=wrong)


def test_those_of_labeled_samples_are_as_wide_and_finite():
    pool = make_pool(n=9)
    context = make_context(pool)
    a, b = context.labeled_input_features.values()
    assert context.labeled_inputs_for(pool) is context.labeled_input_features
    for wrong in ({"m0": a}, {"m0": a, "m1": a}, {"m0": a, "m1": b[1:]}):
        with pytest.raises(ShapeError, match="labeled_input_features"):
            replace(context, labeled_input_features=wrong).labeled_inputs_for(pool)
    none = {"m0": a[:0], "m1": b[:0]}
    assert replace(context, labeled_input_features=none).labeled_inputs_for(pool) is None
    a[3, 0] = np.nan
    with pytest.raises(DataError, match="row 3 contains NaN"):
        context.labeled_inputs_for(pool)


def test_features_of_labeled_samples_by_modality_fit_the_pool():
    pool = make_pool(n=9)
    context = make_context(pool)
    a, b = context.labeled_modalities.values()
    swapped = replace(context, labeled_modalities={"m1": b, "m0": a})
    assert list(swapped.labeled_modalities_for(pool)) == ["m0", "m1"]
    assert replace(context, labeled_modalities=None).labeled_modalities_for(pool) is None
    for wrong in ({"m0": a}, {"m0": a, "m1": b[:, 1:]}, {"m0": a[1:], "m1": b[1:]}):
        with pytest.raises(ShapeError, match="labeled_modalities"):
            replace(context, labeled_modalities=wrong).labeled_modalities_for(pool)
    narrow = replace(context, labeled_present=np.ones((len(a), 1), bool))
    with pytest.raises(ShapeError, match="labeled_present"):
        narrow.labeled_modalities_for(pool)
