"""The loss of all heads, over a minibatch or part of one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rlmba.config import TrainingConfig
from rlmba.models.classifier import ModelOutput

__all__ = [
    "EvidentialTerm",
    "evidential_loss",
    "evidential_term",
    "head_counts",
    "multimodal_loss",
    "part_loss",
]


class EvidentialTerm(NamedTuple):
    """The evidential loss at one optimizer step.

    ``kl_weight`` is lambda_t. ``fused_head`` tells whether a fused head is trained by cross-entropy in
    addition.
    """

    form: Literal["digamma", "type-ii"]
    kl_weight: float
    fused_head: bool = True


def evidential_term(config: TrainingConfig, step: int, steps: int) -> EvidentialTerm | None:
    """The evidential loss at a step.

    Parameters
    ----------
    config : TrainingConfig
    step, steps : int
        Number of completed steps, and of all steps of the training. lambda_t rises linearly from 0 at
        the first step to ``kl_weight`` at the share ``annealing`` of all steps.

    Returns
    -------
    EvidentialTerm or None
        None if the heads are trained by cross-entropy.
    """
    heads = config.evidential_heads
    if heads is None:
        return None
    rise = heads.annealing * steps
    share = min(1.0, step / rise) if rise else 1.0
    return EvidentialTerm(heads.form, heads.kl_weight * share, heads.fused_head)


def evidential_loss(alpha: Tensor, labels: Tensor, term: EvidentialTerm) -> Tensor:
    """Evidential loss of one head for each sample (Sensoy et al. 2018; Han et al. 2021).

    The data term is psi(alpha_0) - psi(alpha_y) ("digamma", the expected cross-entropy) or log
    alpha_0 - log alpha_y ("type-ii", the negative log marginal likelihood), alpha_0 = sum_c alpha_c.
    The penalty for evidence of wrong classes, lambda_t KL(Dir(y + (1 - y) alpha) || Dir(1)), is added.

    Parameters
    ----------
    alpha : float tensor [n, C]
        Dirichlet parameters >= 1.
    labels : int64 tensor [n]
    term : EvidentialTerm

    Returns
    -------
    float tensor [n]
    """
    function = torch.digamma if term.form == "digamma" else torch.log
    true = labels[:, None]
    loss = function(alpha.sum(dim=1)) - function(alpha.gather(1, true)[:, 0])
    if term.kl_weight == 0:
        return loss
    wrong = alpha.scatter(1, true, 1.0)
    total = wrong.sum(dim=1)
    kl = total.lgamma() - wrong.lgamma().sum(dim=1) - math.lgamma(alpha.shape[1])
    kl = kl + ((wrong - 1) * (wrong.digamma() - total.digamma()[:, None])).sum(dim=1)
    return loss + term.kl_weight * kl


def multimodal_loss(
    output: ModelOutput,
    labels: Tensor,
    present: Tensor | None = None,
    *,
    term: EvidentialTerm | None = None,
) -> Tensor:
    """Loss of the fused head plus that of each modality head, each averaged over samples.

    Parameters
    ----------
    output : ModelOutput
        Outputs for n samples.
    labels : int64 tensor [n]
        Their classes.
    present : bool tensor [n, M] or None
        A modality head's mean is over the samples that have the modality; the fused head's is over
        those that have any modality. It is 0 if there is no such sample.
    term : EvidentialTerm or None
        None: the cross-entropy of every head. Otherwise the :func:`evidential_loss` of each modality
        head and of alpha_f (Eq 3), plus the cross-entropy of the fused head if it has one.

    Returns
    -------
    scalar tensor
    """
    if present is not None or term is not None:
        counts = head_counts(len(labels), present, len(output.logits), labels)
        return part_loss(output, labels, present, counts, term=term)
    loss = functional.cross_entropy(output.fused_logits, labels)
    for logits in output.logits.values():
        loss = loss + functional.cross_entropy(logits, labels)
    return loss


def head_counts(samples: int, present: Tensor | None, modalities: int, like: Tensor) -> Tensor:
    """Number of samples in each head's mean: the fused head, then the modalities.

    Parameters
    ----------
    samples : int
        n.
    present : bool tensor [n, M] or None
    modalities : int
        M.
    like : tensor
        The result is on its device.

    Returns
    -------
    float tensor [1 + M]
    """
    counts = torch.full((1 + modalities,), float(samples), device=like.device)
    if present is not None and samples:
        counts[0] = present.any(dim=1).sum()
        counts[1:] = present.sum(dim=0)
    elif present is not None:
        counts[:] = 0
    return counts


def part_loss(
    output: ModelOutput,
    labels: Tensor,
    present: Tensor | None,
    counts: Tensor,
    *,
    term: EvidentialTerm | None = None,
) -> Tensor:
    """Contribution of some samples of a minibatch to its :func:`multimodal_loss`.

    Parameters
    ----------
    output, labels, present, term
        Those of the part.
    counts : float tensor [1 + M]
        The :func:`head_counts` of the whole minibatch.

    Returns
    -------
    scalar tensor
        Summed over the parts of a minibatch, it gives the loss of the minibatch.
    """
    whole = counts.clamp_min(1)
    loss = torch.zeros((), device=labels.device)
    for k, each in _sample_losses(output, labels, term):
        counted = each
        if present is not None:
            counted = each * (present.any(dim=1) if k == 0 else present[:, k - 1])
        loss = loss + counted.sum() / whole[k]
    return loss


def _sample_losses(
    output: ModelOutput, labels: Tensor, term: EvidentialTerm | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield each head's place in :func:`head_counts`, and its loss for every sample [n]."""
    if term is None or term.fused_head:
        yield 0, functional.cross_entropy(output.fused_logits, labels, reduction="none")
    if term is None:
        for k, logits in enumerate(output.logits.values(), start=1):
            yield k, functional.cross_entropy(logits, labels, reduction="none")
        return
    assert output.dirichlet is not None, "the model was built without its evidential configuration"
    for k, alpha in enumerate(output.dirichlet.values()):
        yield k, evidential_loss(alpha, labels, term)
