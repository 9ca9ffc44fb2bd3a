"""Training of several models of one architecture at once, with stacked parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import stack_module_state

from rlmba.config import TrainingConfig
from rlmba.data import MultimodalDataset
from rlmba.data.base import Batch
from rlmba.errors import NonFiniteError, UsageError
from rlmba.models.classifier import ModelOutput, MultimodalClassifier
from rlmba.models.stacked import stacked_forward
from rlmba.training.diagnostics import check_finite, slope
from rlmba.training.loading import BatchRequest, Loader
from rlmba.training.loss import evidential_term, sample_losses
from rlmba.training.minibatches import MinibatchPlan
from rlmba.training.optimizer import make_optimizer, make_scheduler
from rlmba.training.processes import ProcessGroup
from rlmba.types import TrainingDiagnostics

__all__ = ["LabeledSamples", "can_stack", "fit_stacked", "needs_own_training"]

# Maximum number of values of the labeled samples kept in memory for a training: 2 GB.
_KEPT = 1 << 29


class LabeledSamples(NamedTuple):
    """Labeled samples of one model: dataset positions and classes, int64 [L], and the seed."""

    positions: NDArray[np.int64]
    labels: NDArray[np.int64]
    seed: int


def needs_own_training(config: TrainingConfig) -> bool:
    """Whether an option requires training each model separately.

    These options are early stopping, minibatches in parts, gradient clipping, compiled encoders,
    bfloat16, checkpoints within a round and training on samples without labels.
    """
    return (
        config.patience is not None
        or config.gradient_accumulation > 1
        or config.max_grad_norm is not None
        or config.checkpoint_minutes is not None
        or config.compile
        or config.semi_supervised
        or config.precision == "bf16"
    )


def can_stack(
    model: MultimodalClassifier, dataset: MultimodalDataset, config: TrainingConfig
) -> bool:
    """Whether models like this one can be trained by :func:`fit_stacked`.

    They can if every encoder is ``stackable``, every sample has every modality, the data are in
    memory, and no option requires separate training.
    """
    stackable = all(encoder.stackable for encoder in model.encoders)
    return (
        stackable
        and dataset.in_memory
        and dataset.present is None
        and not needs_own_training(config)
    )


def fit_stacked(
    models: Sequence[MultimodalClassifier],
    loader: Loader,
    samples: Sequence[LabeledSamples],
    config: TrainingConfig,
    *,
    epochs: int | None,
    group: ProcessGroup | None = None,
) -> list[TrainingDiagnostics | NonFiniteError]:
    """Train K models in place, with the results of :func:`~rlmba.training.fit` for each.

    Minibatches, augmentation and dropout masks come from each model's own seed. The arithmetic
    differs only in the order of sums in matrix products, so weights agree up to rounding. It costs
    less than K trainings, because small networks spend most of their time on overhead.

    Parameters
    ----------
    models : sequence of MultimodalClassifier [K]
        Models of one shape, which may have different fusion weights. Training starts from their
        weights. They are left in evaluation mode.
    loader : Loader
        Loader of the data set that all models are trained on.
    samples : sequence of LabeledSamples [K]
        The same number of labeled samples for each model.
    config : TrainingConfig
        Must be accepted by :func:`can_stack`.
    epochs : int or None
        As in :func:`~rlmba.training.fit`.
    group : ProcessGroup or None
        A single process.

    Returns
    -------
    list of TrainingDiagnostics or NonFiniteError [K]
        The error of a model whose loss was not finite; it does not affect the others.

    Raises
    ------
    UsageError
        If there is no labeled sample, or the numbers of samples differ.
    """
    sizes = {len(s.positions) for s in samples} | {len(s.labels) for s in samples}
    if len(models) != len(samples) or len(sizes) != 1 or 0 in sizes:
        raise UsageError(
            "fit_stacked: expected the same number of labeled samples, at least one, for each of "
            f"{len(models)} models, got {[len(s.positions) for s in samples]}"
        )
    group = group or ProcessGroup(models[0].device, "fp32")
    plans = [
        MinibatchPlan(len(s.positions), config, epochs=epochs, seed=s.seed, group=group)
        for s in samples
    ]
    stack = _Stack(
        models,
        config,
        seeds=[s.seed for s in samples],
        epochs=plans[0].epochs,
        steps=plans[0].steps,
    )
    for step, (batch, truth) in enumerate(_batches(loader, samples, plans, config)):
        stack.step(batch, truth, measured=step >= plans[0].steps - plans[0].per_epoch)
    stack.unstack()
    return [_diagnostics(plans[0], stack, k) for k in range(len(models))]


class _Stack:
    """Stacked parameters of K models, their optimizer and their recorded losses."""

    def __init__(
        self,
        models: Sequence[MultimodalClassifier],
        config: TrainingConfig,
        *,
        seeds: Sequence[int],
        epochs: int,
        steps: int,
    ) -> None:
        self._models = models
        self._one = models[0]
        for model in models:
            model.train()
        with torch.no_grad():
            parameters, self._buffers = stack_module_state(list(models))
        self._parameters = {k: v.detach().requires_grad_() for k, v in parameters.items()}
        self._optimizer = make_optimizer(self._one, config, self._parameters)
        self._scheduler = make_scheduler(self._optimizer, config, epochs=epochs, steps=steps)
        device = self._one.device
        self._masks = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._config, self._steps = config, steps
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []

    def step(self, batch: Mapping[str, Tensor], truth: Tensor, *, measured: bool) -> None:
        """One optimizer step of every model, on inputs [K, n, ...] and classes [K, n]."""
        self._optimizer.zero_grad(set_to_none=True)
        state = {**self._parameters, **self._buffers}
        output = stacked_forward(self._one, state, batch, self._drawn(truth.shape[1]))
        losses = self._losses(output, truth)
        torch.autograd.backward(losses.sum())
        self.losses.append(losses.detach())
        if measured:
            gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
            squares = [g.flatten(1).square().sum(dim=1) for g in gradients]
            self.norms.append(torch.stack(squares).sum(dim=0).sqrt())
        self._optimizer.step()
        self._scheduler.step()

    def _losses(self, output: ModelOutput, truth: Tensor) -> Tensor:
        """Loss of every model [K]."""
        term = evidential_term(self._config, len(self.losses), self._steps)
        rows = ModelOutput(**{k: _flat(v) for k, v in vars(output).items()})
        each = [loss for _, loss in sample_losses(rows, truth.flatten(), term)]
        return torch.stack(each).sum(dim=0).view(truth.shape).mean(dim=1)

    def _drawn(self, n: int) -> list[Tensor]:
        """Draw every model's dropout masks for one step, [K, n, width], in the order of the heads."""
        dropout = self._one.dropout
        if dropout.p == 0:
            return []
        widths = [self._one.width] * len(self._one.names)
        if self._one.fused_head is not None:
            widths.append(self._one.fused_width)
        like = self._one.fusion_weights
        each = [[dropout.mask((n, w), like, g) for w in widths] for g in self._masks]
        return [torch.stack(masks) for masks in zip(*each, strict=True)]

    def unstack(self) -> None:
        """Copy its weights back to every model."""
        with torch.no_grad():
            for k, model in enumerate(self._models):
                own = dict(model.named_parameters())
                for name, values in self._parameters.items():
                    own[name].copy_(values[k])
                model.eval()


def _flat(value: Any) -> Any:
    """Arrays [K, n, ...] as [K n, ...]."""
    if isinstance(value, Mapping):
        return {k: v.flatten(0, 1) for k, v in value.items()}
    return None if value is None else value.flatten(0, 1)


def _batches(
    loader: Loader,
    samples: Sequence[LabeledSamples],
    plans: Sequence[MinibatchPlan],
    config: TrainingConfig,
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield the minibatch of every step: inputs [K, n, ...] by modality, and classes [K, n]."""
    labels = torch.from_numpy(np.stack([s.labels for s in samples]).astype(np.int64))
    rows = torch.arange(len(samples))[:, None]
    kept = None if config.augment else _kept(loader, samples)
    if kept is None:
        stream = loader.stream(_requests(samples, plans))
    for step in range(plans[0].steps):
        order = torch.from_numpy(np.stack([plan.minibatch(step).order for plan in plans]))
        truth = labels[rows, order].to(loader.device)
        if kept is None:
            read: list[Batch] = [next(stream) for _ in samples]
            inputs = {m: torch.stack([b.inputs[m] for b in read]) for m in read[0].inputs}
        else:
            arrays, where = kept
            at = where[rows, order]
            inputs = {m: a[at] for m, a in arrays.items()}
        yield inputs, truth


def _requests(
    samples: Sequence[LabeledSamples], plans: Sequence[MinibatchPlan]
) -> Iterator[BatchRequest]:
    each = [
        plan.requests(s.positions, 0, plan.steps) for s, plan in zip(samples, plans, strict=True)
    ]
    for requests in zip(*each, strict=True):
        yield from requests


def _kept(
    loader: Loader, samples: Sequence[LabeledSamples]
) -> tuple[Mapping[str, Tensor], Tensor] | None:
    """Read all labeled samples as one batch, with their rows in it [K, L]; None if too large."""
    positions = np.stack([s.positions for s in samples])
    distinct, inverse = np.unique(positions, return_inverse=True)
    per_sample = sum(int(np.prod(m.shape)) for m in loader.dataset.modalities)
    if len(distinct) * per_sample > _KEPT:
        return None
    (batch,) = loader.stream([BatchRequest(distinct)])
    return batch.inputs, torch.from_numpy(inverse.reshape(positions.shape)).to(loader.device)


def _diagnostics(plan: MinibatchPlan, stack: _Stack, k: int) -> Any:
    losses = torch.stack(stack.losses)[:, k].double().cpu().numpy()
    try:
        for step, loss in enumerate(losses.tolist()):
            check_finite(loss, step, plan.steps)
    except NonFiniteError as error:
        return error
    sizes = [len(plan.minibatch(step).order) for step in range(plan.per_epoch)]
    epochs = losses.reshape(plan.epochs, plan.per_epoch) @ np.array(sizes) / sum(sizes)
    return TrainingDiagnostics(
        loss_slope=slope(epochs[plan.epochs // 2 :]),
        gradient_norm=float(torch.stack(stack.norms)[:, k].double().mean()),
        final_loss=float(epochs[-1]),
        steps=plan.steps,
        epochs=plan.epochs,
    )
