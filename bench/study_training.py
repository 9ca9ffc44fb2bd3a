"""Accuracy of the default training by number of random labels, compared with scikit-learn's classifiers.

    python -m bench.study_training SET.npz ... [--models default,logistic] [--seeds 4] [--width 128]
        [--out bench/results/training.json]

For each seed, a tenth of the training samples is the validation set, and the labels are the first 10, 20,
40, ... of a random order of the others, so that label sets are nested. The models:

- default: the network of this package with the default configuration; all seeds are trained together.
- previous: with the settings of earlier versions of the comparison (60 steps or 15 epochs of 128).
- logistic: logistic regression on the concatenated standardized features, C by cross-validation.
- trees: ``HistGradientBoostingClassifier`` on the same features, at every second number of labels.

Results in the output file of models that are not given are kept. For a network, Top-1 is that of the fused
head and that of the pooled predictor, with temperatures fitted on the validation set.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from bench.common import write_results
from rlmba.config import load_config
from rlmba.data import load_features
from rlmba.models import build_classifier
from rlmba.training import (
    LabeledSamples,
    Loader,
    evaluate,
    fit_stacked,
    fit_temperatures,
    predict,
)

PREVIOUS = (
    "epochs=15",
    "training.minibatch_size=128",
    "training.learning_rate=4e-3",
    "training.head_learning_rate=null",
    "training.weight_decay=0.01",
    "training.schedule=step",
    "training.min_steps=60",
)
STRENGTHS = np.logspace(-4, 1, 6)


def label_counts(available):
    """10, 20, 40, ... below 80 % of the available labels, and all of them."""
    counts = 10 * 2 ** np.arange(20)
    return [int(c) for c in counts if c < 0.8 * available] + [available]


def split(dataset, seed):
    """Validation set, and the other training samples in the order in which they are labeled."""
    order = np.random.default_rng(seed).permutation(dataset.train_positions)
    size = min(max(2 * len(dataset.classes), round(0.1 * len(order))), len(order) // 3)
    return order[:size], order[size:]


def trained(dataset, samples, config):
    """A network trained on each of the label sets, which are pairs of positions and labels."""
    models = [
        build_classifier(
            dataset.modalities, len(dataset.classes), config.model, "uniform", seed=seed
        )
        for seed in range(len(samples))
    ]
    given = [LabeledSamples(p, y, seed) for seed, (p, y) in enumerate(samples)]
    # Networks can be trained together only if they have equal numbers of labels.
    together = len({len(g.positions) for g in given}) == 1
    for part in [slice(None)] if together else [slice(i, i + 1) for i in range(len(given))]:
        fit_stacked(
            models[part], Loader(dataset), given[part], config.training, epochs=config.epochs
        )
    return models


def accuracies(models, dataset, splits):
    """Test Top-1 [models, 2] of the fused head and of the pooled predictor."""
    loader, y, test = Loader(dataset), dataset.labels, dataset.test_positions
    figures = []
    for model, (v, _) in zip(models, splits, strict=True):
        outputs = predict(model, loader, test, batch_size=2048)
        temperatures = fit_temperatures(predict(model, loader, v, batch_size=2048), y[v])
        figures.append(
            [
                evaluate(outputs, y[test], temperatures=temperatures, predictor=p).mm.top1
                for p in ("fused", "pooled")
            ]
        )
    return np.array(figures)


def networks(dataset, n, seeds, config):
    """Top-1 of the fused head and of the pooled predictor for every seed, and seconds per training."""
    splits = [split(dataset, seed) for seed in range(seeds)]
    samples = [(order[:n], dataset.labels[order[:n]]) for _, order in splits]
    start = time.perf_counter()
    models = trained(dataset, samples, config)
    seconds = (time.perf_counter() - start) / seeds
    return accuracies(models, dataset, splits), seconds


def logistic(x, y):
    """Logistic regression with the C of the highest accuracy in four folds."""
    folds = KFold(min(4, len(y)), shuffle=True, random_state=0)

    def accuracy(strength):
        scores = []
        for train, rest in folds.split(x):
            if len(np.unique(y[train])) > 1:
                model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
                scores.append(model.fit(x[train], y[train]).score(x[rest], y[rest]))
        return np.mean(scores)

    best = max(STRENGTHS, key=accuracy)
    return LogisticRegression(C=best, max_iter=500).fit(x, y)


def trees(x, y):
    """Gradient-boosted trees; their leaves may have fewer samples where there are few labels."""
    leaf = min(20, max(2, len(y) // 20))
    return HistGradientBoostingClassifier(early_stopping=False, min_samples_leaf=leaf).fit(x, y)


CLASSICAL = {"logistic": logistic, "trees": trees}


def classical(dataset, n, seeds, fit):
    """Top-1 of a classifier of scikit-learn for every seed [seeds, 1], and seconds per training."""
    batch = dataset.load(np.arange(len(dataset)), train=False, generator=None)
    x = np.concatenate([a.flatten(1).numpy() for a in batch.inputs.values()], axis=1)
    x, y, test = x.astype(np.float64), dataset.labels, dataset.test_positions
    start = time.perf_counter()
    models = [fit(x[p[:n]], y[p[:n]]) for p in (split(dataset, s)[1] for s in range(seeds))]
    seconds = (time.perf_counter() - start) / seeds
    return np.array([[m.score(x[test], y[test])] for m in models]), seconds


def configured(width, *settings):
    """The configuration of the default network on features."""
    own = [f"model.width={width}", "training.augment=false", "device=cpu", *settings]
    return load_config(overrides={"dataset": "features"}, settings=own)


def study(dataset, model, seeds, width):
    """By number of labels: mean Top-1, its standard error over seeds, and seconds per training."""
    found = {}
    counts = label_counts(len(split(dataset, 0)[1]))
    for n in counts[:-1:2] + counts[-1:] if model == "trees" else counts:
        if model in CLASSICAL:
            top1, seconds = classical(dataset, n, seeds, CLASSICAL[model])
        else:
            config = configured(width, *(PREVIOUS if model == "previous" else ()))
            top1, seconds = networks(dataset, n, seeds, config)
        error = top1.std(axis=0, ddof=1) / np.sqrt(seeds)
        found[str(n)] = {
            "top1": top1.mean(axis=0).round(4).tolist(),
            "standard_error": error.round(4).tolist(),
            "seconds": round(seconds, 3),
            "seeds": seeds,
        }
        print(dataset.name, model, n, json.dumps(found[str(n)]), flush=True)
    return found


def run(description, study, models, seeds, out):
    """Run a study of every given data set and model, and add each result to the output file."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--models", default=models)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path(out))
    given = parser.parse_args()
    for path in given.sets:
        dataset = load_features(path)
        for model in given.models.split(","):
            found = study(dataset, model, given.seeds, given.width)
            kept = json.loads(given.out.read_text("utf-8")) if given.out.exists() else {}
            kept.pop("machine", None)
            kept.setdefault("results", {}).setdefault(path.stem, {})[model] = found
            write_results(given.out, **kept)


if __name__ == "__main__":
    run(__doc__, study, "default,previous,logistic,trees", 4, "bench/results/training.json")
