"""Figures of every head, through torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from rlmba.errors import ShapeError, UsageError
from rlmba.types import MULTIMODAL, Evaluation, HeadMetrics, PoolOutputs

__all__ = ["evaluate", "head_log_probs"]


def head_log_probs(
    outputs: PoolOutputs,
    *,
    predictor: Literal["fused", "pooled"] = "fused",
    temperatures: Mapping[str, float] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Log-probabilities of every head.

    Parameters
    ----------
    outputs : PoolOutputs
        Of N samples.
    predictor : {"fused", "pooled"}
        What "mm" says. "fused": the fused head. "pooled": the sum of the log-softmax of the fused
        head and of every modality head that the sample has, normalized again.
    temperatures : mapping of head to float, or None
        Each head's logits are divided by its temperature, 1 where none is given.

    Returns
    -------
    dict of head to float64 array [N, C]
        "mm", then the modalities in their order. Rows of absent modalities mean nothing.

    Raises
    ------
    UsageError
        For another predictor.
    """
    if predictor not in ("fused", "pooled"):
        raise UsageError(f'predictor: expected "fused" or "pooled", got {predictor!r}')
    known = temperatures or {}

    def scaled(head: str, logits: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(
            log_softmax(np.asarray(logits, dtype=np.float64) / known.get(head, 1.0), axis=1)
        )

    fused = scaled(MULTIMODAL, outputs.fused_logits)
    modal = {m: scaled(m, logits) for m, logits in outputs.logits.items()}
    if predictor == "pooled":
        total = fused.copy()
        for column, values in enumerate(modal.values()):
            total += (
                values if outputs.present is None else values * outputs.present[:, column, None]
            )
        fused = np.asarray(log_softmax(total, axis=1))
    return {MULTIMODAL: fused, **modal}


def evaluate(
    outputs: PoolOutputs,
    labels: NDArray[np.int64],
    *,
    n_bins: int = 15,
    predictor: Literal["fused", "pooled"] = "fused",
    temperatures: Mapping[str, float] | None = None,
) -> Evaluation:
    """Top-1 (micro, and macro over the classes present), NLL and ECE of every head.

    Parameters
    ----------
    outputs : PoolOutputs
        Of N >= 1 samples.
    labels : int64 array [N]
        Their true classes.
    n_bins : int
        Equal-width bins of the expected calibration error (L1).
    predictor, temperatures
        See :func:`head_log_probs`.

    Returns
    -------
    Evaluation
        A modality head is judged on the samples that have the modality; where none has, its figures
        are those of a uniform guess (Top-1 1/C, NLL log C, ECE 0). Classes tied for the largest
        probability count as the lowest of them.

    Raises
    ------
    UsageError
        If there is no sample, or a label is out of range.
    ShapeError
        If the number of labels is not N.
    """
    y = np.asarray(labels)
    c = outputs.n_classes
    if y.shape != (len(outputs),):
        raise ShapeError(f"evaluate: expected {len(outputs)} labels, got shape {y.shape}")
    if len(y) == 0 or y.min() < 0 or y.max() >= c:
        raise UsageError(
            f"evaluate: expected one or more labels of 0 to {c - 1}, got {np.unique(y)}"
        )
    log_probs = head_log_probs(outputs, predictor=predictor, temperatures=temperatures)
    heads = {}
    for column, (head, values) in enumerate(log_probs.items(), start=-1):
        if head == MULTIMODAL or outputs.present is None:
            heads[head] = _metrics(values, y, n_bins)
        else:
            there = outputs.present[:, column]
            heads[head] = _metrics(values[there], y[there], n_bins)
    return Evaluation(heads=heads, size=len(y))


def _metrics(log_probs: NDArray[np.float64], y: NDArray[np.int64], n_bins: int) -> HeadMetrics:
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_calibration_error,
    )

    n, c = log_probs.shape
    if n == 0:
        return HeadMetrics(top1=1 / c, top1_macro=1 / c, nll=float(np.log(c)), ece=0.0)
    target = torch.from_numpy(np.asarray(y, dtype=np.int64))
    guess = torch.from_numpy(log_probs.argmax(axis=1))
    # Not above 1 by rounding: torchmetrics would take such rows for logits and squash them again.
    probs = torch.from_numpy(np.exp(log_probs).clip(0.0, 1.0))
    top1 = multiclass_accuracy(guess, target, c, average="micro", validate_args=False)
    # Its macro average would count classes that are guessed but never true, as 0.
    each = multiclass_accuracy(guess, target, c, average="none", validate_args=False)
    occurs = torch.bincount(target, minlength=c) > 0
    ece = multiclass_calibration_error(
        probs, target, c, n_bins=n_bins, norm="l1", validate_args=False
    )
    return HeadMetrics(
        top1=float(top1),
        top1_macro=float(each[occurs].double().mean()),
        nll=float(-log_probs[np.arange(n), y].mean()),
        ece=float(ece),
    )
