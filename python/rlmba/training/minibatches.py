"""The samples of each training step, and the part of them that this process takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rlmba.config import TrainingConfig
from rlmba.training.loading import BatchRequest
from rlmba.training.processes import ProcessGroup, block

__all__ = ["Minibatch", "MinibatchPlan", "Part", "minibatch_size_for", "steps_for"]


class Part(NamedTuple):
    """Rows of a minibatch that one process passes through the network at once.

    A process without any of these rows still passes one row through the network, which is not
    ``counted``, because all processes must take the same steps.
    """

    rows: slice
    counted: bool


class Minibatch(NamedTuple):
    """One step: ``order`` int64 [n] into the labeled samples, and this process's parts of it."""

    order: NDArray[np.int64]
    parts: list[Part]


def steps_for(n: int) -> int:
    """Return the number of optimizer steps for n labeled samples, if epochs are not given.

    It is sqrt(80^2 + 40 n), rounded: 80 steps for a few labels, and a number that grows with the square
    root of n where there are many. It was chosen together with the default learning rates, on flat
    features and random labels (``bench/study_training.py``).

    Examples
    --------
    >>> [steps_for(n) for n in (1, 10, 100, 1_000, 10_000)]
    [80, 82, 102, 215, 637]
    """
    return round(math.sqrt(80**2 + 40 * n))


def minibatch_size_for(n: int) -> int:
    """Return the maximum minibatch size for n labeled samples, if none is given.

    It is sqrt(2 n), rounded, and at least 32.

    Examples
    --------
    >>> [minibatch_size_for(n) for n in (1, 100, 1_000, 10_000)]
    [32, 32, 45, 141]
    """
    return max(32, round(math.sqrt(2 * n)))


class MinibatchPlan:
    """Minibatches of a whole training, drawn in advance so that it can resume at any step.

    The minibatches of an epoch contain every sample once, and their sizes differ by one at most.

    Parameters
    ----------
    n : int
        Number of labeled samples, at least 1.
    config : TrainingConfig
        Maximum minibatch size, number of parts and minimum number of steps.
    epochs : int or None
        Number of epochs; ``config.min_steps`` may require more. None: the number whose optimizer steps
        come closest to :func:`steps_for`.
    seed : int
        Determines the order of every epoch and the augmentation.
    group : ProcessGroup

    Attributes
    ----------
    epochs, per_epoch, steps : int
        Number of epochs, steps per epoch and steps in total.
    """

    def __init__(
        self,
        n: int,
        config: TrainingConfig,
        *,
        epochs: int | None,
        seed: int,
        group: ProcessGroup,
    ) -> None:
        self._n, self._group = n, group
        self._micro, self._augment = config.gradient_accumulation, config.augment
        self.per_epoch = math.ceil(n / (config.minibatch_size or minibatch_size_for(n)))
        if epochs is None:
            epochs = max(1, round(steps_for(n) / self.per_epoch))
        self.epochs = max(epochs, math.ceil(config.min_steps / self.per_epoch))
        self.steps = self.epochs * self.per_epoch
        generator = torch.Generator().manual_seed(seed)
        self._orders, self._seeds = [], []
        for _ in range(self.epochs):
            self._orders.append(torch.randperm(n, generator=generator).numpy())
            self._seeds.append(int(torch.randint(2**63 - 1, (), generator=generator)))

    @property
    def divided(self) -> bool:
        """Whether minibatches are cut into parts."""
        return self._group.size > 1 or self._micro > 1

    def minibatch(self, step: int) -> Minibatch:
        """Return the minibatch of step ``step``, in 0..steps-1."""
        epoch, number = divmod(step, self.per_epoch)
        order = self._orders[epoch][block(self._n, number, self.per_epoch)]
        return Minibatch(order, list(self._parts(len(order))))

    def _parts(self, n: int) -> Iterator[Part]:
        for k in range(min(self._micro, n)):
            micro = block(n, k, self._micro)
            share = self._group.block(micro.stop - micro.start)
            start, stop = micro.start + share.start, micro.start + share.stop
            if start < stop:
                yield Part(slice(start, stop), True)
            else:
                yield Part(slice(micro.start, micro.start + 1), False)

    def requests(
        self, positions: NDArray[np.int64], step: int, stop: int
    ) -> Iterator[BatchRequest]:
        """Yield the loader's requests for steps ``step`` to ``stop`` - 1, one batch per part."""
        for s in range(step, stop):
            minibatch = self.minibatch(s)
            epoch, number = divmod(s, self.per_epoch)
            for part in minibatch.parts:
                rows = part.rows if self.divided else None
                yield BatchRequest(
                    positions[minibatch.order], rows, self._augment, self._seeds[epoch], number
                )
