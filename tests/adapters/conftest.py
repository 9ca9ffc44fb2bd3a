from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def digits():
    """Features in [0, 1], classes."""
    X, y = load_digits(return_X_y=True)
    return X[:600] / 16.0, y[:600]


@pytest.fixture(scope="session")
def start(digits):
    """Positions labeled first: three of each class."""
    _, y = digits
    return np.concatenate([np.flatnonzero(y == c)[:3] for c in range(10)])
