"""What a constant added to logits or features does not change: which samples are chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rlmba


@pytest.fixture
def grid(rng):
    """Multiples of 1/64, which float32 holds after a shift of 2^16 and float64 after one of 2^40."""
    return lambda *shape: rng.integers(-256, 257, size=shape) / 64


@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.tensor])
@pytest.mark.parametrize("name", ["entropy", "margin", "bald", "badge"])
def test_logits(rng, grid, name, kind):
    def chosen(shift):
        given = {"logits": kind(grid_logits + shift)}
        if name == "bald":
            given["dropout_logits"] = kind(dropout + shift)
        if name == "badge":
            given["features"] = kind(features)
        return rlmba.select(name, n=6, rng=1, **given).positions.tolist()

    grid_logits, dropout, features = grid(40, 5), grid(3, 40, 5), grid(40, 4)
    far = 2.0**16 if kind is np.float32 else 2.0**40
    assert chosen(rng.choice([-far, far], size=(40, 1))) == chosen(0)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_features(grid, kind):
    x = grid(64, 5)
    far = 2.0**16 if kind is np.float32 else 2.0**40

    def chosen(shift):
        moved = kind(x + shift)
        return rlmba.select("coreset", n=8, features=moved, labeled=[3, 9]).positions.tolist()

    assert chosen(np.array([far, -far, 0, far / 2, far])) == chosen(0)
