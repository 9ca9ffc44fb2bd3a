"""``sequence-cnn``: one-dimensional convolutions over time, for sensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlmba.data.base import Modality
from rlmba.models.registry import Encoder, positive_ints, register_encoder

__all__ = ["SequenceCnn"]


@register_encoder("sequence-cnn", kinds=["sequence"], default_for=["sequence"])
class SequenceCnn(Encoder):
    """Blocks of 1-D convolution, GroupNorm, ReLU and pooling by 2, then averages over cells of time.

    Parameters
    ----------
    modality : Modality
        Of kind "sequence": [T, F], time first.
    channels : sequence of int
        Output channels of the blocks. Each block halves the time axis while it has 8 steps or more.
    kernel : int
        Odd width of the convolutions, in time steps.
    grid : int
        Number of time cells over which the last maps are averaged, at most the maps' length.
    """

    stackable = True

    def __init__(
        self,
        modality: Modality,
        *,
        channels: Sequence[int] = (64, 128),
        kernel: int = 5,
        grid: int = 4,
    ) -> None:
        super().__init__()
        length, width = modality.shape
        (size,) = positive_ints([kernel], "kernel")
        (cells,) = positive_ints([grid], "grid")
        size += 1 - size % 2
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        self.halve: list[bool] = []
        for out_channels in positive_ints(channels, "channels"):
            self.convolutions.append(
                nn.Conv1d(width, out_channels, size, padding=size // 2, bias=False)
            )
            groups = next(g for g in range(8, 0, -1) if out_channels % g == 0)
            self.norms.append(nn.GroupNorm(groups, out_channels))
            self.halve.append(length >= 8)
            length = length // 2 if length >= 8 else length
            width = out_channels
        self.cells = min(cells, length)
        self.out_features = width * self.cells

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, F] to [n, out_features]."""
        x = x.transpose(1, 2)
        for convolution, norm, halve in zip(self.convolutions, self.norms, self.halve, strict=True):
            x = functional.relu(norm(convolution(x)))
            if halve:
                x = functional.max_pool1d(x, 2)
        return torch.flatten(functional.adaptive_avg_pool1d(x, self.cells), 1)
