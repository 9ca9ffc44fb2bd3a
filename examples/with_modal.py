"""Use rlmba's strategies in modAL's learner. Run it: ``python examples/with_modal.py``.

Needs ``pip install "rlmba[modal]"`` (the distribution is called modAL-python).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from modAL.models import ActiveLearner
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from rlmba.adapters.modal import query

X, y = load_digits(return_X_y=True)
X = X / 16.0
labeled, pool = np.arange(30), np.arange(30, len(X))

# A generator advances from query to query; an int would draw the same numbers in each.
strategy = partial(query, strategy="rlmba-x", rng=np.random.default_rng(0))

for _ in range(3):
    # A new learner each round, because modAL's teach() fails with scikit-learn 1.8 and newer.
    learner = ActiveLearner(
        LogisticRegression(max_iter=500), strategy, X_training=X[labeled], y_training=y[labeled]
    )
    print(f"{len(labeled)} labels: accuracy {learner.score(X, y):.3f}")
    picks, _ = learner.query(X[pool], n_instances=30)
    labeled, pool = np.append(labeled, pool[picks]), np.delete(pool, picks)
