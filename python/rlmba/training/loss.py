"""The loss of all heads, over a minibatch or a part of one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rlmba.models.classifier import ModelOutput

__all__ = ["head_counts", "multimodal_loss", "part_loss"]


def multimodal_loss(output: ModelOutput, labels: Tensor, present: Tensor | None = None) -> Tensor:
    """Cross-entropy of the fused head plus that of every modality head, each a mean over samples.

    Parameters
    ----------
    output : ModelOutput
        Of n samples.
    labels : int64 tensor [n]
        Their classes.
    present : bool tensor [n, M] or None
        A modality head's mean is over the samples that have the modality, the fused head's over
        those that have any; 0 where none has.

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
    """How many samples each head's mean is over: the fused head, then the modalities.

    Parameters
    ----------
    samples : int
        n.
    present : bool tensor [n, M] or None
    modalities : int
        M.
    like : tensor
        On whose device the answer shall be.

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
    """What some samples of a minibatch add to its :func:`multimodal_loss`.

    Parameters
    ----------
    output, labels, present
        Of the part.
    counts : float tensor [1 + M]
        :func:`head_counts` of the whole minibatch.

    Returns
    -------
    scalar tensor
        Its sum over the parts of a minibatch is the loss of the whole.
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
