"""AUROC of each class against the rest, by ranks, compared with torchmetrics and scikit-learn.

The probabilities of one head for a small set, and for VGGSound's numbers of samples and classes; all
classes occur. All three are asserted to give the same mean before anything is timed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import multiclass_auroc

from rlmba.training.evaluate import _auroc

SHAPES = {"700 x 20": (700, 20), "15,000 x 309": (15_000, 309)}


def problem(n, c):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(n) % c)
    z = rng.normal(size=(n, c))
    z[np.arange(n), y] += 1.5
    z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
    return z, y


def torchmetrics(log_probs, y):
    probs = torch.from_numpy(np.exp(log_probs))
    return float(multiclass_auroc(probs, torch.from_numpy(y), log_probs.shape[1]))


def sklearn(log_probs, y):
    probs = np.exp(log_probs)
    probs /= probs.sum(axis=1, keepdims=True)
    return roc_auc_score(y, probs, multi_class="ovr")


HOW = {"ours": _auroc, "torchmetrics": torchmetrics, "scikit-learn": sklearn}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("shape", SHAPES)
def test_auroc(benchmark, shape, how):
    benchmark.group = f"AUROC, {shape}"
    log_probs, y = problem(*SHAPES[shape])
    expected = _auroc(log_probs, y)
    assert HOW[how](log_probs, y) == pytest.approx(expected, abs=1e-5)
    benchmark.pedantic(HOW[how], args=(log_probs, y), rounds=5, warmup_rounds=1)
