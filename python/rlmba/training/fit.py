"""The training of one round."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rlmba.config import TrainingConfig
from rlmba.data.base import Batch
from rlmba.errors import CheckpointError, UsageError
from rlmba.models.classifier import MultimodalClassifier
from rlmba.models.randomness import seeded
from rlmba.training.diagnostics import check_finite, slope
from rlmba.training.fit_state import FitCheckpoint, FitState, Moving
from rlmba.training.loading import BatchRequest, Loader, worker_deaths
from rlmba.training.loss import (
    EvidentialTerm,
    evidential_term,
    head_counts,
    multimodal_loss,
    part_loss,
)
from rlmba.training.minibatches import Minibatch, MinibatchPlan
from rlmba.training.optimizer import make_optimizer, make_scheduler
from rlmba.training.predict import forward_passes, requests_of
from rlmba.training.processes import ProcessGroup
from rlmba.training.soft_labels import SOFT_BATCH, SOFT_WEIGHT, SoftLabels, soft_loss
from rlmba.types import TrainingDiagnostics

__all__ = ["Progress", "fit", "labeled_checksum"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of completed steps and the total number."""

_LOOK = 64
"""Number of steps between reads of the loss, since each read makes the host wait for the GPU."""


def fit(
    model: MultimodalClassifier,
    loader: Loader,
    positions: NDArray[np.int64],
    labels: NDArray[np.int64],
    config: TrainingConfig,
    *,
    epochs: int | None,
    seed: int,
    progress: Progress | None = None,
    group: ProcessGroup | None = None,
    validation: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    checkpoint: FitCheckpoint | None = None,
    soft: SoftLabels | None = None,
) -> TrainingDiagnostics:
    """Train a model in place on labeled samples, with AdamW.

    Parameters
    ----------
    model : MultimodalClassifier
        Training starts from its weights. It is left in evaluation mode.
    loader : Loader
        Reads the minibatches to the model's device.
    positions : int64 array [L]
        Dataset positions of the labeled samples.
    labels : int64 array [L]
        Their annotated classes.
    config : TrainingConfig
        Learning rates, schedule and minibatch size. Epochs are added until ``config.min_steps`` is
        reached.
    epochs : int or None
        Number of passes over the samples, each in a new order; None: by the number of samples, see
        :func:`~rlmba.training.steps_for`.
    seed : int
        Determines order, augmentation and dropout. On the CPU, equal seeds, weights and thread
        counts give bit-identical weights. The state of torch's global generator is restored.
    progress : callable or None
        Called after every step with (completed steps, total steps).
    group : ProcessGroup or None
        Precision, and the processes that share every minibatch. All of them call this function with
        the same arguments and start from the main process's weights. None uses this process alone
        at ``config.precision``.
    validation : (int64 array [V], int64 array [V]) or None
        Dataset positions and classes of the validation set, used by ``config.patience``.
    checkpoint : FitCheckpoint or None
        Checkpoint of the main process. A training saved there is continued, with the same result.
    soft : SoftLabels or None
        Samples without labels, with guessed class probabilities. Every step adds 0.1 times the
        :func:`~rlmba.training.soft_labels.soft_loss` of 64 of them. Needs heads trained by cross-entropy.
        The reported loss is that of the labeled samples.

    Raises
    ------
    UsageError
        If there is no labeled sample, a rate is given for an unknown modality, or patience is set
        without a validation set.
    NonFiniteError
        If the loss is not finite; ``row`` is the step. It is detected up to 63 steps later.
    WorkerError
        If a process that loads data dies.
    PeerError
        If another process of the run ends.
    """
    if len(positions) == 0 or len(positions) != len(labels):
        raise UsageError(
            f"fit: expected at least one labeled sample, got {len(positions)} positions "
            f"and {len(labels)} labels"
        )
    if config.patience is not None and (validation is None or len(validation[0]) == 0):
        raise UsageError("fit: training.patience needs a validation set, got none; pass validation")
    group = group or ProcessGroup(model.device, config.precision)
    plan = MinibatchPlan(len(positions), config, epochs=epochs, seed=seed, group=group)
    optimizer = make_optimizer(model, config)
    moving = Moving(
        model,
        optimizer,
        make_scheduler(optimizer, config, epochs=plan.epochs, steps=plan.steps),
        torch.Generator(model.device).manual_seed(seed),
    )
    training = _Training(
        plan,
        moving,
        group,
        config,
        samples=(positions, labels),
        validation=None if config.patience is None else validation,
        soft=soft if soft is not None and len(soft.positions) else None,
        seed=seed,
    )
    # Random encoders must not use the same numbers in two processes.
    own = seed if group.is_main else int(np.random.default_rng([seed, group.rank]).integers(2**63))
    with seeded(own, model.device), worker_deaths(loader):
        training.begin(checkpoint)
        training.run(loader, checkpoint, progress)
    return training.diagnostics()


class _Training:
    """A training in progress."""

    def __init__(
        self,
        plan: MinibatchPlan,
        moving: Moving,
        group: ProcessGroup,
        config: TrainingConfig,
        *,
        samples: tuple[NDArray[np.int64], NDArray[np.int64]],
        validation: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
        soft: SoftLabels | None,
        seed: int,
    ) -> None:
        self._plan, self._moving, self._group, self._config = plan, moving, group, config
        self._model = moving.model
        self._positions = samples[0]
        self._targets = torch.from_numpy(np.array(samples[1], dtype=np.int64))
        self._validation = validation
        self._soft, self._seed = soft, seed
        # A process without any of these samples still passes one through the network.
        mine = group.block(SOFT_BATCH)
        self._soft_rows = mine if mine.start < mine.stop else slice(0, 1)
        self._soft_counts = mine.start < mine.stop
        self._state = FitState(losses=[0.0] * plan.epochs)
        self._losses: list[Tensor] = []  # of the last steps, not read yet
        self._norms: list[Tensor] = []
        self._saves = False

    def begin(self, checkpoint: FitCheckpoint | None) -> None:
        """Restore a saved training, and give all processes the same start."""
        group, saved = self._group, None if checkpoint is None else checkpoint.load()
        self._saves = group.broadcast(checkpoint is not None)
        shapes = saved and {k: (v.shape, v.dtype) for k, v in saved[1].items()}
        found = group.broadcast(saved and (saved[0], shapes, saved[2]))
        if not found:
            group.copy_from_main(self._model.state_dict().values())
            return
        self._state, shapes, facts = found
        if saved:
            tensors = {k: v.to(group.device) for k, v in saved[1].items()}
        else:
            tensors = {
                k: torch.empty(s, dtype=d, device=group.device) for k, (s, d) in shapes.items()
            }
        group.copy_from_main(tensors.values())
        try:
            if len(self._state.losses) != self._plan.epochs:
                raise ValueError(f"losses of {len(self._state.losses)} epochs")
            self._moving.restore(tensors, facts, group)
        except torch.OutOfMemoryError:
            raise
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            file = "the file of this training" if checkpoint is None else checkpoint.path
            raise CheckpointError(
                f"{file} is damaged ({' '.join(str(error).split())[:200]}); delete it, and the training "
                "starts over"
            ) from error

    def run(
        self, loader: Loader, checkpoint: FitCheckpoint | None, progress: Progress | None
    ) -> None:
        """Do the remaining steps."""
        plan, state = self._plan, self._state
        stream = loader.stream(self._requests(state.step))
        self._model.train()
        while state.step < plan.steps:
            epoch, number = divmod(state.step, plan.per_epoch)
            if number == 0:
                self._norms.clear()
                state.norms.clear()
            measured = epoch == plan.epochs - 1 or self._validation is not None
            self._losses.append(self._step(plan.minibatch(state.step), stream, measured))
            state.step += 1
            ended = number == plan.per_epoch - 1
            if ended or len(self._losses) == _LOOK:
                self._read_losses()
            if progress is not None:
                progress(state.step, plan.steps)
            if ended and self._validation is not None and self._should_stop(epoch, stream):
                break
            if self._saves and self._group.broadcast(checkpoint is not None and checkpoint.due()):
                self._save(checkpoint)
        self._read_losses()
        if self._moving.best_weights:
            self._model.load_state_dict(self._moving.best_weights)
        # Without GPUs, the batch norms of each process have seen different samples.
        self._group.copy_from_main(self._model.state_dict().values())
        self._model.eval()

    def _requests(self, step: int) -> Iterator[BatchRequest]:
        """All reads of the training in order, so that reading ahead never pauses."""
        plan = self._plan
        for epoch in range(step // plan.per_epoch, plan.epochs):
            start, stop = epoch * plan.per_epoch, (epoch + 1) * plan.per_epoch
            for s in range(max(start, step), stop):
                yield from plan.requests(self._positions, s, s + 1)
                if self._soft is not None:
                    drawn = self._soft.positions[self._soft.drawn(self._seed, s)]
                    yield BatchRequest(drawn[self._soft_rows])
            if self._validation is not None:
                yield from self._validation_requests()

    def _step(self, minibatch: Minibatch, stream: Iterator[Batch], measured: bool) -> Tensor:
        moving, group = self._moving, self._group
        moving.optimizer.zero_grad(set_to_none=True)
        truth = self._targets[torch.from_numpy(minibatch.order)].to(group.device)
        if self._plan.divided:
            loss = self._backward_in_parts(minibatch, stream, truth)
            if self._soft is not None:
                torch.autograd.backward(self._soft_loss(self._soft, stream))
            group.sum_gradients(self._model.parameters())
        else:
            batch = next(stream)
            with group.autocast(), self._model.dropout.drawing(moving.masks, len(truth)):
                output = self._model(batch.inputs, batch.present)
            whole = multimodal_loss(output, truth, batch.present, term=self._term())
            loss = whole.detach()
            if self._soft is not None:
                whole = whole + self._soft_loss(self._soft, stream)
            torch.autograd.backward(whole)
        self._clip(measured)
        moving.optimizer.step()
        moving.scheduler.step()
        return loss

    def _soft_loss(self, soft: SoftLabels, stream: Iterator[Batch]) -> Tensor:
        """The loss of the samples without labels that are passed through in this process."""
        batch, rows = next(stream), self._soft_rows
        guessed = soft.probabilities[soft.drawn(self._seed, self._state.step)][rows]
        target = torch.from_numpy(guessed).to(self._group.device)
        masks = self._moving.masks
        with self._group.autocast(), self._model.dropout.drawing(masks, SOFT_BATCH, rows):
            output = self._model(batch.inputs, batch.present)
        weight = SOFT_WEIGHT * self._soft_counts
        loss: Tensor = weight * soft_loss(output, target, batch.present)
        return loss

    def _term(self) -> EvidentialTerm | None:
        return evidential_term(self._config, self._state.step, self._plan.steps)

    def _backward_in_parts(
        self, minibatch: Minibatch, stream: Iterator[Batch], truth: Tensor
    ) -> Tensor:
        """Accumulate this process's gradients, and return its share of the minibatch's loss."""
        model, masks, n = self._model, self._moving.masks, len(truth)
        parts = [(part, next(stream)) for part in minibatch.parts]
        counts = torch.zeros(1 + len(model.names), device=truth.device)
        for part, batch in parts:
            samples = (part.rows.stop - part.rows.start) * part.counted
            counts += head_counts(samples, batch.present, len(model.names), truth)
        self._group.sum(counts)
        total = torch.zeros((), device=truth.device)
        before = masks.get_state()
        for part, batch in parts:
            masks.set_state(before)  # every part uses its rows of the same masks
            with self._group.autocast(), model.dropout.drawing(masks, n, part.rows):
                output = model(batch.inputs, batch.present)
            loss = part_loss(output, truth[part.rows], batch.present, counts, term=self._term())
            loss = loss * part.counted
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def _clip(self, measured: bool) -> None:
        limit = self._config.max_grad_norm
        if limit is not None:
            norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), limit)
        elif measured:
            gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        if measured:
            self._norms.append(norm)

    def _read_losses(self) -> None:
        """Sum the losses of the last steps over all processes, and check that they are finite."""
        state = self._state
        if self._losses:
            values = self._group.sum(torch.stack(self._losses)).tolist()
            first = state.step - len(values)
            self._losses.clear()
            for step, loss in enumerate(values, start=first):
                check_finite(loss, step, self._plan.steps)
                size = len(self._plan.minibatch(step).order)
                state.losses[step // self._plan.per_epoch] += loss * size / len(self._positions)
        if self._norms:
            state.norms += torch.stack(self._norms).tolist()
            self._norms.clear()

    def _validation_requests(self) -> list[BatchRequest]:
        positions = self._validation[0] if self._validation else self._positions[:0]
        mine = positions[self._group.block(len(positions))]
        return list(requests_of(mine, self._config.predict_batch_size))

    def _should_stop(self, epoch: int, stream: Iterator[Batch]) -> bool:
        """Evaluate the epoch on the validation set, keep the best weights, and return whether to stop."""
        state, moving = self._state, self._moving
        nll = self._nll(stream)
        if nll < state.best:
            state.best, state.best_epoch = nll, epoch
            moving.best_weights = {k: v.clone() for k, v in self._model.state_dict().items()}
        return epoch - state.best_epoch >= (self._config.patience or 1)

    def _nll(self, stream: Iterator[Batch]) -> float:
        """Mean negative log-likelihood of the fused head on the validation set, in nats."""
        if self._validation is None:
            return math.nan
        truth = self._validation[1]
        mine = torch.from_numpy(np.array(truth[self._group.block(len(truth))], dtype=np.int64))
        total = torch.zeros((), dtype=torch.float64, device=self._group.device)
        requests = self._validation_requests()
        self._model.eval()
        with torch.inference_mode():
            passes = forward_passes(
                self._model, itertools.islice(stream, len(requests)), self._group
            )
            sizes = [len(request.positions) for request in requests]
            for (output, _), y in zip(
                passes, torch.split(mine, sizes) if requests else (), strict=True
            ):
                z = output.fused_logits.double()
                total += functional.cross_entropy(z, y.to(z.device), reduction="sum")
        self._model.train()
        return float(self._group.sum(total)) / len(truth)

    def _save(self, checkpoint: FitCheckpoint | None) -> None:
        self._read_losses()
        tensors, facts = self._moving.capture(self._group)
        if checkpoint is not None:
            checkpoint.save(self._state, tensors, facts)

    def diagnostics(self) -> TrainingDiagnostics:
        """Diagnostics of the training."""
        epochs = math.ceil(self._state.step / self._plan.per_epoch)
        losses = np.array(self._state.losses[:epochs])
        return TrainingDiagnostics(
            loss_slope=slope(losses[epochs // 2 :]),
            gradient_norm=float(np.mean(self._state.norms)),
            final_loss=float(losses[-1]),
            steps=self._state.step,
            epochs=epochs,
        )


def labeled_checksum(positions: NDArray[np.int64], labels: NDArray[np.int64]) -> str:
    """Checksum of labeled samples in their order: SHA-256, hexadecimal."""
    digest = hashlib.sha256(np.ascontiguousarray(positions, np.int64).tobytes())
    digest.update(np.ascontiguousarray(labels, np.int64).tobytes())
    return digest.hexdigest()
