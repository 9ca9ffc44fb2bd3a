"""Active learning around a scikit-learn model.

Handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, 297 of them for testing.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rlmba

x, truth = load_digits(return_X_y=True)


class Classifier:
    """A pipeline behind ``fit`` and ``outputs``. A class without a label yet gets the lowest logit."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))

    def fit(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Train on all labeled samples."""
        self.pipeline.fit(x[rows], labels)

    def outputs(self, rows: np.ndarray) -> dict:
        """Scaled pixels as features, log-probabilities as logits."""
        logits = np.full((len(rows), self.n_classes), -20.0)
        logits[:, self.pipeline.classes_] = self.pipeline.predict_log_proba(x[rows])
        return {"features": self.pipeline[0].transform(x[rows]), "logits": np.maximum(logits, -20)}


def main(rounds: int = 6) -> float:
    """Label 20 more digits in every round; returns the last accuracy on the test samples."""
    test = np.arange(len(truth)) >= 1500
    learner = rlmba.ActiveLearner.from_model(
        Classifier(10),
        n=len(truth),
        classes=[str(digit) for digit in range(10)],
        labels=np.where(test, truth, -1),
        test=test,
        features=x,
        strategy="margin",
    )
    for _ in range(rounds):
        batch = learner.ask(20)
        record = learner.tell(batch.ids, truth[learner.positions(batch.ids)])
        print(f"{record.labels:4d} labels: accuracy {record.test.mm.top1:.3f}")
    return learner.evaluate().mm.top1


if __name__ == "__main__":
    main()
