"""Eight small networks trained together with stacked parameters, compared with one after another.

A round of eight seeds on flat features. Both sides have the same minibatches, masks and steps, and their
weights are asserted to agree before anything is timed. The peer is our own training of one network.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from rlmba.config import ModelConfig, TrainingConfig
from rlmba.data import InMemoryDataset
from rlmba.models import build_classifier
from rlmba.training import LabeledSamples, Loader, fit, fit_stacked

SEEDS, LABELED, CLASSES = 8, 200, 10
SHAPES = {"small": (20, 20, 20), "medium": (128, 100), "wide": (1024, 300)}
MINIBATCH = {"minibatch 32": 32, "minibatch 128": 128}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def dataset(widths):
    rng = np.random.default_rng(0)
    labels = np.arange(1_000) % CLASSES
    arrays = {
        f"m{i}": (rng.normal(size=(1_000, w)) + labels[:, None]).astype(np.float32)
        for i, w in enumerate(widths)
    }
    return InMemoryDataset(
        "made",
        arrays,
        kinds=dict.fromkeys(arrays, "features"),
        labels=labels,
        classes=[str(c) for c in range(CLASSES)],
        ids=[str(i) for i in range(1_000)],
        split=np.arange(1_000) >= 900,
    )


@pytest.mark.parametrize("how", ["together", "one after another"])
@pytest.mark.parametrize("minibatch", MINIBATCH)
@pytest.mark.parametrize("shape", SHAPES)
def test_eight_seeds(benchmark, shape, minibatch, how):
    benchmark.group = f"{SEEDS} seeds, {LABELED} labels, {SHAPES[shape]}, {minibatch}"
    data = dataset(SHAPES[shape])
    loader = Loader(data)
    config = TrainingConfig(
        minibatch_size=MINIBATCH[minibatch], augment=False, min_steps=60, precision="fp32"
    )
    start = [
        build_classifier(data.modalities, CLASSES, ModelConfig(width=128), "uniform", seed=k)
        for k in range(SEEDS)
    ]
    rng = np.random.default_rng(1)
    drawn = [rng.permutation(data.train_positions)[:LABELED] for _ in range(SEEDS)]
    samples = [LabeledSamples(p, data.labels[p], k) for k, p in enumerate(drawn)]

    def together(models):
        fit_stacked(models, loader, samples, config, epochs=1)

    def alone(models):
        for model, s in zip(models, samples, strict=True):
            fit(model, loader, s.positions, s.labels, config, epochs=1, seed=s.seed)

    one, other = copy.deepcopy(start), copy.deepcopy(start)
    together(one)
    alone(other)
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-2, atol=1e-3)
    benchmark.pedantic(
        together if how == "together" else alone,
        setup=lambda: ((copy.deepcopy(start),), {}),
        rounds=5,
    )
