"""Adaptive modality contribution balancing: Eq 1 and 2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlmba.errors import NonFiniteError, UsageError
from rlmba.types import Evaluation

__all__ = ["balance_weights", "contribution_gaps"]


def contribution_gaps(validation: Evaluation) -> NDArray[np.float64]:
    """delta_m = Top1_m - Top1_mm on the validation set, over the samples that have modality m (Eq 1).

    Returns
    -------
    float64 array [M]
        In the evaluation's order of modalities, each in [-1, 1]. A modality that no validation sample
        has cannot be measured: it gets the mean of the others, so it is preferred to none of them (0
        if no modality can be measured).

    Notes
    -----
    In evaluations by versions that did not record missing modalities, Top1_mm is over all samples.
    """
    delta = np.full(len(validation.modalities), np.nan)
    for j, m in enumerate(validation.modalities):
        fused = validation.fused_top1(m)
        if fused is not None:
            delta[j] = validation.heads[m].top1 - fused
    measured = delta[~np.isnan(delta)]
    return np.where(np.isnan(delta), measured.mean() if len(measured) else 0.0, delta)


def balance_weights(
    delta: NDArray[np.float64], *, tau: float = 1.0, floor: float = 1e-3
) -> NDArray[np.float64]:
    """w = softmax(delta / tau), then w~_m = (w_m + floor) / sum_j (w_j + floor) (Eq 2).

    Parameters
    ----------
    delta : float array [M]
        Eq 1. Only differences between its entries matter.
    tau : float
        Temperature, > 0. As it approaches 0, the weights approach the unit vector of the largest
        entry; equal entries get equal weights.
    floor : float
        eps >= 0. Every weight is at least eps / (1 + M eps).

    Returns
    -------
    float64 array [M]
        A point of the simplex.

    Raises
    ------
    UsageError
        If tau or floor is out of range or delta is not a non-empty vector.
    NonFiniteError
        If an entry of delta is NaN or infinite.

    Examples
    --------
    >>> balance_weights(np.array([-0.2, -0.2]))
    array([0.5, 0.5])
    """
    d = np.asarray(delta, dtype=np.float64)
    if d.ndim != 1 or d.size == 0:
        raise UsageError(f"delta: expected one number per modality, got shape {d.shape}")
    if not np.isfinite(d).all():
        m = int(np.argmax(~np.isfinite(d)))
        raise NonFiniteError(f"delta[{m}] is {d[m]}: expected finite accuracies", m)
    if not (tau > 0 and np.isfinite(tau)):
        raise UsageError(f"tau: expected a number > 0, got {tau}")
    if not (floor >= 0 and np.isfinite(floor)):
        raise UsageError(f"floor: expected a number >= 0, got {floor}")
    with np.errstate(over="ignore"):  # (d - max) / tau may reach -inf, whose exponential is 0
        w = np.exp((d - d.max()) / tau)
    w /= w.sum()
    w += floor
    return np.asarray(w / w.sum(), dtype=np.float64)
