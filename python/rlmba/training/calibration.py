"""Temperature scaling: one temperature per head, fitted on the validation set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from rlmba.errors import ShapeError
from rlmba.types import MULTIMODAL, PoolOutputs

__all__ = ["TEMPERATURE_RANGE", "fit_temperature", "fit_temperatures"]

TEMPERATURE_RANGE = (0.1, 10.0)
"""Bounds of a fitted temperature. If every sample is classified correctly, the likelihood keeps growing as T
falls; on a tiny validation set it may keep growing as T rises. The result is then the bound."""


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Fit T > 0 that minimizes the mean negative log-likelihood of softmax(logits / T).

    Parameters
    ----------
    logits : float array [V, C]
    labels : int64 array [V]

    Returns
    -------
    float
        Within :data:`TEMPERATURE_RANGE`; 1 if V is empty or the logits of every sample are equal.
        The likelihood is unimodal in log T, so a bounded search finds its optimum.

    Raises
    ------
    ShapeError
        If the shapes do not agree.
    """
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(labels)
    if z.ndim != 2 or y.shape != (len(z),):
        raise ShapeError(
            f"fit_temperature: expected logits [V, C] and labels [V], got {z.shape} and {y.shape}"
        )
    if len(z) == 0 or np.ptp(z, axis=1).max() == 0:
        return 1.0
    # Subtracting the label's logit changes no probability and reduces the likelihood to one sum.
    z = z - z[np.arange(len(z)), y][:, None]

    def nll(log_temperature: float) -> float:
        return float(logsumexp(z * np.exp(-log_temperature), axis=1).mean())

    from scipy.optimize import minimize_scalar  # takes long to import

    low, high = np.log(TEMPERATURE_RANGE)
    result = minimize_scalar(nll, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    best = min((float(result.x), float(low), float(high)), key=nll)
    return float(np.clip(np.exp(best), *TEMPERATURE_RANGE))


def fit_temperatures(
    outputs: PoolOutputs, labels: NDArray[np.int64], *, fused_head: bool = True
) -> dict[str, float]:
    """Fit the temperature of every head on the validation set.

    Parameters
    ----------
    outputs : PoolOutputs
        Outputs for the validation samples.
    labels : int64 array [V]
        Their classes.
    fused_head : bool
        Whether the fused logits are those of a fused head. If it is false and the modality heads output
        trained evidence, they are log alpha_f (Eq 3).

    Returns
    -------
    dict of head to float
        "mm" for the fused head, then the modalities. Each modality is fitted on the samples that
        have it. Heads that output trained evidence are not scaled: their temperatures are 1.
    """
    evidential = outputs.evidence is not None
    scaled = fused_head or not evidential
    temperatures = {MULTIMODAL: fit_temperature(outputs.fused_logits, labels) if scaled else 1.0}
    if evidential:
        return temperatures | dict.fromkeys(outputs.logits, 1.0)
    for column, (modality, logits) in enumerate(outputs.logits.items()):
        there = slice(None) if outputs.present is None else outputs.present[:, column]
        temperatures[modality] = fit_temperature(logits[there], np.asarray(labels)[there])
    return temperatures
