"""``cnn``: convolutions for small images, spectrograms and videos."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from rlmba.data.base import Modality
from rlmba.models.registry import Encoder, positive_ints, register_encoder

__all__ = ["Cnn", "ConvStack"]

_GROUPS = 8


class ConvStack(nn.Module):
    """Blocks of 3x3 convolution, GroupNorm, ReLU and 2x2 pooling, then a flattened grid of averages.

    GroupNorm is used instead of BatchNorm because its output for a sample depends on no other
    sample. A minibatch of one sample and the order of the pool therefore do not matter.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    size : (int, int)
        Height and width of the input. A side is halved only while it is at least 4.
    channels : sequence of int
        Output channels of each block.
    grid : (int, int)
        Rows and columns of the grid of cells over which the last maps are averaged; at most the
        maps' size.
    """

    def __init__(
        self,
        in_channels: int,
        size: tuple[int, int],
        channels: Sequence[int],
        grid: tuple[int, int],
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        self.pools: list[tuple[int, int]] = []
        height, width = size
        for out_channels in channels:
            self.convolutions.append(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False))
            groups = next(g for g in range(_GROUPS, 0, -1) if out_channels % g == 0)
            self.norms.append(nn.GroupNorm(groups, out_channels))
            pool = (2 if height >= 4 else 1, 2 if width >= 4 else 1)
            self.pools.append(pool)
            height, width = height // pool[0], width // pool[1]
            in_channels = out_channels
        self.grid = (min(grid[0], height), min(grid[1], width))
        self.out_features = in_channels * self.grid[0] * self.grid[1]

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, C, H, W] to [n, out_features]."""
        for convolution, norm, pool in zip(self.convolutions, self.norms, self.pools, strict=True):
            x = functional.relu(norm(convolution(x)))
            if pool != (1, 1):
                x = functional.max_pool2d(x, pool)
        return functional.adaptive_avg_pool2d(x, self.grid).flatten(1)


@register_encoder(
    "cnn",
    kinds=["image", "spectrogram", "video"],
    default_for=["image", "spectrogram", "video"],
)
class Cnn(Encoder):
    """A :class:`ConvStack` for images with any number of channels; for videos, averaged over frames.

    Parameters
    ----------
    modality : Modality
        Of kind "image", "spectrogram" or "video".
    channels : sequence of int
        Output channels of the blocks.
    grid : int
        Number of cells per side over which the last maps are averaged.
    """

    stackable = True

    def __init__(
        self, modality: Modality, *, channels: Sequence[int] = (16, 32, 64), grid: int = 3
    ) -> None:
        super().__init__()
        in_channels, *_, height, width = modality.shape
        (side,) = positive_ints([grid], "grid")
        self.stack = ConvStack(
            in_channels, (height, width), positive_ints(channels, "channels"), (side, side)
        )
        self.out_features = self.stack.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, C, H, W] or [n, C, T, H, W] to [n, out_features]."""
        if x.ndim == 5:
            frames: Tensor = self.stack(x.transpose(1, 2).flatten(0, 1))
            return frames.view(x.shape[0], x.shape[2], -1).mean(dim=1)
        y: Tensor = self.stack(x)
        return y
