"""The loss of all heads, over a minibatch or part of one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rlmba.models.classifier import ModelOutput

__all__ = ["head_counts", "multimodal_loss", "part_loss"]


def multimodal_loss(output: ModelOutput, labels: Tensor, present: Tensor | None = None) -> Tensor:
    """Cross-entropy of the fused head plus that of each modality head, each averaged over samples.

    Parameters
    ----------
    output : ModelOutput
        Outputs for n samples.
    labels : int64 tensor [n]
        Their classes.
    present : bool tensor [n, M] or None
        A modality head's mean is over the samples that have the modality; the fused head's is over
        those that have any modality. It is 0 if there is no such sample.

    Returns
    -------
    scalar tensor
    """
    if present is not None:
        counts = head_counts(len(labels), present, len(output.logits), labels)
        return part_loss(output, labels, present, counts)
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
    output: ModelOutput, labels: Tensor, present: Tensor | None, counts: Tensor
) -> Tensor:
    """Contribution of some samples of a minibatch to its :func:`multimodal_loss`.

    Parameters
    ----------
    output, labels, present
        Those of the part.
    counts : float tensor [1 + M]
        The :func:`head_counts` of the whole minibatch.

    Returns
    -------
    scalar tensor
        Summed over the parts of a minibatch, it gives the loss of the minibatch.
    """
    whole = counts.clamp_min(1)
    heads = [output.fused_logits, *output.logits.values()]
    loss = torch.zeros((), device=labels.device)
    for k, logits in enumerate(heads):
        each = functional.cross_entropy(logits, labels, reduction="none")
        if present is not None:
            each = each * (present.any(dim=1) if k == 0 else present[:, k - 1])
        loss = loss + each.sum() / whole[k]
    return loss
