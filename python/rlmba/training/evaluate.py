"""Metrics of every head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from rlmba.errors import ShapeError, UsageError
from rlmba.kernels.common.evidential import evidence
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
        Outputs for N samples.
    predictor : {"fused", "pooled"}
        The prediction of "mm". "fused" is that of the fused head. "pooled" is the normalized sum of
        the log-probabilities of the fused head and of the heads of all modalities that the sample has.
    temperatures : mapping of head to float, or None
        Each head's logits are divided by its temperature, which is 1 by default.

    Returns
    -------
    dict of head to float64 array [N, C]
        "mm", then the modalities in order: the log-softmax of the scaled logits or, of a head that
        outputs trained evidence, log alpha_m - log sum_c alpha_m. Rows of missing modalities are
        undefined.

    Raises
    ------
    UsageError
        For an unknown predictor.
    """
    if predictor not in ("fused", "pooled"):
        raise UsageError(f'predictor: expected "fused" or "pooled", got {predictor!r}')
    known = temperatures or {}

    def scaled(head: str, logits: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(
            log_softmax(np.asarray(logits, dtype=np.float64) / known.get(head, 1.0), axis=1)
        )

    def expected(logits: NDArray[Any], kind: str) -> NDArray[np.float64]:
        return np.asarray(log_softmax(np.log1p(evidence(logits, kind)), axis=1))

    fused = scaled(MULTIMODAL, outputs.fused_logits)
    kind = outputs.evidence
    modal = {
        m: scaled(m, logits) if kind is None else expected(logits, kind)
        for m, logits in outputs.logits.items()
    }
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
    per_class: bool = False,
) -> Evaluation:
    """Top-1 (micro, and macro over the classes present), NLL, ECE, F1 and AUROC of every head.

    Parameters
    ----------
    outputs : PoolOutputs
        Outputs for N >= 1 samples.
    labels : int64 array [N]
        Their true classes.
    n_bins : int
        Number of equal-width bins of the expected calibration error (L1).
    predictor, temperatures
        See :func:`head_log_probs`.
    per_class : bool
        Whether to include the accuracy of each class.

    Returns
    -------
    Evaluation
        A modality head is evaluated on the samples that have the modality, together with the fused
        head's Top-1 on the same samples. If no sample has it, its metrics are those of a uniform
        guess (Top-1 1/C, NLL log C, ECE 0), and its F1 and AUROC are None. Among classes tied for
        the largest probability, the lowest is predicted. For AUROC, two samples tied in a class's
        probability count as half.

    Raises
    ------
    UsageError
        If there is no sample, or a label is out of range.
    ShapeError
        If the number of labels is not N.
    """
    y = np.asarray(labels, dtype=np.int64)
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
        there = None
        if head != MULTIMODAL and outputs.present is not None:
            there = outputs.present[:, column]
        if there is None or there.all():
            heads[head] = _metrics(values, y, n_bins, per_class)
        else:
            heads[head] = replace(
                _metrics(values[there], y[there], n_bins, per_class),
                samples=int(there.sum()),
                fused_top1=_top1(log_probs[MULTIMODAL][there], y[there]) if there.any() else None,
            )
    true = np.bincount(y, minlength=c)
    guessed = np.bincount(log_probs[MULTIMODAL].argmax(axis=1), minlength=c)
    never = np.flatnonzero((guessed == 0) & (true > 0))
    return Evaluation(
        heads=heads,
        size=len(y),
        majority=float(true.max() / len(y)),
        predicted_classes=int((guessed > 0).sum()),
        most_predicted=int(guessed.argmax()),
        never_predicted=tuple(zip(never.tolist(), true[never].tolist(), strict=True)),
    )


def _top1(log_probs: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    # In single precision, as the figures of older run folders are.
    return float(np.float32((log_probs.argmax(axis=1) == y).sum()) / np.float32(len(y)))


def _metrics(
    log_probs: NDArray[np.float64], y: NDArray[np.int64], n_bins: int, per_class: bool
) -> HeadMetrics:
    n, c = log_probs.shape
    if n == 0:
        return HeadMetrics(
            top1=1 / c,
            top1_macro=1 / c,
            nll=float(np.log(c)),
            ece=0.0,
            per_class=(None,) * c if per_class else (),
        )
    guess, target = torch.from_numpy(log_probs.argmax(axis=1)), torch.from_numpy(y)
    true, guessed, hit = (
        torch.bincount(classes, minlength=c) for classes in (target, guess, target[guess == target])
    )
    # A class that is guessed but never true enters no mean.
    occurs = true > 0
    each = hit / true
    f1 = 2 * hit / (true + guessed)
    shares = zip(each.tolist(), occurs.tolist(), strict=True) if per_class else ()
    return HeadMetrics(
        top1=_top1(log_probs, y),
        top1_macro=float(each[occurs].double().mean()),
        nll=float(-log_probs[np.arange(n), y].mean()),
        ece=_ece(log_probs, y, n_bins),
        f1=float(f1[occurs].double().mean()),
        auroc=_auroc(log_probs, y),
        per_class=tuple(share if there else None for share, there in shares),
    )


def _ece(log_probs: NDArray[np.float64], y: NDArray[np.int64], n_bins: int) -> float:
    """L1 calibration error: the mean over the samples of their bin's |accuracy - confidence|."""
    # In single precision, so that rounding does not push a confidence of, say, 1/2 over an edge.
    confidence = np.exp(log_probs.max(axis=1)).astype(np.float32)
    right = log_probs.argmax(axis=1) == y
    bins = np.searchsorted(torch.linspace(0, 1, n_bins + 1).numpy(), confidence, side="right")
    return float(np.abs(np.bincount(bins, weights=right - confidence.astype(float))).sum() / len(y))


def _auroc(log_probs: NDArray[np.float64], y: NDArray[np.int64]) -> float | None:
    """Mean over the classes of the Mann-Whitney statistic, computed from the ranks of each column."""
    n, c = log_probs.shape
    inside = np.bincount(y, minlength=c).astype(np.float64)
    defined = (inside > 0) & (inside < n)
    if not defined.any():
        return None
    above = (
        np.bincount(y, weights=_own_ranks(log_probs, y), minlength=c) - inside * (inside + 1) / 2
    )
    return float((above[defined] / (inside * (n - inside))[defined]).mean())


def _own_ranks(log_probs: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rank of each sample in the column of its class, from 1; tied samples have their mean rank.

    scipy.stats.rankdata does this for all columns, but scipy.stats takes long to import.
    """
    ranks = np.empty(len(y))
    for label in np.unique(y):
        column, own = np.sort(log_probs[:, label]), y == label
        values = log_probs[own, label]
        below, upto = (np.searchsorted(column, values, side=side) for side in ("left", "right"))
        ranks[own] = (below + upto + 1) / 2
    return ranks
