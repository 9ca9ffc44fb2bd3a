"""``rlmba.select``: every strategy, on arrays of any kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rlmba
from rlmba import strategies
from rlmba.errors import NonFiniteError, UsageError
from rlmba.method.input_space import InputSpace
from rlmba.strategies import NEEDS
from rlmba.strategies.direct import SelectedSamples
from rlmba.types import LinearHead, PoolOutputs, QueryContext, Selection
from tests.helpers.select_inputs import C, D, N


@pytest.mark.parametrize("name", strategies.names())
class TestEveryStrategy:
    def test_needs_are_known(self, name):
        assert strategies.create(name).needs <= set(NEEDS)

    def test_answers_from_what_it_needs_alone(self, name, everything):
        needs = strategies.create(name).needs
        keys = {"features": {"features", "modality_features"}}
        keys |= {"logits": {"logits", "modality_logits"}, "labeled": {"labeled"}}
        keys |= {"labels": {"labels"}, "head": {"head"}, "dropout_logits": {"dropout"}}
        keys |= {"input_features": {"input_features"}}
        everything["input_features"] = everything["features"]
        given = {k: everything[k] for k, values in keys.items() if values & needs}
        batch = rlmba.select(name, n=6, rng=1, ids=np.arange(N), **given)
        assert len(np.unique(batch.positions)) == 6
        for key in given:
            less = {k: v for k, v in given.items() if k != key}
            with pytest.raises(UsageError, match=f"strategy {name!r} needs .* pass {key}="):
                rlmba.select(name, n=6, rng=1, ids=np.arange(N), **less)

    def test_is_the_query_on_pool_outputs(self, name, everything, features, logits):
        batch = rlmba.select(name, n=8, rng=np.random.default_rng(3), **everything)
        both = {"features": np.concatenate([features, everything["labeled"]])}
        inputs = InputSpace.fit(both).prepare(both)["features"]
        pool = PoolOutputs(
            ids=np.arange(N).astype(str),
            features={"features": features},
            logits={"features": logits},
            fused_features=features,
            fused_logits=logits,
            dropout_logits=everything["dropout_logits"],
            input_features={"features": inputs[:N]},
        )
        context = QueryContext(
            rng=np.random.default_rng(3),
            labeled_features=everything["labeled"],
            labels=everything["labels"],
            labeled_input_features={"features": inputs[N:]},
            head=LinearHead(*everything["head"]),
        )
        expected = strategies.create(name).query(pool, context, 8)
        np.testing.assert_array_equal(batch.positions, expected.positions)
        np.testing.assert_array_equal(batch.scores, expected.scores)
        assert isinstance(batch, Selection)
        assert isinstance(batch, SelectedSamples)
        assert batch.backends == expected.backends

    @pytest.mark.parametrize("kind", ["positions", "list", "mask", "torch"])
    def test_labeled_samples_within_the_pool_are_never_selected(
        self, name, everything, features, logits, rng, kind
    ):
        at = rng.permutation(N)[:40]
        mask = np.zeros(N, dtype=bool)
        mask[at] = True
        forms = {
            "positions": at,
            "list": at.tolist(),
            "mask": mask,
            "torch": torch.from_numpy(at),
        }
        given = {k: v for k, v in everything.items() if k != "labeled"}
        given["labels"] = rng.integers(C, size=40)
        ids = np.array([f"s{i}" for i in range(N)])
        batch = rlmba.select(name, n=20, rng=1, labeled=forms[kind], ids=ids, **given)
        assert sorted(batch.positions) == np.flatnonzero(~mask).tolist()
        np.testing.assert_array_equal(batch.ids, ids[batch.positions])
        with pytest.raises(UsageError, match=r"n within 0\.\.20"):
            rlmba.select(name, n=21, labeled=forms[kind], **given)

    @pytest.mark.parametrize("n", [-1, N + 1, 2.5])
    def test_n_beyond_the_pool(self, name, everything, n):
        with pytest.raises(UsageError, match=rf"{name}: expected n within 0\.\.{N}"):
            rlmba.select(name, n=n, **everything)

    def test_empty_pool(self, name, everything):
        none = {
            **everything,
            "features": np.empty((0, D)),
            "logits": np.empty((0, C)),
            "dropout_logits": np.empty((5, 0, C)),
        }
        assert rlmba.select(name, n=0, **none).positions.shape == (0,)
        with pytest.raises(UsageError, match=r"0\.\.0"):
            rlmba.select(name, n=1, **none)

    def test_one_class(self, name, everything):
        one = {
            **everything,
            "logits": everything["logits"][:, :1],
            "dropout_logits": everything["dropout_logits"][..., :1],
            "head": (everything["head"][0][:1], everything["head"][1][:1]),
            "labels": np.zeros(9, dtype=int),
        }
        assert len(np.unique(rlmba.select(name, n=5, rng=0, **one).positions)) == 5

    def test_nan_names_the_sample_and_the_callers_row(self, name, everything, features):
        needs = strategies.create(name).needs
        if not needs & {"features", "logits", "modality_logits", "dropout"}:
            pytest.skip("looks at ids alone")
        given = {k: v for k, v in everything.items() if k != "labeled"}
        given["labels"] = np.arange(20) % C
        given["features"], given["logits"] = features.copy(), given["logits"].copy()
        given["dropout_logits"] = given["dropout_logits"].copy()
        for a in (given["features"], given["logits"], given["dropout_logits"][2]):
            a[33, 1] = np.nan
        with pytest.raises(NonFiniteError, match=r"sample '33'") as caught:
            rlmba.select(name, n=5, rng=0, labeled=np.arange(20), **given)
        assert caught.value.row == 33

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    def test_half_precision_is_converted(self, name, everything, dtype):
        given = {
            k: everything[k].astype(dtype)
            for k in ("features", "logits", "labeled", "dropout_logits")
        }
        batch = rlmba.select(name, n=6, rng=2, **(everything | given))
        as_single = {k: v.astype(np.float32) for k, v in given.items()}
        if dtype == np.float16:
            same = rlmba.select(name, n=6, rng=2, **(everything | as_single))
            np.testing.assert_array_equal(batch.positions, same.positions)
        assert len(np.unique(batch.positions)) == 6

    def test_read_only_and_torch_arrays(self, name, everything):
        batch = rlmba.select(name, n=6, rng=2, **everything)
        frozen = {k: everything[k].copy() for k in ("features", "logits", "labeled")}
        for a in frozen.values():
            a.flags.writeable = False
        tensors = {k: torch.from_numpy(everything[k]) for k in ("features", "logits", "labeled")}
        for kind in (frozen, tensors):
            same = rlmba.select(name, n=6, rng=2, **(everything | kind))
            np.testing.assert_array_equal(batch.positions, same.positions)


class TestCall:
    def test_options(self, everything):
        batch = rlmba.select("rlmba-x", n=4, kappa=2, rng=0, **everything)
        expected = rlmba.select(strategies.create("rlmba-x", kappa=2), n=4, rng=0, **everything)
        np.testing.assert_array_equal(batch.positions, expected.positions)
        with pytest.raises(UsageError, match="no option 'kapa'"):
            rlmba.select("rlmba-x", n=4, kapa=2, **everything)
        with pytest.raises(UsageError, match="need the name of a strategy"):
            rlmba.select(strategies.create("rlmba-x"), n=4, kappa=2, **everything)

    def test_random_numbers(self, everything):
        def draw(rng):
            return rlmba.select("random", n=9, rng=rng, **everything).positions.tolist()

        generator = np.random.default_rng(5)
        assert draw(5) == draw(5) == draw(generator)
        assert draw(5) != draw(generator)
        assert draw(torch.Generator().manual_seed(3)) == draw(torch.Generator().manual_seed(3))
        assert draw(None) != draw(None)

    def test_inputs_are_unchanged(self, everything):
        before = {k: np.copy(everything[k]) for k in ("features", "logits", "labeled")}
        rlmba.select("rlmba", n=9, rng=0, **everything)
        for k, a in before.items():
            np.testing.assert_array_equal(a, everything[k])
