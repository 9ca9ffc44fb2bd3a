"""Active learning around a torch model with a training loop of your own.

Handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, 297 of them for testing.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import rlmba

images, truth = load_digits(return_X_y=True)
x = torch.tensor(images.reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)


class Classifier(nn.Module):
    """A small network; ``fit`` and ``outputs`` are all that the learner needs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(256, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def fit(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Train from new weights on all labeled samples."""
        for layer in [*self.body, self.head]:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        self.train()
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
        inputs, targets = x[rows], torch.tensor(labels)
        for _ in range(80):
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.head(self.body(inputs)), targets).backward()
            optimizer.step()

    @torch.no_grad()
    def outputs(self, rows: np.ndarray) -> dict:
        """Features, logits and the layer between them, of any samples."""
        self.eval()
        features = self.body(x[rows])
        return {
            "features": features,
            "logits": self.head(features),
            "head": (self.head.weight, self.head.bias),
        }


def main(rounds: int = 6) -> float:
    """Label 20 more digits in every round; returns the last accuracy on the test samples."""
    test = np.arange(len(truth)) >= 1500
    learner = rlmba.ActiveLearner.from_model(
        Classifier(),
        n=len(truth),
        classes=[str(digit) for digit in range(10)],
        labels=np.where(test, truth, -1),
        test=test,
        features=images,  # what the first batch covers the pool by
        strategy="badge",
    )
    for _ in range(rounds):
        batch = learner.ask(20)
        record = learner.tell(batch.ids, truth[learner.positions(batch.ids)])
        print(f"{record.labels:4d} labels: accuracy {record.test.mm.top1:.3f}")
    return learner.evaluate().mm.top1


if __name__ == "__main__":
    main()
