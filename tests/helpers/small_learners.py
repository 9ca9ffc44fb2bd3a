"""Small learners on arrays and around a model of the user's, for tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from rlmba.learner import ActiveLearner

NAMES = ("cat", "dog", "owl")
QUICK = {
    "epochs": 2,
    "model.width": 16,
    "training.min_steps": 40,
    "training.learning_rate": 1e-2,
    "device": "cpu",
    "project.validation_labels": 12,
}
N = 120
Y = np.arange(N) % 3


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "a": rng.normal(size=(N, 4)) + 2.5 * np.eye(3, 4)[Y],
        "b": rng.normal(size=(N, 3)) + 1.5 * np.eye(3)[Y],
    }


def on_arrays(**more):
    settings = {**QUICK, **more.pop("settings", {})}
    return ActiveLearner.from_arrays(arrays(), settings=settings, **{"classes": NAMES, **more})


def a_round(learner, n=9):
    batch = learner.ask(n)
    return batch, learner.tell(batch.ids, Y[learner.positions(batch.ids)])


class Linear(nn.Module):
    """A model as somebody may have it, without our classes."""

    def __init__(self, change=None):
        super().__init__()
        self.layer = nn.Linear(7, 5)
        self.head = nn.Linear(5, 3)
        self.x = torch.tensor(np.concatenate([*arrays().values()], axis=1), dtype=torch.float32)
        self.change = change
        self.fits = []

    def fit(self, rows, labels):
        self.fits.append((rows, labels))
        optimizer = torch.optim.Adam(self.parameters(), 0.05)
        for _ in range(40):
            loss = nn.functional.cross_entropy(
                self.head(self.layer(self.x[rows])), torch.tensor(labels)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def outputs(self, rows):
        features = self.layer(self.x[rows])
        found = {
            "features": features,
            "logits": self.head(features),
            "head": (self.head.weight, self.head.bias),
        }
        return found if self.change is None else self.change(found)


def on_own(model=None, **more):
    given = {"n": N, "classes": NAMES, "settings": QUICK, **more}
    return ActiveLearner.from_model(Linear() if model is None else model, **given)
