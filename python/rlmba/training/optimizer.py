"""The optimizer and the learning-rate schedule of a training."""

from __future__ import annotations

import bisect
import inspect
import math
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlmba.config import TrainingConfig
from rlmba.errors import UsageError
from rlmba.models.classifier import MultimodalClassifier

__all__ = ["make_optimizer", "make_scheduler"]


def make_optimizer(
    model: MultimodalClassifier,
    config: TrainingConfig,
    stacked: Mapping[str, Tensor] | None = None,
) -> torch.optim.Optimizer:
    """Make the configured optimizer.

    Encoders and heads may have their own learning rates. Biases and normalization layers do not decay.
    "adamw" decouples weight decay from the gradient, "adam" adds it to the gradient (L2).

    Parameters
    ----------
    model : MultimodalClassifier
    config : TrainingConfig
    stacked : mapping of name to tensor [K, ...] or None
        Parameters of K models of one architecture, which replace the model's parameters of these
        names and are optimized by the same rules.

    Raises
    ------
    UsageError
        If a rate is given for an unknown modality.
    """
    stray = sorted(set(config.encoder_learning_rates) - set(model.names))
    if stray:
        raise UsageError(
            f"training.encoder_learning_rates: expected modalities of {model.names}, got {stray}"
        )
    rates = dict(zip(model.names, [config.learning_rate] * len(model.names), strict=True))
    rates.update(config.encoder_learning_rates)
    parts = [(encoder, rates[m]) for m, encoder in zip(model.names, model.encoders, strict=True)]
    head_rate = config.head_learning_rate or config.learning_rate
    parts += [(model.projections, config.learning_rate), (model.heads, head_rate)]
    if model.fused_head is not None:
        parts += [(model.fused_head, head_rate)]
    names = {id(p): name for name, p in model.named_parameters()}
    groups: list[dict[str, Any]] = []
    for part, rate in parts:
        parameters = [p for p in part.parameters() if p.requires_grad]
        for decay, chosen in (
            (config.weight_decay, [p for p in parameters if p.ndim >= 2]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        ):
            if chosen:
                own = chosen if stacked is None else [stacked[names[id(p)]] for p in chosen]
                groups.append({"params": own, "lr": rate, "weight_decay": decay})
    if stacked is not None:  # each group costs calls, and many groups have the same settings
        merged: dict[tuple[float, float], list[Tensor]] = {}
        for group in groups:
            merged.setdefault((group["lr"], group["weight_decay"]), []).extend(group["params"])
        groups = [{"params": p, "lr": lr, "weight_decay": d} for (lr, d), p in merged.items()]
    _skip_dynamo()
    return _Adam(
        groups,
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
        decoupled_weight_decay=config.optimizer == "adamw",
    )


class _Adam(torch.optim.Adam):
    """Adam whose step does not import ``torch._dynamo``; see :func:`_skip_dynamo`."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


def _skip_dynamo() -> None:
    """Let optimizers work without importing ``torch._dynamo``, which takes two seconds.

    They import it to exclude their own methods from compilation. Here, only encoders are compiled, and
    whoever compiles has imported it before.
    """
    if "torch._dynamo" in sys.modules:
        return
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        inner = getattr(getattr(torch.optim.Optimizer, name, None), "__wrapped__", None)
        if inner is not None:
            inner.__dict__.setdefault("__dynamo_disable", inner)


def make_scheduler(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, *, epochs: int, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Make the scheduler, which multiplies every learning rate by a factor per optimizer step.

    The factor rises linearly over the first ``config.warmup_epochs``. Then it follows the schedule,
    counted from the start of training.

    Parameters
    ----------
    epochs, steps : int
        Numbers of epochs and steps of the whole training.
    """
    per_epoch = steps / epochs
    warmup = config.warmup_epochs * per_epoch
    milestones = sorted(config.milestones or ())

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if config.schedule == "step" and config.milestones is None:
            return rise if 3 * step < 2 * steps else 0.1 * rise
        if config.schedule == "step":
            return rise * 0.1 ** bisect.bisect_right(milestones, step / per_epoch)
        if config.schedule == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
        return rise

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
