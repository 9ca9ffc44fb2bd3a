"""The learner that people call: on arrays, a data set, a model of their own."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import rlmba
from rlmba.cli import main
from rlmba.data import load_digits
from rlmba.errors import DataError, RlmbaError, RunFolderError, ShapeError, StorageError, UsageError
from rlmba.learner import ActiveLearner, Trained, configure, read_run, run
from tests.helpers.small_learners import NAMES, QUICK, N, Y, a_round, arrays, on_arrays, on_own


def disk_full(*_):
    raise StorageError("the disk is full")


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
        learners = (on_arrays(), on_arrays(), on_arrays(seed=1))
        picks = [[a_round(learner)[0].ids for _ in range(3)] for learner in learners]
        assert picks[0] == picks[1]
        assert picks[0] != picks[2]

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
        unclear = set(batch.ids[:2])
        record = learner.tell(batch.ids, [None, None, *Y[learner.positions(batch.ids[2:])]])
        assert record.labels == 7
        while batch := learner.ask(40):
            assert not set(batch.ids) & unclear
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
            ("12", ["cat", "dog"], "ids: expected a list or an array, got '12'"),
            (["1", "2", "3"], "cat", "labels: expected a list or an array, got 'cat'"),
            (["1"], {"1": "cat"}, "labels: expected a list"),
            ({"1"}, ["cat"], "ids: expected a list"),
            (5, ["cat"], "ids: expected a list"),
            (["1"], ["\ud800"], "expected a class name"),
            (["1"], [float("nan")], "expected a class name"),
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

    @pytest.mark.parametrize("kind", [np.array, torch.tensor, pd.Series, tuple])
    def test_ids_and_labels_of_other_libraries(self, kind):
        learner = on_arrays()
        learner.tell(kind([3, 4]), kind([0, 1]))
        learner.tell([np.int64(5)], [torch.tensor(2)])
        assert learner.labels.answers == {"3": "cat", "4": "dog", "5": "owl"}

    def test_many_wrong_ids_are_refused_at_once(self, monkeypatch):
        learner = on_arrays()
        searches = []
        monkeypatch.setattr(
            learner.labels, "_nearest", lambda id_: searches.append(id_) or " (nearest: '1')"
        )
        with pytest.raises(UsageError, match="and 995 more"):
            learner.tell([f"x{i}" for i in range(1000)], ["cat"] * 1000)
        assert len(searches) == 5

    def test_one_class_is_not_enough(self):
        learner = on_arrays(classes=None)
        batch = learner.ask(9)
        with pytest.raises(UsageError, match="two classes"):
            learner.tell(batch.ids, ["dog"] * len(batch))
        again = learner.ask(9)
        assert not set(again.ids) & set(batch.ids)
        assert learner.tell(again.ids, [f"c{Y[int(i)]}" for i in again.ids]).round == 0

    def test_corrections_that_leave_one_class_leave_the_model_as_it_is(self):
        learner = on_arrays(classes=None)
        first = learner.ask(9)
        learner.tell(first.ids, [NAMES[Y[int(i)]] for i in first.ids])
        before = learner.predict()
        batch = learner.ask(9)
        ids = [*first.ids, *batch.ids]
        with pytest.raises(UsageError, match="two classes"):
            learner.tell(ids, ["dog"] * len(ids))
        assert learner.classes == before.classes
        np.testing.assert_array_equal(learner.predict().probabilities, before.probabilities)
        ids = learner.ask(9).ids
        record = learner.tell(ids, [NAMES[Y[int(i)]] for i in ids])
        assert record.round == 1

    def test_what_needs_a_round_says_so(self):
        learner = on_arrays()
        for call in (learner.evaluate, learner.predict):
            with pytest.raises(UsageError, match="no round is complete yet"):
                call()
        for n in (0, "5", 2.5, True):
            with pytest.raises(UsageError, match="n >= 1"):
                learner.ask(n)
        learner.ask(9)
        with pytest.raises(UsageError, match="still pending"):
            learner.ask(5)
        with pytest.raises(UsageError, match="still pending"):
            learner.ask(10)

    def test_more_than_the_pool_holds(self):
        learner = on_arrays()
        batch = learner.ask(1000)
        assert len(batch) == N
        assert learner.ask(1000).ids == batch.ids

    def test_predict_names_what_it_cannot_use(self):
        learner = on_arrays()
        for ids, message in (("12", "a list"), (["1", "1"], "'1' is repeated"), (["x"], "'x'")):
            with pytest.raises(UsageError, match=message):
                learner.predict(ids)


class TestSaved:
    @pytest.mark.parametrize("make", [on_arrays, on_own])
    def test_it_goes_on(self, tmp_path, make):
        learner = make()
        for _ in range(2):
            a_round(learner)
        before = learner.predict().probabilities
        ids = learner.ask(9).ids
        learner.tell(ids[:3], Y[learner.positions(ids[:3])])
        learner.save(tmp_path / "s")
        other = make().load(tmp_path / "s")
        for same in (learner, other):  # whatever was asked or loaded since
            np.testing.assert_array_equal(same.predict().probabilities, before)
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

    def test_a_save_that_fails_leaves_what_was_saved_before(self, tmp_path, monkeypatch):
        learner = on_own()
        a_round(learner)
        learner.save(tmp_path / "s")
        for _ in range(2):
            a_round(learner)
        with monkeypatch.context() as patch:
            patch.setattr(learner, "_save_strategy", disk_full)
            with pytest.raises(StorageError):
                learner.save(tmp_path / "s")
        other = on_own().load(tmp_path / "s")
        assert other.round == 1
        assert other.labels.answers == learner.labels.answers
        learner.save(tmp_path / "s")
        assert len(read_run(tmp_path / "s").records) == 3

    @pytest.mark.parametrize("name", ["state.json", "selected/round_001.json", "labels.jsonl"])
    def test_a_load_that_fails_changes_nothing(self, tmp_path, name):
        learner = on_own()
        for _ in range(2):
            a_round(learner)
        learner.ask(9)
        learner.save(tmp_path / "s")
        (file,) = (p for p in (tmp_path / "s").rglob("*") if str(p).endswith(name))
        file.write_text("")
        other = on_own()
        with pytest.raises(RlmbaError, match=r"damaged|no such file"):
            other.load(tmp_path / "s")
        assert (other.round, other.pending, other.store, other.labels.answers) == (
            0,
            None,
            None,
            {},
        )
        assert set(other.labels.dataset.labels.tolist()) == {-1}
        assert a_round(other)[1].labels == 9

    def test_labels_that_were_told_are_not_overwritten(self, tmp_path):
        learner = on_own()
        learner.save(tmp_path / "s")
        learner.tell(["1"], ["cat"])
        with pytest.raises(UsageError, match="not been used yet"):
            learner.load(tmp_path / "s")

    def test_another_test_set_is_other_data(self, tmp_path):
        on_own(labels=Y, test=np.arange(N) > 100).save(tmp_path / "s")
        with pytest.raises(RunFolderError, match="other data"):
            on_own(labels=Y, test=np.arange(N) > 110).load(tmp_path / "s")

    def test_the_folder_is_one_of_a_run(self, tmp_path):
        learner = on_arrays()
        for _ in range(2):
            _, record = a_round(learner)
        learner.ask(9)  # sets the fusion weights of the coming round
        learner.save(tmp_path / "s")
        trained = Trained.load(tmp_path / "s")
        assert trained.classes == NAMES
        weights = dict(zip(trained.model.names, trained.model.fusion_weights.tolist(), strict=True))
        assert weights == pytest.approx(record.fusion_weights)
        assert weights != pytest.approx(learner.by_name(learner.state.fusion_weights))
        assert main(["report", str(tmp_path / "s"), "--output", str(tmp_path / "r")]) == 0

    def test_foreign_folders(self, tmp_path):
        learner = on_arrays()
        with pytest.raises(RunFolderError):
            learner.load(tmp_path / "nothing")
        with pytest.raises(RunFolderError):
            learner.load(tmp_path)
        quick = {"rounds": 0, "epochs": 1, "training.min_steps": 0, "model.width": 8}
        run(configure(quick), tmp_path / "run")
        with pytest.raises(RunFolderError, match="holds a run of `rlmba run`"):
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
        ({"ids": ["x"] * N}, DataError, "'x' is at positions 0 and 1"),
        ({"ids": ["x"]}, ShapeError, f"each of the {N} samples"),
        ({"test": np.ones(N, bool)}, DataError, "row 0 has none"),
        ({"test": np.ones(N)}, ShapeError, "boolean array"),
        ({"classes": ["cat", "cat"]}, UsageError, "distinct"),
        ({"classes": "cat"}, UsageError, "expected a list"),
        ({"classes": [1, 2, 3]}, UsageError, "given as text"),
        ({"labels": 5}, UsageError, "labels: expected a list"),
        ({"ids": 5}, UsageError, "ids: expected a list"),
        ({"kinds": ["a"]}, UsageError, "kinds: expected a mapping"),
        ({"strategy": "badge", "settings": {"training": 5}}, UsageError, "training"),
        ({"kinds": {"a": "smell"}}, UsageError, "smell"),
        ({"present": {"a": np.ones(N, bool)}}, UsageError, "an entry for each"),
        ({"strategy": "nobody"}, UsageError, "unknown strategy 'nobody'"),
        ({"settings": {"epoch": 3}}, UsageError, "epoch"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        on_arrays(**change)


def test_labels_that_pandas_lacks_are_unknown():
    known = pd.Series(["cat", np.nan, None, pd.NA, *[""] * (N - 4)], dtype=object)
    assert on_arrays(labels=known).labels.answers == {"0": "cat"}
    assert on_arrays(labels=[np.int64(0), *[-1] * (N - 1)]).labels.answers == {"0": "cat"}


def test_bad_arrays():
    for given, error in (
        ([1], UsageError),
        ({}, UsageError),
        ({"a": np.ones(3), "b": np.ones(4)}, ShapeError),
        ({"a": [[1, 2], [3]]}, ShapeError),
    ):
        with pytest.raises(error):
            ActiveLearner.from_arrays(given, classes=NAMES)
    with pytest.raises(DataError, match="four samples"):
        ActiveLearner.from_arrays({"a": np.ones((3, 2))}, classes=NAMES)
