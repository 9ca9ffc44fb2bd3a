"""Use rlmba's strategies in small-text's learner. Run it: ``python examples/with_small_text.py``.

Needs ``pip install "rlmba[small-text]"``.
"""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from small_text import PoolBasedActiveLearner, SklearnClassifierFactory, SklearnDataset

from rlmba.adapters.small_text import RlmbaStrategy

rng = np.random.default_rng(0)
topics = [
    "goal match team striker league coach score season",
    "market shares bank profit investor trade stock price",
    "galaxy orbit planet telescope star rocket comet moon",
]
y = rng.integers(3, size=600)
texts = [
    " ".join(
        [
            *rng.choice(topics[c].split(), 2),
            *rng.choice(["the", "a", "of", "new", "said", "year"], 6),
        ]
    )
    for c in y
]
X = TfidfVectorizer().fit_transform(texts)
dataset = SklearnDataset(X, y, target_labels=np.arange(3))
embeddings = TruncatedSVD(16, random_state=0).fit_transform(X)

learner = PoolBasedActiveLearner(
    SklearnClassifierFactory(LogisticRegression(max_iter=500), 3),
    RlmbaStrategy("rlmba-x", rng=0),
    dataset,
)
start = np.concatenate([np.flatnonzero(y == c)[:3] for c in range(3)])
learner.initialize_data(start, y[start])
for _ in range(3):
    # One row of embeddings for each text of the data set. A classifier with embed() does not need them.
    picks = learner.query(20, query_strategy_kwargs={"embeddings": embeddings})
    learner.update(y[picks])
    right = (learner.classifier.predict(dataset) == y).mean()
    print(f"{len(learner.indices_labeled)} labels: accuracy {right:.3f}")
