"""The learner that people call: on arrays, a data set, a model of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import rlmba
from rlmba.cli import main
from rlmba.data import load_digits
from rlmba.errors import (
    DataError,
    PluginError,
    RlmbaError,
    RunFolderError,
    ShapeError,
    UsageError,
)
from rlmba.learner import ActiveLearner, Trained, configure, read_run, run

NAMES = ("cat", "dog", "owl")
QUICK = {
    "epochs": 2,
    "model.width": 16,
    "training.min_steps": 40,
    "training.learning_rate": 1e-2,
    "device": "cpu",
    "project.validation_labels": 12,
}
N = 120
Y = np.arange(N) % 3


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "a": rng.normal(size=(N, 4)) + 2.5 * np.eye(3, 4)[Y],
        "b": rng.normal(size=(N, 3)) + 1.5 * np.eye(3)[Y],
    }


def on_arrays(**more):
    settings = {**QUICK, **more.pop("settings", {})}
    return ActiveLearner.from_arrays(arrays(), settings=settings, **{"classes": NAMES, **more})


def a_round(learner, n=9):
    batch = learner.ask(n)
    return batch, learner.tell(batch.ids, Y[learner.positions(batch.ids)])


class Linear(nn.Module):
    """A model as somebody may have it, without our classes."""

    def __init__(self, change=None):
        super().__init__()
        self.layer = nn.Linear(7, 5)
        self.head = nn.Linear(5, 3)
        self.x = torch.tensor(np.concatenate([*arrays().values()], axis=1), dtype=torch.float32)
        self.change = change
        self.fits = []

    def fit(self, rows, labels):
        self.fits.append((rows, labels))
        optimizer = torch.optim.Adam(self.parameters(), 0.05)
        for _ in range(40):
            loss = nn.functional.cross_entropy(
                self.head(self.layer(self.x[rows])), torch.tensor(labels)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def outputs(self, rows):
        features = self.layer(self.x[rows])
        found = {
            "features": features,
            "logits": self.head(features),
            "head": (self.head.weight, self.head.bias),
        }
        return found if self.change is None else self.change(found)


def on_own(model=None, **more):
    given = {"n": N, "classes": NAMES, "settings": QUICK, **more}
    return ActiveLearner.from_model(Linear() if model is None else model, **given)


class TestOnArrays:
    def test_rounds(self):
        learner = on_arrays()
        first, record = a_round(learner)
        assert [q.purpose for q in first.questions] == ["train"] * 9 + ["validation"] * 12
        assert (record.round, record.labels, record.validation.size) == (0, 9, 12)
        for _ in range(3):
            batch, record = a_round(learner)
            assert len(batch) == 9
            assert not set(batch.ids) & set(first.ids)
            assert {q.prediction for q in batch.questions} <= set(NAMES)
        assert record.labels == 36
        assert learner.evaluate() == record.validation
        assert record.validation.mm.top1 > 0.8
        said = learner.predict()
        assert said.probabilities.shape == (N, 3)
        np.testing.assert_allclose(said.probabilities.sum(axis=1), 1)
        assert np.mean([NAMES[c] == name for c, name in zip(Y, said.labels, strict=True)]) > 0.8
        assert (learner.predict(["7", "3"]).ids == ["7", "3"]).all()

    def test_it_is_in_the_package(self):
        assert rlmba.ActiveLearner is ActiveLearner

    def test_labels_that_are_known_are_the_start(self):
        known = np.where(np.arange(N) < 60, Y, -1)
        test = np.arange(N) >= 100
        learner = on_arrays(labels=np.where(test, Y, known), test=test)
        batch = learner.ask(5)
        assert batch.round == 1
        assert learner.records[0].test.size == 20
        assert learner.records[0].validation.size == 12
        assert learner.evaluate() == learner.records[0].test
        assert all(60 <= int(i) < 100 for i in batch.ids)

    def test_the_same_again(self):
        picks = [
            [a_round(learner)[0].ids for _ in range(3)] for learner in (on_arrays(), on_arrays())
        ]
        assert picks[0] == picks[1]
        assert picks[0] != [a_round(on_arrays(seed=1))[0].ids]

    def test_classes_come_with_labels(self):
        learner = on_arrays(classes=None)
        batch = learner.ask(9)
        assert batch.open
        assert batch.classes == ()
        learner.tell(batch.ids, ["cat" if Y[int(i)] == 0 else "dog" for i in batch.ids])
        assert learner.classes == ("cat", "dog")
        batch = learner.ask(9)
        learner.tell(batch.ids, ["ant" if Y[int(i)] == 2 else "cat" for i in batch.ids])
        assert learner.classes == ("cat", "dog", "ant")
        assert learner.predict().probabilities.shape == (N, 3)

    def test_until_nothing_is_left(self):
        learner = on_arrays()
        a_round(learner)
        while batch := learner.ask(60):
            learner.tell(batch.ids, Y[learner.positions(batch.ids)])
        assert len(learner.labels.pool.unlabeled) == 0

    def test_a_data_set(self):
        dataset = load_digits()
        hidden = dataset.labels.copy()
        truth = dict(zip(dataset.ids.tolist(), hidden.tolist(), strict=True))
        dataset.labels = np.where(
            np.isin(np.arange(len(dataset)), dataset.test_positions), hidden, -1
        )
        settings = {**QUICK, "training.min_steps": 10}
        learner = ActiveLearner.from_dataset(dataset, classes=dataset.classes, settings=settings)
        batch = learner.ask(20)
        record = learner.tell(batch.ids, [truth[i] for i in batch.ids])
        assert record.labels == 20
        assert record.test.size == len(dataset.test_positions)


class TestTell:
    def test_in_parts(self):
        learner = on_arrays()
        ids = learner.ask(9).ids
        assert learner.tell(ids[:5], Y[learner.positions(ids[:5])]) is None
        assert learner.unanswered() == ids[5:]
        assert learner.ask().ids == ids
        assert learner.tell(ids[5:], Y[learner.positions(ids[5:])]).labels == 9

    def test_a_part_of_the_batch_is_enough_on_request(self):
        learner = on_arrays()
        a_round(learner)
        ids = learner.ask(9).ids
        record = learner.tell(ids[:4], Y[learner.positions(ids[:4])], partial=True)
        assert (record.selected, record.labels) == (4, 13)
        assert learner.tell([], [], partial=True) is None

    def test_again_corrects(self):
        learner = on_arrays()
        first, _ = a_round(learner)
        one = first.ids[0]
        assert learner.tell([one, one], ["dog", "dog"]) is None
        a_round(learner)
        row = list(learner.labels.pool.labeled_ids).index(one)
        assert learner.labels.pool.labels[row] == 1

    def test_cannot_tell(self):
        learner = on_arrays()
        batch = learner.ask(9)
        record = learner.tell(batch.ids, [None, None, *Y[learner.positions(batch.ids[2:])]])
        assert record.labels == 7
        while batch := learner.ask(40):
            assert not set(batch.ids) & {"x"}
            learner.tell(batch.ids, Y[learner.positions(batch.ids)])
        assert len(learner.labels.pool.labeled) == N - 12 - 2

    def test_samples_that_were_not_asked_for(self):
        learner = on_arrays()
        a_round(learner)
        other = next(i for i in map(str, range(N)) if i not in learner.labels.answers)
        assert learner.tell([other], [int(Y[int(other)])]) is None
        assert a_round(learner)[1].labels == 9 + 9 + 1

    @pytest.mark.parametrize(
        ("ids", "labels", "message"),
        [
            (["nobody"], ["cat"], "'nobody' is of no training sample"),
            (["1", "1"], ["cat", "dog"], "'1' has two labels"),
            (["1"], ["wolf"], "'wolf' is none of the classes"),
            (["1"], ["ow"], "nearest: 'owl'"),
            (["1"], [3], "label 3 is no position in the 3 classes"),
            (["1"], [-1], "label -1 is no position"),
            (["1"], [1.5], "expected a class name"),
            (["1"], [True], "expected a class name"),
            (["1", "2"], ["cat"], "a label for each of the 2 ids"),
            (["110"], ["cat"], "'110' is of no training sample"),
        ],
    )
    def test_bad_ones_change_nothing(self, ids, labels, message):
        test = np.arange(N) >= 110
        learner = on_arrays(labels=np.where(test, Y, -1), test=test)
        learner.ask(9)
        before = dict(learner.labels.answers)
        with pytest.raises(UsageError, match=message):
            learner.tell(ids, labels)
        assert learner.labels.answers == before

    def test_one_class_is_not_enough(self):
        learner = on_arrays(classes=None)
        batch = learner.ask(9)
        with pytest.raises(UsageError, match="two classes"):
            learner.tell(batch.ids, ["dog"] * len(batch))
        again = learner.ask(9)
        assert not set(again.ids) & set(batch.ids)
        assert learner.tell(again.ids, [f"c{Y[int(i)]}" for i in again.ids]).round == 0

    def test_what_needs_a_round_says_so(self):
        learner = on_arrays()
        for call in (learner.evaluate, learner.predict):
            with pytest.raises(UsageError, match="no round is complete yet"):
                call()
        with pytest.raises(UsageError, match="n >= 1"):
            learner.ask(0)
        learner.ask(9)
        with pytest.raises(UsageError, match="still out"):
            learner.ask(5)


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
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        a_round(on_own(Linear()))
        torch.manual_seed(5)
        learner = on_own(Linear())
        state = torch.get_rng_state()
        a_round(learner)
        assert torch.equal(torch.get_rng_state(), state)
        assert expected.shape == (3,)

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
        ],
    )
    def test_wrong_outputs(self, change, error, message):
        learner = on_own(Linear(change))
        batch = learner.ask(9)
        with pytest.raises(error, match=message):
            learner.tell(batch.ids, Y[learner.positions(batch.ids)])
        assert not learner.unanswered()
        assert learner.round == 0

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


class TestSaved:
    @pytest.mark.parametrize("make", [on_arrays, on_own])
    def test_it_goes_on(self, tmp_path, make):
        learner = make()
        for _ in range(2):
            a_round(learner)
        ids = learner.ask(9).ids
        learner.tell(ids[:3], Y[learner.positions(ids[:3])])
        learner.save(tmp_path / "s")
        other = make().load(tmp_path / "s")
        assert other.ask().ids == ids
        assert other.unanswered() == ids[3:]
        records = [x.tell(ids[3:], Y[x.positions(ids[3:])]) for x in (learner, other)]
        assert records[0].validation == records[1].validation
        assert learner.ask(9).ids == other.ask(9).ids
        other.save(tmp_path / "s")
        assert [r.labels for r in read_run(tmp_path / "s").records] == [9, 18, 27]
        other.save(tmp_path / "copy")
        assert make().load(tmp_path / "copy").ask().ids == other.ask().ids

    def test_a_model_without_a_state_is_trained_again(self, tmp_path):
        class Centers:
            def fit(self, rows, labels):
                x = np.concatenate([*arrays().values()], axis=1)
                self.centers = np.stack([x[rows[labels == c]].mean(axis=0) for c in range(3)])

            def outputs(self, rows):
                x = np.concatenate([*arrays().values()], axis=1)[rows]
                return {
                    "features": x,
                    "logits": -((x[:, None] - self.centers) ** 2).sum(axis=2),
                }

        options = {"strategy": "margin", "features": arrays()["a"]}
        learner = on_own(Centers(), **options)
        a_round(learner)
        learner.save(tmp_path / "s")
        assert on_own(Centers(), **options).load(tmp_path / "s").ask(9).ids == learner.ask(9).ids

    def test_the_folder_is_one_of_a_run(self, tmp_path):
        learner = on_arrays()
        for _ in range(2):
            a_round(learner)
        learner.save(tmp_path / "s")
        trained = Trained.load(tmp_path / "s")
        assert trained.classes == NAMES
        assert main(["report", str(tmp_path / "s"), "--output", str(tmp_path / "r")]) == 0

    def test_foreign_folders(self, tmp_path):
        learner = on_arrays()
        with pytest.raises(RunFolderError):
            learner.load(tmp_path / "nothing")
        with pytest.raises(RunFolderError):
            learner.load(tmp_path)
        quick = {"rounds": 0, "epochs": 1, "training.min_steps": 0, "model.width": 8}
        run(configure(quick), tmp_path / "run")
        with pytest.raises(RunFolderError, match="found a run of `rlmba run`"):
            learner.load(tmp_path / "run")
        a_round(learner)
        learner.save(tmp_path / "s")
        with pytest.raises(UsageError, match="not been used yet"):
            learner.load(tmp_path / "s")
        with pytest.raises(RunFolderError, match="strategy"):
            on_arrays(strategy="entropy").load(tmp_path / "s")
        changed = {m: a + 1 for m, a in arrays().items()}
        other = ActiveLearner.from_arrays(changed, classes=NAMES, settings=QUICK)
        with pytest.raises(RunFolderError, match="other data"):
            other.load(tmp_path / "s")
        other = on_arrays()
        a_round(other, 10)
        with pytest.raises(RunFolderError, match="does not have"):
            other.save(tmp_path / "s")
        info = json.loads((tmp_path / "s" / "run.json").read_text())
        (tmp_path / "s" / "run.json").write_text(json.dumps({**info, "format": 99}))
        with pytest.raises(RunFolderError, match="format 99"):
            on_arrays().load(tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": ["wolf"] + [None] * (N - 1)}, DataError, "'wolf' is none of the classes"),
        ({"labels": [3] + [-1] * (N - 1)}, DataError, "expected 0 to 2"),
        ({"labels": [0]}, ShapeError, f"each of the {N} samples"),
        ({"ids": ["x"] * N}, DataError, "'x' stands at positions 0 and 1"),
        ({"ids": ["x"]}, ShapeError, f"each of the {N} samples"),
        ({"test": np.ones(N, bool)}, DataError, "row 0 has none"),
        ({"test": np.ones(N)}, ShapeError, "boolean array"),
        ({"classes": ["cat", "cat"]}, UsageError, "distinct"),
        ({"classes": "cat"}, UsageError, "list of names"),
        ({"kinds": {"a": "smell"}}, UsageError, "smell"),
        ({"present": {"a": np.ones(N, bool)}}, UsageError, "an entry for each"),
        ({"strategy": "nobody"}, UsageError, "unknown strategy 'nobody'"),
        ({"settings": {"epoch": 3}}, UsageError, "epoch"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        on_arrays(**change)


def test_bad_arrays():
    for given, error in (
        ([1], UsageError),
        ({}, UsageError),
        ({"a": np.ones(3), "b": np.ones(4)}, ShapeError),
    ):
        with pytest.raises(error):
            ActiveLearner.from_arrays(given, classes=NAMES)
    with pytest.raises(DataError, match="four samples"):
        ActiveLearner.from_arrays({"a": np.ones((3, 2))}, classes=NAMES)
