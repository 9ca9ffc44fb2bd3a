"""Shared trainings and predictions; every process launched together runs this as a script."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from rlmba.config import ModelConfig, TrainingConfig
from rlmba.data import InMemoryDataset
from rlmba.models import build_classifier
from rlmba.training import Loader, ProcessGroup, SoftLabels, fit, predict
from tests.helpers.float64 import in_float64

BASE = {"minibatch_size": 7, "learning_rate": 0.01, "head_learning_rate": None}
TRAININGS = {
    "plain": {},
    "single": {"minibatch_size": 1},
    "parts": {"gradient_accumulation": 3, "max_grad_norm": 0.5},
    "patience": {
        "patience": 1,
        "learning_rate": 0.3,
        "schedule": "constant",
        "predict_batch_size": 2,
    },
    "soft": {"semi_supervised": True, "gradient_accumulation": 2},
    "evidential": {"loss": "evidential", "gradient_accumulation": 3},
}


def dataset():
    """Three classes with modalities missing at random; some minibatches lack one completely."""
    n = 40
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    arrays = {
        m: (rng.normal(size=(n, 5)) + 2 * np.eye(5)[y]).astype(np.float32) for m in ("a", "b")
    }
    present = rng.random((n, 2)) < 0.6
    present[:, 0] |= ~present.any(axis=1)
    return InMemoryDataset(
        "toy",
        arrays,
        kinds=dict.fromkeys(arrays, "features"),
        labels=y,
        classes=list("pqr"),
        ids=[f"t{i}" for i in range(n)],
        split=np.zeros(n, int),
        present=present,
    )


def trained(group, **config):
    """22 samples in minibatches of 5 or 6; in parts, and in minibatches of 1, a process may have no share."""
    data = dataset()
    training = TrainingConfig(**BASE | config)
    model = in_float64(
        build_classifier(
            data.modalities,
            3,
            ModelConfig(width=8, dropout=0.4),
            "uniform",
            seed=group.rank,
            evidential=training.evidential_heads,
        )
    )
    positions, v, rest = np.arange(22), np.arange(22, 27), np.arange(27, 40)
    guesses = np.random.default_rng(2).dirichlet(np.ones(3), len(rest)).astype(np.float32)
    diagnostics = fit(
        model,
        Loader(data),
        positions,
        data.labels[positions],
        training,
        epochs=4,
        seed=1,
        group=group,
        validation=(v, data.labels[v]),
        soft=SoftLabels(rest, guesses) if training.semi_supervised else None,
    )
    return model, data, diagnostics


def work(group, name):
    model, data, diagnostics = trained(group, **TRAININGS[name])
    found = {f"weights.{k}": v.numpy() for k, v in model.state_dict().items()}
    found["diagnostics"] = np.array(list(vars(diagnostics).values()))
    for size in (11, 1, 0):
        pool = np.arange(39, 39 - size, -1)
        outputs = predict(model, Loader(data), pool, batch_size=4, group=group, memory=8 * size)
        found[f"ids.{size}"] = outputs.ids
        found[f"present.{size}"] = outputs.present
        found[f"logits.{size}"] = np.array(outputs.fused_logits)
        found |= {f"features.{size}.{m}": np.array(f) for m, f in outputs.features.items()}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    together = ProcessGroup.open("cpu", "fp32")
    for which in TRAININGS:
        results = work(together, which)
        if together.is_main:
            np.savez(f"{sys.argv[1]}/{which}.npz", **results)
