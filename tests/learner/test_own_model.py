"""A learner around a model of the user's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba.errors import DataError, PluginError, RlmbaError, ShapeError, UsageError
from rlmba.learner import ActiveLearner
from tests.helpers.small_learners import Linear, N, Y, a_round, arrays, on_own


class TestOwnModel:
    @pytest.mark.parametrize(
        "strategy", ["badge", "rlmba-x", "rlmba", "coreset", "margin", "deepfool", "gcnal", "bmmal"]
    )
    def test_every_strategy(self, strategy):
        learner = on_own(strategy=strategy)
        for number in range(3):
            _, record = a_round(learner)
            assert (record.round, record.labels) == (number, 9 * (number + 1))
        assert record.validation.mm.top1 > 0.7
        assert list(record.validation.heads) == ["mm", "input"]

    def test_it_is_trained_on_rows_and_class_numbers(self):
        model = Linear()
        learner = on_own(model)
        batch, _ = a_round(learner)
        rows, labels = model.fits[-1]
        assert rows.dtype == labels.dtype == np.int64
        assert [str(r) for r in rows] == [q.id for q in batch.questions if q.purpose == "train"]
        np.testing.assert_array_equal(labels, Y[rows])

    def test_features_cover_the_first_batch(self):
        picks = [on_own(features=arrays()["a"]).ask(9).ids for _ in range(2)]
        assert picks[0] == picks[1]
        classes = {int(Y[int(i)]) for i in picks[0][:9]}
        assert classes == {0, 1, 2}

    def test_modalities(self):
        x = {m: torch.tensor(a, dtype=torch.float32) for m, a in arrays().items()}

        class Two:
            def fit(self, rows, labels):
                self.centers = {
                    m: torch.stack([a[rows[labels == c]].mean(0) for c in range(3)])
                    for m, a in x.items()
                }

            def outputs(self, rows):
                logits = {m: -torch.cdist(a[rows], self.centers[m]) for m, a in x.items()}
                fused = sum(logits.values())
                return {
                    "features": {m: a[rows] for m, a in x.items()},
                    "logits": {**logits, "mm": fused},
                }

        learner = on_own(Two(), features=arrays(), strategy="rlmba-x")
        for _ in range(2):
            _, record = a_round(learner)
        assert list(record.validation.heads) == ["mm", "a", "b"]
        assert sum(record.weights.values()) == pytest.approx(1)

    def test_global_generators_are_as_before(self):
        class Drawing(Linear):
            def fit(self, rows, labels):
                super().fit(rows, labels)
                self.drawn = torch.rand(3).tolist(), np.random.rand(3).tolist()  # noqa: NPY002

        drawn = []
        for seed in (5, 6):  # what the learner's own seed decides does not depend on it
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            model = Drawing()
            learner = on_own(model)
            states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
            a_round(learner)
            assert torch.equal(torch.get_rng_state(), states[0])
            np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
            drawn.append(model.drawn)
        assert drawn[0] == drawn[1]

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda f: {**f, "logits": f["logits"][:, :2]}, ShapeError, r"logits.*\[\d+, 3\]"),
            (lambda f: {**f, "logits": f["logits"][1:]}, ShapeError, "a row for each"),
            (lambda f: {**f, "features": f["features"][0]}, ShapeError, "features of"),
            (
                lambda f: {**f, "features": f["features"] * float("nan")},
                DataError,
                "finite numbers, the row of sample",
            ),
            (lambda f: {"logits": f["logits"]}, DataError, "'features' and 'logits'"),
            (lambda f: f["logits"], DataError, "expected a mapping"),
            (lambda f: {**f, "logit": 1}, DataError, "'logit' as well"),
            (lambda f: {**f, "head": f["head"][0]}, RlmbaError, "head"),
            (
                lambda f: {**f, "head": (f["head"][0][:, :2], f["head"][1])},
                ShapeError,
                r"weight \[3, 5\]",
            ),
            (
                lambda f: {**f, "features": {"b": f["features"]}},
                DataError,
                r"expected the keys \['input'\]",
            ),
            (lambda f: 1 / 0, PluginError, "ZeroDivisionError"),
            (lambda f: {**f, "logits": [[1, 2], [3]]}, ShapeError, "rows of the same shape"),
            (
                lambda f: {**f, "head": (f["head"][0] * np.nan, f["head"][1])},
                DataError,
                "head: .*NaN",
            ),
            (
                lambda f: {**f, "present": np.full((12, 1), 0.5)},
                ShapeError,
                r"boolean array \[12, 1\]",
            ),
            (lambda f: {**f, "present": np.ones(12, bool)}, ShapeError, r"boolean array \[12, 1\]"),
            (lambda f: {**f, "dropout_logits": f["logits"]}, ShapeError, r"\[K, 12, 3\]"),
            (lambda f: {**f, "dropout_logits": f["logits"][None]}, ShapeError, "K >= 2"),
            (lambda f: {**f, "dropout_logits": "x"}, ShapeError, r"\[K, 12, 3\]"),
            (
                lambda f: {**f, "dropout_logits": torch.full((2, 12, 3), torch.nan)},
                DataError,
                "pass 0, row 0",
            ),
        ],
    )
    def test_wrong_outputs(self, change, error, message):
        learner = on_own(Linear(change))
        batch = learner.ask(9)
        with pytest.raises(error, match=message):
            learner.tell(batch.ids, Y[learner.positions(batch.ids)])
        assert not learner.unanswered()
        assert learner.round == 0

    @pytest.mark.slow
    def test_a_fit_that_fails_loses_nothing(self, tmp_path):
        class Failing(Linear):
            broken = False

            def fit(self, rows, labels):
                if self.broken:
                    raise RuntimeError("out of memory")
                super().fit(rows, labels)

        model = Failing()
        learner = on_own(model)
        a_round(learner)
        batch = learner.ask(9)
        model.broken = True
        for call in (
            lambda: learner.tell(batch.ids, Y[learner.positions(batch.ids)]),
            lambda: learner.tell([], []),
            learner.predict,
            lambda: learner.ask(9),
        ):
            with pytest.raises(PluginError, match="out of memory"):
                call()
        assert learner.evaluate() == learner.records[0].validation
        learner.save(tmp_path / "s")
        model.broken = False
        for one in (learner, on_own(Failing()).load(tmp_path / "s")):
            assert len(one.ask(9)) == 9
            assert (one.round, one.records[-1].labels, one.records[-1].selected) == (2, 18, 9)

    def test_dropout_of_the_model_is_seeded(self):
        def with_passes(found):
            passes = found["logits"] + torch.randn(5, *found["logits"].shape)
            return {**found, "dropout_logits": passes}

        picks = []
        for seed in (1, 2):
            torch.manual_seed(0)
            learner = on_own(Linear(with_passes), strategy="bald")
            torch.manual_seed(seed)
            state = torch.get_rng_state()
            a_round(learner)
            picks.append(learner.ask(9).ids)
            assert torch.equal(torch.get_rng_state(), state)
        assert picks[0] == picks[1]

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"features": np.ones((5, 2))}, ShapeError, r"^features of 'input': expected shape"),
            ({"features": np.full((N, 2), np.nan)}, DataError, "^features of 'input'.*finite"),
            ({"modalities": ["a", "a"]}, UsageError, "distinct names"),
            ({"modalities": ["mm"]}, UsageError, "other than '' and 'mm'"),
            ({"modalities": "ab"}, UsageError, "modalities: expected a list"),
            ({"n": None, "ids": ["", *map(str, range(N - 1))]}, DataError, "non-empty"),
            ({"settings": [1]}, UsageError, "settings: expected a mapping"),
        ],
    )
    def test_bad_arguments(self, change, error, message):
        with pytest.raises(error, match=message):
            on_own(**change)

    def test_fused_features_in_the_argument_features_are_left_out(self):
        x = arrays()["a"]
        learner = on_own(features={"input": x, "mm": x}, modalities=["input"])
        assert learner.ask(9).ids == on_own(features=x).ask(9).ids

    def test_what_is_no_model(self):
        with pytest.raises(UsageError, match="has no outputs"):
            on_own(type("Half", (), {"fit": lambda *_: None})())
        with pytest.raises(UsageError, match="n or ids"):
            ActiveLearner.from_model(Linear())

    def test_passes_that_are_not_there(self):
        learner = on_own(strategy="bald")
        a_round(learner)
        with pytest.raises(UsageError, match="dropout_logits"):
            learner.ask(9)
