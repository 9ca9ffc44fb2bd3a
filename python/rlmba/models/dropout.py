"""Dropout whose masks do not depend on how a batch is divided."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SharedDropout"]


class SharedDropout(nn.Module):
    """Dropout that can use the masks of a larger batch, of which its input is a part.

    Parameters
    ----------
    p : float
        Probability that a number becomes 0; the others are divided by 1 - p.

    Notes
    -----
    Outside :meth:`drawing`, masks come from torch's global generator, as in
    :class:`torch.nn.Dropout`.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._source: tuple[torch.Generator, int, slice] | None = None
        self._given: Iterator[Tensor] | None = None

    @contextlib.contextmanager
    def drawing(
        self, generator: torch.Generator, total: int, rows: slice = slice(None)
    ) -> Iterator[None]:
        """In the block, treat inputs as ``rows`` of a batch of ``total`` samples with common masks.

        Parameters
        ----------
        generator : torch.Generator
            On the device of the inputs. Its final state does not depend on ``rows``.
        total : int
            Number of samples in the whole batch.
        rows : slice
            Which of these samples the inputs are.
        """
        before, self._source = self._source, (generator, total, rows)
        try:
            yield
        finally:
            self._source = before

    @contextlib.contextmanager
    def given(self, masks: Sequence[Tensor]) -> Iterator[None]:
        """In the block, calls in training mode use these masks, one per call."""
        before, self._given = self._given, iter(masks)
        try:
            yield
        finally:
            self._given = before

    def mask(self, shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a mask as in :meth:`drawing`: 0 with probability p, otherwise 1 / (1 - p)."""
        keep = 1 - self.p
        mask = torch.empty(tuple(shape), dtype=like.dtype, device=like.device)
        return mask.bernoulli_(keep, generator=generator).div_(keep)

    def forward(self, x: Tensor) -> Tensor:
        """In training mode, zero some of x [n, ...] and scale the rest; otherwise return x."""
        if not self.training or self.p == 0:
            return x
        if self._given is not None:
            return x * next(self._given)
        if self._source is None:
            return functional.dropout(x, self.p)
        generator, total, rows = self._source
        return x * self.mask((total, *x.shape[1:]), x, generator)[rows]

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"p={self.p}"
