"""Input features of data sets of every kind, and where learners use them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlmba.data import InMemoryDataset, Modality
from rlmba.errors import RlmbaWarning
from rlmba.learner import inputs, run
from rlmba.learner.inputs import input_features, prepared, reduced
from rlmba.learner.query import first_samples
from rlmba.method.herding import first_batch
from rlmba.method.input_space import InputSpace
from rlmba.training import Loader
from tests.helpers.interrupting import StopAfter, Stopped
from tests.helpers.small_learners import a_round, arrays, on_arrays, on_own


def made(kinds, n=12, present=None, **arrays):
    return InMemoryDataset(
        "made",
        arrays,
        kinds=kinds,
        labels=np.arange(n) % 2,
        classes=["x", "y"],
        ids=[f"s{i}" for i in range(n)],
        split=(np.arange(n) % 4 == 3).astype(np.uint8),
        present=present,
    )


class TestReduced:
    @pytest.mark.parametrize(
        ("kind", "shape"),
        [
            ("image", (3, 40, 80)),
            ("image", (1, 8, 8)),
            ("video", (3, 9, 30, 40)),
            ("spectrogram", (1, 64, 200)),
            ("sequence", (300, 7)),
            ("sequence", (5, 2000)),
            ("waveform", (4000,)),
            ("waveform", (20,)),
        ],
    )
    def test_sizes(self, kind, shape):
        x = torch.rand(2, *shape)
        found = reduced(Modality("m", kind, shape), x)
        assert found.shape[0] == 2
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        if np.prod(shape) <= 1024:
            assert found.shape[1] == np.prod(shape)
        elif shape == (5, 2000):
            assert (
                found.shape[1] == 2000
            )  # one value for each channel, the fewest that there can be
        else:
            assert 300 <= found.shape[1] <= 1024

    def test_a_raster_is_averaged_over_cells(self):
        x = torch.arange(64.0 * 64).reshape(1, 1, 64, 64)
        found = reduced(Modality("m", "image", (1, 64, 64)), x)
        expected = x.reshape(32, 2, 32, 2).mean(dim=(1, 3))
        torch.testing.assert_close(found, expected.reshape(1, -1))

    def test_features_stay_as_they_are(self):
        x = torch.rand(3, 3000)
        assert torch.equal(reduced(Modality("m", "features", (3000,)), x), x)

    def test_sound_is_told_apart_by_pitch_not_by_level(self):
        t = torch.arange(8000) / 8000
        low, high = (torch.sin(2 * torch.pi * f * t) for f in (200, 1500))
        sounds = torch.stack([low, 0.1 * low, high, torch.zeros(8000)])
        a, quiet, b, silence = reduced(Modality("m", "waveform", (8000,)), sounds)
        assert (a - quiet).norm() < 0.1 * (a - b).norm()
        assert silence.isfinite().all()

    def test_tokens_are_counted_without_padding(self):
        ids = torch.tensor([[4, 2, 4, 0], [0, 0, 0, 0]])
        known = reduced(Modality("m", "tokens", (4,), "int64", vocabulary=6), ids)
        assert known.tolist() == [[0, 0, 1, 0, 2, 0], [0] * 6]
        hashed = reduced(Modality("m", "tokens", (4,), "int64", vocabulary=50_000), ids)
        assert hashed.shape == (2, 2048)
        assert sorted(hashed[0].tolist())[-2:] == [1, 2]
        assert not hashed[1].any()


def test_features_are_those_of_the_input_space_of_the_training_samples():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 5))
    dataset = made({"a": "features"}, a=x)
    found = input_features(dataset, Loader(dataset))
    train = dataset.train_positions
    expected = InputSpace.fit({"a": x[train]}).prepare({"a": x[train]})["a"]
    np.testing.assert_allclose(found.at(train[::-1]).features["a"], expected[::-1], atol=1e-5)


def test_texts_that_share_rare_words_are_near():
    ids = np.array([[1, 5, 9], [1, 5, 7], [1, 2, 3], [1, 2, 4]] * 3)
    found = input_features(d := made({"t": "tokens"}, t=ids), Loader(d)).features["t"]
    assert np.linalg.norm(found[0] - found[1]) < np.linalg.norm(found[0] - found[2])


def test_a_missing_modality_is_that_of_the_nearest_sample():
    rng = np.random.default_rng(0)
    present = np.ones((12, 2), bool)
    present[[0, 4], 1] = False
    a = rng.normal(size=(12, 3))
    a[0], a[4] = a[1], a[5]
    dataset = made(
        {"a": "features", "b": "features"}, present=present, a=a, b=rng.normal(size=(12, 2))
    )
    found = input_features(dataset, Loader(dataset))
    for row, near in ((0, 1), (4, 5)):
        there = found.at(np.array([row, near])).features["b"]
        np.testing.assert_array_equal(there[0], there[1])


class Unreadable(InMemoryDataset):
    """Its samples 1 and 5 turn out to be unreadable."""

    def load(self, positions, **given):
        batch = super().load(positions, **given)
        there = torch.from_numpy(~np.isin(positions, [1, 5]))[:, None].repeat(
            1, len(self.modalities)
        )
        return batch._replace(present=there)


def test_samples_without_a_readable_modality_are_never_chosen():
    dataset = made({"a": "features"}, a=np.random.default_rng(0).normal(size=(12, 4)))
    dataset.__class__ = Unreadable

    class Model:
        def input_features(self, positions):
            return input_features(dataset, Loader(dataset)).at(positions)

    train = dataset.train_positions
    chosen, gains = first_samples(Model(), train, np.empty(0, np.int64), 20)
    assert set(train[chosen]) == set(train) - {1, 5}
    assert len(gains) == len(train) - 2
    rest = np.setdiff1d(train, [0, 1])
    chosen, _ = first_samples(Model(), rest, np.array([0, 1]), 3)
    assert len(set(rest[chosen]) - {5}) == 3


def test_they_are_computed_once_for_a_data_set(monkeypatch):
    calls = []
    computed = inputs._computed
    monkeypatch.setattr(inputs, "_computed", lambda *a: calls.append(a) or computed(*a))
    dataset = made({"a": "features"}, a=np.random.default_rng(0).normal(size=(12, 4)))
    for _ in range(2):
        input_features(dataset, Loader(dataset))
    assert len(calls) == 1


def test_the_first_batch_of_a_learner_is_herding():
    learner = on_arrays()
    batch = learner.ask(9)
    validation = set(batch.ids) & set(learner.labels.unlabeled_validation)
    mine = [i for i in batch.ids if i not in validation]
    pool = learner.labels.pool.unlabeled
    found = learner.model.input_features(np.arange(len(learner.labels.dataset)))
    left = np.setdiff1d(pool, learner.positions(sorted(validation)))
    expected = first_batch(found.at(left).features, len(mine)).indices
    assert learner.positions(mine).tolist() == left[expected].tolist()


@pytest.mark.parametrize("passed", [True, False])
def test_an_own_model_compares_samples_by_what_was_passed_or_by_its_outputs(passed):
    features = {"input": np.concatenate([*arrays().values()], axis=1)} if passed else None
    learner = on_own(strategy="rlmba-h", features=features)
    a_round(learner)
    if passed:
        a_round(learner)
    else:
        with pytest.warns(RlmbaWarning, match="pass features="):
            a_round(learner)


@pytest.mark.slow
def test_a_run_that_is_resumed_chooses_the_same(quick, tmp_path):
    config = quick.model_copy(update={"strategy": "rlmba-h"})
    run(config, tmp_path / "whole")
    for _ in range(2):
        inputs._known.clear()
        with pytest.raises(Stopped):
            run(config, tmp_path / "parts", resume=True, observer=StopAfter())
    run(config, tmp_path / "parts", resume=True)
    names = [f"selected/round_{t:03d}.json" for t in (1, 2, 3)]
    whole, parts = ([(tmp_path / f / n).read_text() for n in names] for f in ("whole", "parts"))
    assert whole == parts


def test_prepared_maps_positions():
    x = {"a": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)}
    positions = np.array([9, 2, 5, 7])
    found = prepared(positions, x, np.ones((4, 1), bool))
    np.testing.assert_array_equal(
        found.at(np.array([2, 7])).features["a"], found.features["a"][[1, 3]]
    )
