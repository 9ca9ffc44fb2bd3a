"""One round's training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rlmba.config import TrainingConfig
from rlmba.data.base import MultimodalDataset
from rlmba.errors import NonFiniteError, UsageError
from rlmba.models.classifier import ModelOutput, MultimodalClassifier
from rlmba.models.randomness import seeded
from rlmba.types import TrainingDiagnostics

__all__ = ["Progress", "fit", "multimodal_loss"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of steps done and the number there will be."""


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


def fit(
    model: MultimodalClassifier,
    dataset: MultimodalDataset,
    positions: NDArray[np.int64],
    labels: NDArray[np.int64],
    config: TrainingConfig,
    *,
    epochs: int,
    seed: int,
    progress: Progress | None = None,
) -> TrainingDiagnostics:
    """Train a model in place on labeled samples, with AdamW.

    Parameters
    ----------
    model : MultimodalClassifier
        Its weights are where training starts. It is left in evaluation mode.
    dataset : MultimodalDataset
        Gives the minibatches.
    positions : int64 array [L]
        Dataset positions of the labeled samples.
    labels : int64 array [L]
        Their annotated classes.
    config : TrainingConfig
        Rates, schedule, minibatch size. Epochs are added until ``config.min_steps`` is reached.
    epochs : int
        Passes over the samples, in a new order each.
    seed : int
        Decides order, augmentation and dropout. On the CPU, equal seeds, weights and thread counts
        give bit-identical weights. Torch's global generator is left as it was.
    progress : callable or None
        Called after every step with (steps done, steps in all).

    Raises
    ------
    UsageError
        If there is nothing to train on, or a rate is given for an unknown modality.
    NonFiniteError
        If the loss is not finite; ``row`` is the step.
    """
    if len(positions) == 0 or len(positions) != len(labels):
        raise UsageError(
            f"fit: expected one or more labeled samples, got {len(positions)} positions "
            f"and {len(labels)} labels"
        )
    per_epoch = math.ceil(len(positions) / config.minibatch_size)
    epochs = max(epochs, math.ceil(config.min_steps / per_epoch))
    total = epochs * per_epoch
    optimizer = _optimizer(model, config)
    scheduler = _scheduler(optimizer, config.schedule, total)
    generator = torch.Generator().manual_seed(seed)
    device = model.device
    targets = torch.from_numpy(np.array(labels, dtype=np.int64))
    losses = np.zeros(epochs)
    norms = []
    step = 0
    model.train()
    with seeded(seed, device):
        for epoch in range(epochs):
            order = torch.randperm(len(positions), generator=generator)
            for chunk in torch.split(order, config.minibatch_size):
                batch = dataset.batch(
                    positions[chunk.numpy()], train=config.augment, generator=generator
                )
                inputs = {m: x.to(device) for m, x in batch.inputs.items()}
                present = None if batch.present is None else batch.present.to(device)
                loss = multimodal_loss(model(inputs, present), targets[chunk].to(device), present)
                value = _finite(float(loss.detach()), step, total)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                if epoch == epochs - 1:
                    norms.append(_gradient_norm(model))
                optimizer.step()
                scheduler.step()
                losses[epoch] += value * len(chunk) / len(positions)
                step += 1
                if progress is not None:
                    progress(step, total)
    model.eval()
    return TrainingDiagnostics(
        loss_slope=_slope(losses[epochs // 2 :]),
        gradient_norm=float(np.mean(norms)),
        final_loss=float(losses[-1]),
        steps=total,
    )


def _optimizer(model: MultimodalClassifier, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over encoders at their own rates; biases and norms are not decayed."""
    stray = sorted(set(config.encoder_learning_rates) - set(model.names))
    if stray:
        raise UsageError(
            f"training.encoder_learning_rates: expected modalities of {model.names}, got {stray}"
        )
    rates = dict(zip(model.names, [config.learning_rate] * len(model.names), strict=True))
    rates.update(config.encoder_learning_rates)
    parts = [(encoder, rates[m]) for m, encoder in zip(model.names, model.encoders, strict=True)]
    parts += [
        (part, config.learning_rate) for part in (model.projections, model.heads, model.fused_head)
    ]
    groups = []
    for part, rate in parts:
        parameters = [p for p in part.parameters() if p.requires_grad]
        for decay, chosen in (
            (config.weight_decay, [p for p in parameters if p.ndim >= 2]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _scheduler(
    optimizer: torch.optim.Optimizer, schedule: str, total: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Factor of the rate by steps done."""

    def factor(step: int) -> float:
        if schedule == "step":
            return 1.0 if 3 * step < 2 * total else 0.1
        if schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(step, total) / total))
        return 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _finite(loss: float, step: int, total: int) -> float:
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"training: expected a finite loss, got {loss} at step {step + 1} of {total}; "
            "lower training.learning_rate, or look for extreme values in the data",
            step,
        )
    return loss


def _gradient_norm(model: torch.nn.Module) -> float:
    squares = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())


def _slope(losses: NDArray[np.float64]) -> float:
    """Least-squares change per epoch; 0 for a single epoch."""
    if len(losses) < 2:
        return 0.0
    x = np.arange(len(losses)) - (len(losses) - 1) / 2
    return float(x @ losses / (x @ x))
