"""Dropout whose masks do not depend on how a batch is divided."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SharedDropout"]


class SharedDropout(nn.Module):
    """Dropout that can take its masks from those of a larger batch, of which it sees some rows.

    Parameters
    ----------
    p : float
        Probability that a number becomes 0; the others are divided by 1 - p.

    Notes
    -----
    Outside :meth:`drawing` masks come from torch's global generator, as those of
    :class:`torch.nn.Dropout`.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._source: tuple[torch.Generator, int, slice] | None = None

    @contextlib.contextmanager
    def drawing(
        self, generator: torch.Generator, total: int, rows: slice = slice(None)
    ) -> Iterator[None]:
        """In this block inputs are ``rows`` of a batch of ``total`` samples, drawn for as a whole.

        Parameters
        ----------
        generator : torch.Generator
            On the device of the inputs. Its state afterwards does not depend on ``rows``.
        total : int
            Samples of the whole batch.
        rows : slice
            Which of them the inputs are.
        """
        before, self._source = self._source, (generator, total, rows)
        try:
            yield
        finally:
            self._source = before

    def forward(self, x: Tensor) -> Tensor:
        """Zero some of x [n, ...] and scale the rest, in training mode; else x itself."""
        if not self.training or self.p == 0:
            return x
        if self._source is None:
            return functional.dropout(x, self.p)
        generator, total, rows = self._source
        keep = 1 - self.p
        mask = torch.empty((total, *x.shape[1:]), dtype=x.dtype, device=x.device)
        return x * mask.bernoulli_(keep, generator=generator).div_(keep)[rows]

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"p={self.p}"
