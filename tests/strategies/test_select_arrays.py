"""What ``rlmba.select`` is given: arrays, probabilities, ids, labeled rows, modalities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

import rlmba
from rlmba.errors import DataError, NonFiniteError, ShapeError, UsageError
from tests.helpers.select_inputs import C, D, N, Probe, probe


class TestArrays:
    def test_no_copies(self, features, logits):
        class Foreign:
            def __init__(self, a):
                self.a = a

            def __dlpack__(self, **kwargs):
                return self.a.__dlpack__(**kwargs)

            def __dlpack_device__(self):
                return self.a.__dlpack_device__()

        for wrap in (np.asarray, torch.from_numpy, Foreign):
            strategy = Probe()
            rlmba.select(strategy, features=wrap(features), logits=wrap(logits), n=1)
            assert np.shares_memory(strategy.pool.fused_features, features)
            assert np.shares_memory(strategy.pool.features["features"], features)
            assert np.shares_memory(strategy.pool.fused_logits, logits)
            assert np.shares_memory(strategy.pool.logits["features"], logits)

    def test_only_what_is_needed_is_copied_where_rows_are_left_out(self, features, logits):
        strategy = probe("logits")
        rlmba.select(strategy, features=features, logits=logits, labeled=[3], n=1)
        assert strategy.pool.fused_features.shape == (N - 1, D)
        assert strategy.pool.fused_features.strides == (0, 0)
        assert np.isnan(strategy.pool.fused_features).all()
        np.testing.assert_array_equal(strategy.pool.fused_logits, np.delete(logits, 3, axis=0))
        np.testing.assert_array_equal(strategy.context.labeled_features, features[3:4])

    def test_bfloat16(self, features):
        strategy = Probe()
        given = torch.from_numpy(features).bfloat16()
        rlmba.select(strategy, features=given, n=1)
        np.testing.assert_array_equal(strategy.pool.fused_features, given.float().numpy())

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    @pytest.mark.parametrize("strategy", ["entropy", "coreset"])
    def test_gpu_tensors_are_computed_with_on_their_gpu(self, features, logits, strategy):
        given = {"features": features, "logits": logits}
        on_gpu = {k: torch.from_numpy(a).cuda() for k, a in given.items()}
        batch = rlmba.select(strategy, **on_gpu, n=9)
        expected = rlmba.select(strategy, **given, n=9)
        np.testing.assert_array_equal(batch.positions, expected.positions)
        assert {*batch.backends.values()} <= {"cuda", "triton"}

    def test_what_was_not_given_cannot_be_read_unseen(self, features, logits):
        """A strategy that reads more than it says it needs meets no plausible numbers."""
        strategy = Probe()
        rlmba.select(strategy, features={"a": features, "b": features}, logits=logits, n=1)
        assert np.isnan(strategy.pool.logits["a"]).all()
        rlmba.select(strategy, logits=logits, n=1)
        assert strategy.pool.fused_features.shape == (N, 0)
        rlmba.select(strategy, logits=logits, head=(np.ones((C, D)), np.ones(C)), n=1)
        assert strategy.pool.fused_features.shape == (N, D)
        assert np.isnan(strategy.pool.fused_features).all()

    @pytest.mark.parametrize("width_of", ["features", "logits", "labeled"])
    def test_width_0(self, everything, width_of):
        empty = {**everything, width_of: np.empty((len(everything[width_of]), 0))}
        with pytest.raises(ShapeError, match=rf"{width_of}: expected at least one column"):
            rlmba.select("rlmba-x", n=2, **empty)

    @pytest.mark.parametrize(
        ("given", "match"),
        [
            ({"features": [[1.0, 2.0]]}, "features: expected an array of 2 axes, got list"),
            ({"features": np.zeros(3)}, "features: expected a 2-D array"),
            ({"features": np.zeros((3, 2), dtype=complex)}, "features: expected real numbers"),
            ({"features": np.zeros((3, 2)), "logits": np.zeros((4, 2))}, "one row for each sample"),
            ({"features": {"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}}, "one row for each"),
            ({"features": {}}, "mapping of modality names"),
            ({"features": np.zeros((3, 2)), "labeled": np.zeros((2, 5))}, "labeled: .*width 2"),
            ({"logits": np.zeros((3, 2)), "dropout_logits": np.zeros((3, 2))}, "3-D"),
            ({"logits": np.zeros((3, 2)), "labeled": [0], "labels": [0, 1]}, "expected 1 integers"),
            ({"logits": np.zeros((3, 2)), "labels": [0, 1]}, "expected 0 integers"),
            ({"logits": np.zeros((3, 2)), "head": np.zeros((2, 2))}, "head: expected a LinearHead"),
            ({}, "expected a pool"),
        ],
    )
    def test_shapes(self, given, match):
        with pytest.raises(UsageError, match=match):
            rlmba.select("random", n=1, **given)

    def test_head_of_another_width(self, everything):
        strategy = probe("head")
        with pytest.raises(ShapeError, match=r"head: expected weight \[C, D\] = \(4, 7\)"):
            rlmba.select(strategy, n=1, **(everything | {"head": (np.ones((4, 6)), np.ones(4))}))
        bad = np.full((4, 7), np.nan)
        with pytest.raises(NonFiniteError, match="head weight"):
            rlmba.select(strategy, n=1, **(everything | {"head": (bad, np.ones(4))}))


class TestProbabilities:
    def test_serve_as_logits(self, logits):
        a = rlmba.select("entropy", logits=logits, n=9)
        b = rlmba.select("entropy", probabilities=softmax(logits, axis=1), n=9)
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-5)

    def test_zeros_have_a_floor(self):
        strategy = Probe()
        rlmba.select(strategy, probabilities=np.array([[1.0, 0.0], [0.5, 0.5]]), n=1)
        np.testing.assert_allclose(strategy.pool.fused_logits[0], [0, np.log(1e-12)])
        chosen = rlmba.select("entropy", probabilities=np.array([[1.0, 0.0], [0.5, 0.5]]), n=2)
        np.testing.assert_allclose(chosen.scores, [np.log(2), 0], atol=1e-10)

    @pytest.mark.parametrize(
        ("row", "match"),
        [
            ([0.5, 0.4985], r"probabilities, row 2: .*sum 1, got sum 0\.9985 \(1 rows"),
            ([1.2, -0.2], r"probabilities, row 2: expected numbers >= 0, got -0\.2"),
            ([np.nan, 0.5], r"probabilities\[2, 0\] is nan"),
        ],
    )
    def test_no_distribution(self, row, match):
        p = np.full((4, 2), 0.5)
        p[2] = row
        with pytest.raises(DataError, match=match):
            rlmba.select("margin", probabilities=p, n=1)

    def test_within_the_tolerance(self):
        p = np.array([[0.5, 0.4995], [0.9, 0.1]])
        assert rlmba.select("margin", probabilities=p, n=1).positions.tolist() == [0]

    def test_not_both(self, logits):
        with pytest.raises(UsageError, match="got both"):
            rlmba.select("margin", logits=logits, probabilities=softmax(logits, axis=1), n=1)


class TestIds:
    @pytest.mark.parametrize(
        "ids",
        [
            [f"s{i}" for i in range(N)],
            np.arange(1000, 1000 + N, dtype=np.int32),
            np.array([f"s{i}".encode() for i in range(N)]),
            np.array([f"s{i}" for i in range(N)], dtype=object),
            torch.arange(N) * 2,
            np.array([f"s{i}" for i in range(N)], dtype=np.dtypes.StringDType()),
        ],
        ids=["list", "int32", "bytes", "object", "torch", "StringDType"],
    )
    def test_in_and_out(self, logits, ids):
        batch = rlmba.select("margin", logits=logits, ids=ids, n=5)
        expected = [ids[i] for i in batch.positions]
        assert batch.ids.tolist() == [getattr(v, "item", lambda v=v: v)() for v in expected]

    def test_positions_where_none_are_given(self, logits):
        batch = rlmba.select("margin", logits=logits, n=5)
        np.testing.assert_array_equal(batch.ids, batch.positions)

    def test_duplicates(self, logits):
        ids = [f"s{i}" for i in range(N)]
        ids[41] = "s7"
        with pytest.raises(DataError, match="'s7' is at positions 7 and 41"):
            rlmba.select("margin", logits=logits, ids=ids, n=5)

    @pytest.mark.parametrize("ids", [["a"], np.zeros(N), [None] * N])
    def test_no_ids(self, logits, ids):
        with pytest.raises(ShapeError, match=f"ids: expected {N} strings or integers"):
            rlmba.select("margin", logits=logits, ids=ids, n=5)

    def test_what_pandas_makes_of_a_missing_id_is_named_missing(self, logits):
        pd = pytest.importorskip("pandas")
        for dtype in (None, "Int64"):
            ids = pd.Series([7, None, *range(100, 98 + N)], dtype=dtype)
            with pytest.raises(ShapeError, match=r"got nothing at position 1 \(1 are missing\)"):
                rlmba.select("margin", logits=logits, ids=ids, n=5)

    def test_integers_that_numpy_lacks(self, logits):
        pl = pytest.importorskip("polars")
        ids = pl.Series(range(N)).cast(pl.Int128)
        batch = rlmba.select("margin", logits=logits, ids=ids, n=5)
        np.testing.assert_array_equal(batch.ids, batch.positions)


class TestLabeled:
    @pytest.mark.parametrize(
        ("labeled", "error", "match"),
        [
            ([0, 60], UsageError, r"within 0\.\.59, got 60 at 1"),
            ([-1], UsageError, "got -1"),
            ([3, 5, 3], DataError, "3 repeats; remove"),
            ([1, 0] * (N // 2), DataError, "repeats; give a mask as bool"),
            (np.ones(59, dtype=bool), UsageError, "mask of 60 entries"),
            (np.array([0.0, 1.0]), ShapeError, "positions .integers., a mask"),
            (np.full((2, D), np.inf), NonFiniteError, "labeled"),
            ({"other": np.ones((2, D)), "more": np.ones((2, D))}, UsageError, "expected the mod"),
        ],
    )
    def test_bad(self, features, labeled, error, match):
        with pytest.raises(error, match=match):
            rlmba.select("random", features=features, labeled=labeled, n=1)

    def test_centers_are_the_rows_themselves(self, features):
        strategy = probe("features", "labeled")
        at = np.array([11, 2, 30])
        rlmba.select(strategy, features=features, labeled=at, labels=[1, 0, 2], n=1)
        np.testing.assert_array_equal(strategy.context.labeled_features, features[at])
        assert strategy.context.labels.tolist() == [1, 0, 2]
        assert strategy.pool.ids.tolist() == [str(i) for i in range(N) if i not in at]

    def test_rows_equal_to_a_pool_row_stay_in_the_pool(self, features, logits):
        batch = rlmba.select(
            "rlmba-x", features=features, logits=logits, labeled=features[:10], n=N, rng=0
        )
        assert sorted(batch.positions) == list(range(N))

    @pytest.mark.parametrize(
        "nothing", [[], np.empty(0), np.zeros(N, dtype=bool), np.empty((0, D)), "Series", "Index"]
    )
    def test_none_is_labeled(self, features, nothing):
        if isinstance(nothing, str):  # empty, they are of the type object
            nothing = getattr(pytest.importorskip("pandas"), nothing)([], dtype=object)
        strategy = Probe()
        rlmba.select(strategy, features=features, labeled=nothing, n=N)
        assert strategy.context.labeled_features is None
        with pytest.raises(UsageError, match="needs more than was passed: pass labeled="):
            rlmba.select(probe("labeled"), features=features, labeled=nothing, n=1)


class TestModalities:
    def test_fused_of_equal_widths(self, features, rng):
        other = rng.normal(size=(N, D))
        strategy = Probe()
        two = {"image": features, "text": other}
        rlmba.select(strategy, features=two, fusion_weights=[0.25, 0.75], n=1)
        expected = 0.25 * features + 0.75 * other
        np.testing.assert_allclose(strategy.pool.fused_features, expected, rtol=1e-12)
        assert strategy.pool.modalities == ("image", "text")

    def test_fused_of_unequal_widths(self, features, rng):
        other = rng.normal(size=(N, 3))
        strategy = Probe()
        present = np.ones((N, 2), dtype=bool)
        present[4, 1] = False
        other[4] = np.nan
        rlmba.select(strategy, features={"a": features, "b": other}, present=present, n=1)
        fused = strategy.pool.fused_features
        assert fused.shape == (N, D + 3)
        np.testing.assert_array_equal(fused[4, D:], 0)
        np.testing.assert_array_equal(fused[5, D:], other[5])

    def test_the_fused_array_may_be_given(self, features, logits):
        strategy = Probe()
        fused = features + 1
        rlmba.select(strategy, features={"a": features, "b": features, "mm": fused}, n=1)
        np.testing.assert_array_equal(strategy.pool.fused_features, fused)

    @pytest.mark.parametrize("kind", ["mapping", "pandas", "polars", "pyarrow"])
    def test_what_names_its_modalities_is_read_by_name(self, features, kind):
        strategy = Probe()
        lacks = np.arange(N) == 5
        columns = {"text": ~lacks, "image": np.ones(N, bool)}
        weights = {"text": 0.75, "image": 0.25}
        if kind == "mapping":
            present = columns
        elif kind == "pandas":
            pd = pytest.importorskip("pandas")
            present, weights = pd.DataFrame(columns), pd.Series(weights)
        elif kind == "polars":
            present = pytest.importorskip("polars").DataFrame(columns)
        else:
            present = pytest.importorskip("pyarrow").table(columns)
        given = {"weights": weights, "temperatures": weights, "fusion_weights": weights}
        two = {"image": features, "text": 3 * features}
        rlmba.select(strategy, features=two, present=present, **given, n=1)
        context = strategy.context
        for found in (context.weights, context.temperatures, context.fusion_weights):
            assert found.tolist() == [0.25, 0.75]
        assert strategy.pool.present[4:6].tolist() == [[True, True], [True, False]]
        np.testing.assert_allclose(strategy.pool.fused_features[4], 2.5 * features[4], rtol=1e-6)

    @pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 0.5, "c": 0.5}, {}])
    def test_other_names_are_refused(self, features, weights):
        two = {"a": features, "b": features}
        with pytest.raises(UsageError, match=r"weights: expected one entry for .*'a', 'b'"):
            rlmba.select("random", features=two, weights=weights, n=1)

    def test_labeled_by_modality(self, features):
        strategy = Probe()
        two = {"a": features, "b": 3 * features}
        rlmba.select(strategy, features=two, labeled={k: v[:4] for k, v in two.items()}, n=1)
        np.testing.assert_allclose(strategy.context.labeled_features, 2 * features[:4], rtol=1e-6)

    def test_a_modality_is_missing(self, features, logits):
        with pytest.raises(UsageError, match="logits: modality 'b' is missing"):
            rlmba.select(
                "rlmba", features={"a": features, "b": features}, logits={"a": logits}, n=1
            )
        with pytest.raises(UsageError, match="one entry per modality"):
            rlmba.select("rlmba", features={"a": features, "b": features}, logits=logits, n=1)

    def test_absent_rows_may_be_nan(self, features, logits):
        present = np.ones((N, 2), dtype=bool)
        present[5, 0] = present[9, 1] = False
        gaps = {"a": features.copy(), "b": features.copy()}
        gaps["a"][5] = gaps["b"][9] = np.nan
        strategy = Probe()
        rlmba.select(strategy, features=gaps, present=present, n=1)
        np.testing.assert_allclose(strategy.pool.fused_features, features, rtol=1e-6)
        np.testing.assert_array_equal(strategy.pool.present, present)
        assert np.isnan(gaps["a"][5]).all()
        by_modality = {"a": log_softmax(logits, axis=1), "b": logits, "mm": logits}
        by_modality["a"][5] = np.nan
        batch = rlmba.select(
            "rlmba", features=gaps, logits=by_modality, present=present, n=7, labeled=[5], rng=0
        )
        assert len(np.unique(batch.positions)) == 7

    def test_a_sample_without_any(self, features):
        present = np.ones((N, 2), dtype=bool)
        present[5] = False
        with pytest.raises(DataError, match="sample '5' has none"):
            rlmba.select("random", features={"a": features, "b": features}, present=present, n=1)

    def test_fusion_weights_off_the_simplex(self, features):
        two = {"a": features, "b": features}
        with pytest.raises(UsageError, match="fusion_weights: expected 2 numbers"):
            rlmba.select("random", features=two, fusion_weights=[1.0, 1.0], n=1)


def test_a_head_on_concatenated_features_joins_them(rng):
    features = {"a": rng.normal(size=(60, 4)), "b": rng.normal(size=(60, 4))}
    joined = np.concatenate(list(features.values()), axis=1)
    weight = rng.normal(size=(3, 8))
    given = {"logits": joined @ weight.T, "head": (weight, np.zeros(3)), "n": 9, "rng": 0}
    ours = rlmba.select("bmmal", features=features, **given)
    told = rlmba.select("bmmal", features={**features, "mm": joined}, **given)
    np.testing.assert_array_equal(ours.positions, told.positions)
    narrow = (weight[:, :4], np.zeros(3))
    convex = rlmba.select("bmmal", features=features, **{**given, "head": narrow})
    assert len(set(convex.positions.tolist())) == 9
