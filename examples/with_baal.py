"""Use rlmba's strategies in baal's loop. Run it: ``python examples/with_baal.py``.

Needs ``pip install "rlmba[baal]"``.
"""

from __future__ import annotations

import numpy as np
import torch
from baal.active import ActiveLearningDataset
from baal.active.active_loop import ActiveLearningLoop
from baal.active.heuristics import Precomputed
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from rlmba.adapters.baal import RlmbaHeuristic, ranking

X, y = load_digits(return_X_y=True)
X = X / 16.0
QUERY = 30


def arrays(dataset):
    """Features of the samples in a baal data set or its pool."""
    return np.stack([dataset[i][0].numpy() for i in range(len(dataset))])


def predict(pool):
    """Predict with baal's axes [samples, classes, passes]; here one pass."""
    return classifier.predict_proba(arrays(pool))[..., None]


def rank(pool):
    """Rank the pool for baal, by a strategy that needs features to compose a batch."""
    return ranking(
        "rlmba-x",
        QUERY,
        features=arrays(pool),
        probabilities=classifier.predict_proba(arrays(pool)),
        rng=0,
    )


for name, heuristic, scores in (
    ("margin", RlmbaHeuristic("margin"), predict),
    ("rlmba-x", Precomputed(reverse=True), rank),
):
    dataset = ActiveLearningDataset(
        torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(y))
    )
    dataset.label(list(range(30)))
    loop = ActiveLearningLoop(dataset, scores, heuristic, query_size=QUERY)
    for _ in range(3):
        labels = np.array([int(dataset[i][1]) for i in range(len(dataset))])
        classifier = LogisticRegression(max_iter=500).fit(arrays(dataset), labels)
        print(f"{name}, {len(dataset)} labels: accuracy {classifier.score(X, y):.3f}")
        loop.step()
