"""Accuracy by number of labels: it rises, and few labels give more than logistic regression does."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from rlmba.config import EncoderConfig, ModelConfig, load_config
from rlmba.data import load_digits, load_features
from rlmba.models import build_classifier
from rlmba.training import LabeledSamples, Loader, evaluate, fit_stacked, predict


def top1(dataset, config, n, seeds):
    """Top-1 on the test split of one network per seed, on the first n labels of its random order."""
    loader, y, test = Loader(dataset), dataset.labels, dataset.test_positions
    samples, models = [], []
    for seed in range(seeds):
        chosen = np.random.default_rng(seed).permutation(dataset.train_positions)[:n]
        samples.append(LabeledSamples(chosen, y[chosen], seed))
        models.append(
            build_classifier(
                dataset.modalities, len(dataset.classes), config.model, "uniform", seed=seed
            )
        )
    fit_stacked(models, loader, samples, config.training, epochs=config.epochs)
    outputs = (predict(model, loader, test, batch_size=2048) for model in models)
    return np.array([evaluate(o, y[test]).mm.top1 for o in outputs])


def check_curve(dataset, config, counts, seeds):
    curves = np.array([top1(dataset, config, n, seeds) for n in counts])
    rises = np.diff(curves, axis=0)
    noise = rises.std(axis=1, ddof=1) / np.sqrt(seeds)
    assert (rises.mean(axis=1) > -2 * noise).all(), curves.mean(axis=1)
    assert curves[-1].mean() > curves[0].mean() + 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "counts"),
    [("null", (10, 20, 33, 65, 129, 257, 385)), ("128", (96, 128, 132, 256, 260))],
)
@pytest.mark.parametrize("name", ["wiki", "ccv", "cub10"])
def test_curves_on_real_features_rise(real_data, name, size, counts):
    """Numbers of labels just above multiples of the minibatch size, where minibatches could be uneven."""
    config = load_config(
        overrides={"dataset": "features"},
        settings=[
            "model.width=128",
            "training.augment=false",
            f"training.minibatch_size={size}",
        ],
    )
    check_curve(load_features(real_data / f"{name}.npz"), config, counts, seeds=6)


def linear_top1(dataset, n, seeds):
    """As :func:`top1`, of logistic regression on the same standardized features."""
    batch = dataset.load(np.arange(len(dataset)), train=False, generator=None)
    x = np.concatenate([a.flatten(1).numpy() for a in batch.inputs.values()], axis=1)
    y, test, found = dataset.labels, dataset.test_positions, []
    for seed in range(seeds):
        chosen = np.random.default_rng(seed).permutation(dataset.train_positions)[:n]
        model = LogisticRegression(max_iter=500).fit(x[chosen], y[chosen])
        found.append(model.score(x[test], y[test]))
    return np.array(found)


@pytest.mark.slow
def test_few_labels_give_no_less_than_logistic_regression(real_data):
    """On average over sets; the label sets are the same. The network is ahead by about .04."""
    config = load_config(
        overrides={"dataset": "features"},
        settings=["model.width=128", "training.augment=false"],
    )
    sets = [load_features(real_data / f"{name}.npz") for name in ("wiki", "cub10")]
    for n in (10, 20):
        ahead = [top1(d, config, n, seeds=4) - linear_top1(d, n, seeds=4) for d in sets]
        assert np.mean(ahead) > 0, (n, np.mean(ahead, axis=1))


@pytest.mark.slow
def test_the_curve_on_digits_rises():
    config = load_config(preset="digits")
    small = {
        "image": EncoderConfig.model_validate({"name": "cnn", "channels": [8, 16], "grid": 2}),
        "audio": EncoderConfig.model_validate(
            {"name": "spectrogram-cnn", "channels": [8, 16], "grid": [10, 1]}
        ),
    }
    training = config.training.model_copy(update={"min_steps": 200})
    model = ModelConfig(width=64, encoders=small)
    config = config.model_copy(update={"model": model, "training": training})
    check_curve(load_digits(), config, (20, 33, 65, 129), seeds=3)
