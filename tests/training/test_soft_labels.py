"""Training on samples whose classes are guessed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rlmba.config import ModelConfig, TrainingConfig, load_config
from rlmba.data import InMemoryDataset
from rlmba.learner import network as networks
from rlmba.learner.network import build_network
from rlmba.models import ModelOutput, build_classifier
from rlmba.training import FitCheckpoint, Loader, ProcessGroup, SoftLabels, evaluate, fit, predict
from rlmba.training.soft_labels import SOFT_BATCH, soft_loss


def toy(n=120, present=None):
    """Three classes, of which each is a cluster."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    arrays = {m: (2 * np.eye(3, 8)[y] + rng.normal(size=(n, 8))).astype(np.float32) for m in "ab"}
    return InMemoryDataset(
        "toy",
        arrays,
        kinds=dict.fromkeys("ab", "features"),
        labels=y,
        classes=["x", "y", "z"],
        ids=[f"s{i}" for i in range(n)],
        split=(np.arange(n) >= n // 2).astype(np.uint8),
        present=present,
    )


def trained(dataset, soft, *, progress=None, checkpoint=None, n=3, epochs=12, **config):
    positions = np.arange(n)
    model = build_classifier(dataset.modalities, 3, ModelConfig(width=8), "uniform", seed=0)
    fit(
        model,
        Loader(dataset),
        positions,
        dataset.labels[positions],
        TrainingConfig(**config),
        epochs=epochs,
        seed=5,
        progress=progress,
        checkpoint=checkpoint,
        soft=soft,
    )
    return model


def guessed(dataset):
    """The true classes of the other training samples, almost surely."""
    positions = np.arange(3, 60)
    return SoftLabels(
        positions, (0.9 * np.eye(3)[dataset.labels[positions]] + 0.1 / 3).astype("f4")
    )


def test_the_loss_by_hand():
    rng = np.random.default_rng(0)
    logits = {m: torch.from_numpy(rng.normal(size=(4, 3))) for m in ("a", "b", "mm")}
    p = torch.softmax(torch.from_numpy(rng.normal(size=(4, 3))), dim=1)
    present = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
    output = ModelOutput({}, {m: logits[m] for m in "ab"}, logits["mm"], logits["mm"])
    expected = 0.0
    for i, (head, z) in itertools.product(range(4), logits.items()):
        if head == "mm" or present[i, "ab".index(head)]:
            expected += p[i].max() * torch.nn.functional.cross_entropy(z[i], p[i])
    torch.testing.assert_close(soft_loss(output, p, present), expected / SOFT_BATCH)


def test_guessed_classes_teach():
    dataset = toy()
    soft = guessed(dataset)

    def top1(soft):
        model = trained(dataset, soft, epochs=100)
        outputs = predict(model, Loader(dataset), rows, batch_size=64)
        return evaluate(outputs, dataset.labels[rows]).mm.top1

    rows = soft.positions
    assert top1(soft) > top1(None) + 0.1


def test_no_guessed_sample_is_the_training_without():
    dataset = toy()
    nothing = SoftLabels(np.empty(0, np.int64), np.empty((0, 3), np.float32))
    a, b = (trained(dataset, soft).state_dict() for soft in (None, nothing))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_minibatches_in_parts_are_the_same_training():
    dataset = toy()
    a, b = (trained(dataset, guessed(dataset), n=9, gradient_accumulation=k) for k in (1, 3))
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


class Unreadable(InMemoryDataset):
    """Its sample 20 turns out to be unreadable."""

    def load(self, positions, **given):
        batch = super().load(positions, **given)
        return batch._replace(present=batch.present & torch.from_numpy(positions != 20)[:, None])


class Stop(Exception):
    pass


def test_an_interrupted_training_continues(tmp_path):
    dataset = toy()

    def stop(done, _):
        if done == 7:
            raise Stop

    def checkpoint():
        return FitCheckpoint(tmp_path / "fit.safetensors", 1e-9, {})

    with pytest.raises(Stop):
        trained(dataset, guessed(dataset), progress=stop, checkpoint=checkpoint())
    a = trained(dataset, guessed(dataset), checkpoint=checkpoint()).state_dict()
    b = trained(dataset, guessed(dataset)).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_network_guesses_the_readable_pool_without_the_validation_set(monkeypatch):
    present = np.ones((120, 2), bool)
    present[[10, 11], 1] = False
    dataset = toy(present=present)
    dataset.__class__ = Unreadable
    config = load_config(
        overrides={"dataset": "features", "data": "toy.npz"},
        settings=["training.semi_supervised=true", "device=cpu", "fusion=uniform", "model.width=8"],
    )
    network = build_network(config, dataset, ProcessGroup.open("cpu", "fp32"))
    given = []
    monkeypatch.setattr(networks, "fit", lambda *_, soft, **__: given.append(soft))
    labeled, v = np.array([0, 1, 2, 33]), np.array([5, 6, 40])
    network.fit(labeled, dataset.labels[labeled], (v, dataset.labels[v]), seed=0)
    (soft,) = given
    expected = np.setdiff1d(np.arange(60), [*labeled, *v, 20])
    assert soft.positions.tolist() == expected.tolist()
    guesses = soft.probabilities.argmax(axis=1)
    assert (guesses == dataset.labels[expected]).mean() > 0.5
    monkeypatch.setattr(networks, "_SOFT_SAMPLES", 5)
    network.fit(labeled, dataset.labels[labeled], (v, dataset.labels[v]), seed=0)
    assert len(given[1].positions) == 5
    assert set(given[1].positions) < set(expected)


def test_the_evidential_loss_is_refused():
    with pytest.raises(ValidationError, match='semi_supervised needs the loss "cross-entropy"'):
        TrainingConfig(semi_supervised=True, loss="evidential")
