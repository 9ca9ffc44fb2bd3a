"""Top-1 of linear classifiers and of the default network at 10 to 500 random labels.

    OMP_NUM_THREADS=1 python -m bench.study_few_labels SET.npz ... [--models default,logistic,...]
        [--seeds 5] [--out bench/results/few_labels.json]

Splits and the default network (pooled predictor) are those of :mod:`bench.study_training`. The linear
classifiers read the same standardized features:

- logistic: scikit-learn's ``LogisticRegression`` with C = 1 on the concatenated features.
- logistic_cv: ``LogisticRegressionCV`` with stratified folds, or C = 1 if a class has one label only.
- scaled_S: the concatenated features with C = S / d, so that the strength does not depend on the number d
  of features.
- late_S: one classifier per modality with C = S / d_m; their log-probabilities are added.

Results in the output file of models that are not given are kept.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

from bench.study_training import configured, networks, run, split

COUNTS = (10, 20, 50, 100, 200, 500)
MODELS = "logistic,logistic_cv,scaled_1,scaled_10,scaled_100,late_1,late_10,late_100,default"


def reduced(train, test):
    """Coordinates in the span of the training rows: an L2-penalized linear model does not change."""
    _, _, directions = np.linalg.svd(train, full_matrices=False)
    return train @ directions.T, test @ directions.T


def log_probabilities(model, train, y, test):
    """Log-probabilities of the test rows; the classes are those of ``y`` in increasing order."""
    x, z = reduced(train, test)
    return model.fit(x, y).predict_log_proba(z)


def predictions(name, parts, y, n):
    """Predicted classes of the rows after the first ``n``, which have the labels ``y``."""
    kind, _, strength = name.partition("_")
    if kind == "late":
        models = [LogisticRegression(C=float(strength) / p.shape[1], max_iter=500) for p in parts]
        found = sum(
            log_probabilities(m, p[:n], y, p[n:]) for m, p in zip(models, parts, strict=True)
        )
    else:
        x = np.concatenate(parts, axis=1)
        rarest = np.unique(y, return_counts=True)[1].min()
        if name == "logistic_cv" and rarest > 1:
            model = LogisticRegressionCV(
                Cs=np.logspace(-5, 1, 7), cv=int(min(4, rarest)), max_iter=300, tol=1e-3
            )
        else:
            scale = float(strength) / x.shape[1] if kind == "scaled" else 1.0
            model = LogisticRegression(C=scale, max_iter=500)
        found = log_probabilities(model, x[:n], y, x[n:])
    return np.unique(y)[found.argmax(axis=1)]


def linear(dataset, name, n, seeds):
    """Top-1 of a linear classifier for every seed, and seconds per training and prediction."""
    batch = dataset.load(np.arange(len(dataset)), train=False, generator=None)
    parts = [a.flatten(1).numpy().astype(np.float64) for a in batch.inputs.values()]
    y, test = dataset.labels, dataset.test_positions
    top1, start = [], time.perf_counter()
    for seed in range(seeds):
        order = split(dataset, seed)[1][:n]
        rows = np.concatenate([order, test])
        found = predictions(name, [p[rows] for p in parts], y[order], len(order))
        top1.append(np.mean(found == y[test]))
    return np.array(top1), (time.perf_counter() - start) / seeds


def study(dataset, name, seeds, width):
    """By number of labels: mean Top-1, its standard error over seeds, and seconds per training."""
    found = {}
    config = configured(width)
    available = len(split(dataset, 0)[1])
    for n in (n for n in COUNTS if n <= available):
        if name == "default":
            top1, seconds = networks(dataset, n, seeds, config)
            top1 = top1[:, 1]
        else:
            top1, seconds = linear(dataset, name, n, seeds)
        found[str(n)] = {
            "top1": round(float(top1.mean()), 4),
            "standard_error": round(float(top1.std(ddof=1) / np.sqrt(seeds)), 4),
            "seconds": round(seconds, 3),
            "seeds": seeds,
        }
    print(dataset.name, name, {n: f["top1"] for n, f in found.items()}, flush=True)
    return found


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="sklearn")
    run(__doc__, study, MODELS, 5, "bench/results/few_labels.json")
