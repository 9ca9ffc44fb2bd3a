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
from rlmba.errors import NonFiniteError, UsageError
from rlmba.models.classifier import ModelOutput, MultimodalClassifier
from rlmba.models.randomness import seeded
from rlmba.training.loading import Loader
from rlmba.training.optimizer import make_optimizer, make_scheduler
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
    loader: Loader,
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
    loader : Loader
        Gives the minibatches, on the model's device.
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
    optimizer = make_optimizer(model, config)
    scheduler = make_scheduler(optimizer, config, epochs=epochs, steps=total)
    generator = torch.Generator().manual_seed(seed)
    targets = torch.from_numpy(np.array(labels, dtype=np.int64))
    losses = np.zeros(epochs)
    norms = []
    step = 0
    model.train()
    with seeded(seed, model.device):
        for epoch in range(epochs):
            order = torch.randperm(len(positions), generator=generator)
            chunks = torch.split(order, config.minibatch_size)
            batches = loader.batches(
                [positions[chunk.numpy()] for chunk in chunks],
                train=config.augment,
                seed=int(torch.randint(2**63 - 1, (), generator=generator)),
            )
            for chunk, batch in zip(chunks, batches, strict=True):
                truth = targets[chunk].to(model.device)
                loss = multimodal_loss(model(batch.inputs, batch.present), truth, batch.present)
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
