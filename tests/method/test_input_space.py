"""The input space: statistics of present rows, principal components, unit rows, extreme input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from rlmba.errors import NonFiniteError, ShapeError
from rlmba.method import input_space
from rlmba.method.input_space import InputSpace


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def by_hand(x, width):
    """The definition in plain NumPy: z-scores, principal components, unit rows."""
    deviation = x.std(axis=0)
    z = np.where(deviation > 0, (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1), 0)
    if x.shape[1] > width:
        _, _, right = np.linalg.svd(z, full_matrices=False)
        z = z @ right[:width].T
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def distances(x):
    return ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(axis=-1)


@pytest.mark.parametrize(("n", "d"), [(50, 7), (40, 30), (12, 30)])
def test_it_is_z_scores_principal_components_and_unit_rows(rng, n, d):
    x = rng.normal(3, 5, (n, d)) @ rng.normal(size=(d, d))
    space = InputSpace.fit({"a": x}, components=9)
    made = space.prepare({"a": x})["a"]
    assert made.dtype == np.float32
    assert_allclose(distances(made), distances(by_hand(x, 9)), atol=1e-5)


def test_wide_arrays_have_the_same_components_to_rounding(rng, monkeypatch):
    x = rng.normal(size=(90, 12)) @ rng.normal(size=(12, 70))
    exact = InputSpace.fit({"a": x}, components=5).prepare({"a": x})["a"]
    monkeypatch.setattr(input_space, "_EXACT", 10)
    assert_allclose(InputSpace.fit({"a": x}, components=5).prepare({"a": x})["a"], exact, atol=1e-4)


def test_the_result_does_not_depend_on_blocks(rng, monkeypatch):
    x = {"a": rng.normal(size=(33, 20)), "b": rng.integers(0, 255, (33, 3)).astype(np.uint8)}
    whole = InputSpace.fit(x, components=4).prepare(x)
    monkeypatch.setattr(input_space, "_BLOCK_VALUES", 40)
    parts = InputSpace.fit(x, components=4).prepare(x)
    for m in x:
        assert_allclose(parts[m], whole[m], atol=1e-6)


def test_only_fitted_and_present_rows_enter_the_statistics(rng):
    x = rng.normal(size=(30, 4))
    present = rng.random((30, 1)) < 0.6
    rows = np.arange(20)
    spoiled = x.copy()
    spoiled[~present[:, 0]] = np.nan
    spoiled[20:] *= 100
    made = InputSpace.fit({"a": spoiled}, rows=rows, present=present)
    used = x[:20][present[:20, 0]]
    expected = InputSpace.fit({"a": used}).prepare({"a": used})["a"]
    got = made.prepare({"a": spoiled}, present=present)["a"]
    assert_allclose(got[:20][present[:20, 0]], expected, atol=1e-6)
    assert not got[~present[:, 0]].any()


@pytest.mark.parametrize("d", [3, 200])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_constant_and_few_rows_give_finite_unit_or_zero_rows(n, d):
    same = np.full((n, d), 0.1, np.float32)
    assert not InputSpace.fit({"a": same}).prepare({"a": same})["a"].any()
    apart = same * (1 + np.arange(n, dtype=np.float32))[:, None]
    norms = np.linalg.norm(InputSpace.fit({"a": apart}).prepare({"a": apart})["a"], axis=1)
    assert np.all((np.abs(norms - 1) < 1e-5) | (norms == 0))


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_very_small_and_large_numbers_are_standardized(rng, scale):
    x = rng.normal(size=(10, 4))
    made = InputSpace.fit({"a": x * scale}).prepare({"a": x * scale})["a"]
    assert_allclose(made, InputSpace.fit({"a": x}).prepare({"a": x})["a"], atol=1e-6)


def test_a_modality_that_no_sample_has_becomes_zeros():
    x = {"a": np.ones((4, 2)) * [[1, 2]], "b": np.full((4, 200), np.nan)}
    present = np.array([[True, False]] * 4)
    space = InputSpace.fit(x, present=present)
    assert not space.prepare(x, present=present)["b"].any()


def test_errors_name_the_modality_and_the_row():
    x = np.zeros((3, 2))
    x[1, 0] = np.inf
    with pytest.raises(NonFiniteError, match=r"'a'.*row 1") as error:
        InputSpace.fit({"a": x})
    assert error.value.row == 1
    space = InputSpace.fit({"a": np.zeros((3, 2))})
    with pytest.raises(ShapeError, match="expected the modalities and widths"):
        space.prepare({"a": np.zeros((3, 5))})
    for bad in (np.zeros(3), np.zeros((3, 0)), np.array([["x"]])):
        with pytest.raises(ShapeError, match="real numbers"):
            InputSpace.fit({"a": bad})
    with pytest.raises(ShapeError, match="present"):
        InputSpace.fit({"a": np.zeros((3, 2))}, present=np.ones((3, 2), bool))


def test_the_sign_of_components_is_fixed(rng):
    x = rng.normal(size=(60, 20))
    made = InputSpace.fit({"a": x}, components=3).prepare({"a": x})["a"]
    again = InputSpace.fit({"a": x[::-1]}, components=3).prepare({"a": x})["a"]
    assert_allclose(made, again, atol=1e-4)
    assert_array_equal(made, InputSpace.fit({"a": x}, components=3).prepare({"a": x})["a"])
