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
        A modality head's mean is over the samples that have the modality, 0 where none has.

    Returns
    -------
    scalar tensor
    """
    loss = functional.cross_entropy(output.fused_logits, labels)
    for m, logits in enumerate(output.logits.values()):
        if present is None:
            loss = loss + functional.cross_entropy(logits, labels)
        else:
            there = present[:, m].to(logits.dtype)
            each = functional.cross_entropy(logits, labels, reduction="none")
            loss = loss + (each * there).sum() / there.sum().clamp_min(1)
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
        counts[1:] = present.sum(0)
    elif present is not None:
        counts[1:] = 0
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
    loss = functional.cross_entropy(output.fused_logits, labels, reduction="sum") / whole[0]
    for m, logits in enumerate(output.logits.values()):
        each = functional.cross_entropy(logits, labels, reduction="none")
        there = each if present is None else each * present[:, m]
        loss = loss + there.sum() / whole[1 + m]
    return loss
