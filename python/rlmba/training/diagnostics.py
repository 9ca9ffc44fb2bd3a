"""Diagnostics of the losses of a training."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import NonFiniteError

__all__ = ["check_finite", "slope"]


def check_finite(loss: float, step: int, total: int) -> None:
    """Raise NonFiniteError unless the loss of step ``step`` of ``total`` is finite."""
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"training: expected a finite loss, got {loss} at step {step + 1} of {total}; "
            "lower training.learning_rate, or look for extreme values in the data",
            step,
        )


def slope(losses: NDArray[np.float64]) -> float:
    """Least-squares change per epoch; 0 for a single epoch."""
    if len(losses) < 2:
        return 0.0
    x = np.arange(len(losses)) - (len(losses) - 1) / 2
    return float(x @ losses / (x @ x))
