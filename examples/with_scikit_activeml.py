"""Use rlmba's strategies in scikit-activeml's loop. Run it: ``python examples/with_scikit_activeml.py``.

Needs ``pip install "rlmba[skactiveml]"``.
"""

from __future__ import annotations

import numpy as np
from skactiveml.classifier import SklearnClassifier
from skactiveml.utils import MISSING_LABEL
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from rlmba.adapters.skactiveml import RlmbaStrategy

X, y_true = load_digits(return_X_y=True)
X = X / 16.0
y = np.full(len(X), MISSING_LABEL)
y[:30] = y_true[:30]

clf = SklearnClassifier(LogisticRegression(max_iter=500), classes=range(10), random_state=0)
strategy = RlmbaStrategy("rlmba-x", options={"kappa": 5}, random_state=0)

for _ in range(3):
    picks = strategy.query(X=X, y=y, clf=clf, batch_size=30)
    y[picks] = y_true[picks]
    labels = int((~np.isnan(y)).sum())
    print(f"{labels} labels: accuracy {clf.fit(X, y).score(X, y_true):.3f}")
