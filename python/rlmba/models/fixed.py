"""Encoders without weights to learn or to load: ``ngrams``, ``image-statistics``, ``sound-statistics``.

They are used for data without a suitable pretrained network. Their features are computed once. With few
labels, a linear classifier of these features learns more than a network that is trained from scratch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from rlmba.data.base import Modality
from rlmba.data.media.spectrogram import BINS, FULL_SCALE, log_spectrogram
from rlmba.errors import UsageError
from rlmba.models.registry import Encoder, positive_ints, register_encoder

__all__ = ["ImageStatistics", "NGrams", "SoundStatistics"]

_PRIME = 2_654_435_761


@register_encoder("ngrams", kinds=["tokens"])
class NGrams(Encoder):
    """Counts of token ids in hashed columns: sign(c) log(1 + abs(c)), in rows of length 1.

    Parameters
    ----------
    modality : Modality
        Of kind "tokens". With the tokenizer "words", tokens are words, or characters and pairs of
        characters of languages without spaces.
    width : int
        Number of columns. Each id adds 1 or -1 to one of them, which depends on the id alone.

    Notes
    -----
    The hashing is that of Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009).
    """

    weightless = True
    columns: Tensor
    signs: Tensor

    def __init__(self, modality: Modality, *, width: int = 2048) -> None:
        super().__init__()
        (width,) = positive_ints([width], "width")
        if modality.vocabulary is None:
            raise UsageError(
                f"encoder ngrams: expected modality {modality.name!r} to state its vocabulary, got None"
            )
        self.padding = modality.padding
        hashed = torch.arange(modality.vocabulary) * _PRIME % 2**32
        self.register_buffer("columns", hashed // 2 % width)
        self.register_buffer("signs", 1.0 - 2.0 * (hashed // 2 // width % 2).float())
        self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        """Map token ids [n, T] to [n, width]."""
        there = x != self.padding
        ids = x.masked_fill(~there, 0)
        counts = self.signs.new_zeros(x.shape[0], self.out_features)
        counts.scatter_add_(1, self.columns[ids], self.signs[ids] * there)
        return functional.normalize(counts.sign() * counts.abs().log1p(), dim=1)


@register_encoder("image-statistics", kinds=["image", "video"])
class ImageStatistics(Encoder):
    """Colors and directions of edges in the cells of a grid; for videos, means over the frames.

    Parameters
    ----------
    modality : Modality
        Of kind "image" or "video".
    grid : int
        Cells in each direction, for the means and deviations of the channels.
    edges : int
        Cells in each direction, for histograms of the gradients' directions in eight bins, weighted by the
        gradients' lengths (as in Dalal and Triggs, 2005, without overlapping blocks).
    """

    weightless = True
    bins = 8

    def __init__(self, modality: Modality, *, grid: int = 4, edges: int = 6) -> None:
        super().__init__()
        self.grid, self.edges = positive_ints([grid, edges], "grid, edges")
        self.video = modality.kind == "video"
        channels = modality.shape[0]
        self.out_features = 2 * channels * self.grid**2 + self.bins * self.edges**2

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, C, H, W], or [n, C, T, H, W] for videos, to [n, out_features]."""
        if not self.video:
            return self._of_images(x)
        n, _, frames = x.shape[:3]
        return self._of_images(x.transpose(1, 2).flatten(0, 1)).reshape(n, frames, -1).mean(dim=1)

    def _of_images(self, x: Tensor) -> Tensor:
        mean = functional.adaptive_avg_pool2d(x, self.grid)
        square = functional.adaptive_avg_pool2d(x * x, self.grid)
        deviation = (square - mean * mean).clamp(min=0).sqrt()
        gray = functional.pad(x.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        right = gray[:, :, 1:-1, 2:] - gray[:, :, 1:-1, :-2]
        down = gray[:, :, 2:, 1:-1] - gray[:, :, :-2, 1:-1]
        # A gradient and its opposite are the same edge.
        place = torch.atan2(down, right) / math.pi % 1.0 * self.bins
        length = (right * right + down * down).sqrt()
        low = place.floor()
        share = place - low
        maps = x.new_zeros(x.shape[0], self.bins, *x.shape[2:])
        maps.scatter_add_(1, low.long() % self.bins, length * (1 - share))
        maps.scatter_add_(1, (low.long() + 1) % self.bins, length * share)
        edges = functional.adaptive_avg_pool2d(maps, self.edges).flatten(1)
        edges = functional.normalize(edges, dim=1).sqrt()
        return torch.cat([mean.flatten(1), deviation.flatten(1), edges], dim=1)


@register_encoder("sound-statistics", kinds=["spectrogram", "waveform"])
class SoundStatistics(Encoder):
    """Mean, deviation and mean change over time of each frequency band, and means in intervals.

    Parameters
    ----------
    modality : Modality
        Of kind "spectrogram", or of kind "waveform" with values in [-1, 1] and at least 257 samples, whose
        log spectrogram is that of :func:`~rlmba.data.media.spectrogram.log_spectrogram`.
    bands : int
        Number of bands; their widths grow with the frequency.
    intervals : int
        Number of intervals.
    """

    weightless = True
    weights: Tensor

    def __init__(self, modality: Modality, *, bands: int = 64, intervals: int = 8) -> None:
        super().__init__()
        bands, self.intervals = positive_ints([bands, intervals], "bands, intervals")
        self.of_waveforms = modality.kind == "waveform"
        if self.of_waveforms and modality.shape[0] < BINS:
            raise UsageError(
                f"encoder sound-statistics: expected modality {modality.name!r} to have at least {BINS} "
                f"samples, got {modality.shape[0]}; use longer sounds"
            )
        channels, rows = (1, BINS) if self.of_waveforms else modality.shape[:2]
        bands = min(bands, rows)
        self.register_buffer("weights", _bands(rows, bands))
        self.out_features = channels * bands * (3 + self.intervals)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, C, F, T], or [n, T] for waveforms, to [n, out_features]."""
        if self.of_waveforms:
            x = log_spectrogram(FULL_SCALE * x)
        y = torch.einsum("ncft,bf->ncbt", x, self.weights)
        change = y.diff(dim=3).abs().mean(dim=3) if y.shape[3] > 1 else torch.zeros_like(y[..., 0])
        parts = functional.adaptive_avg_pool2d(y, (y.shape[2], self.intervals))
        found = [y.mean(dim=3), y.std(dim=3, correction=0), change]
        return torch.cat([*(f.flatten(1) for f in found), parts.flatten(1)], dim=1)


def _bands(rows: int, bands: int) -> Tensor:
    """Means [bands, rows] over bands whose widths grow like those of the mel scale."""
    # The first edges are one row apart, so that no band is empty.
    edges = torch.logspace(0, math.log10(rows + 1), bands + 1, dtype=torch.float64) - 1
    edges = torch.maximum(edges.round(), torch.arange(bands + 1)).clamp(max=rows)
    edges = torch.minimum(edges, rows - torch.arange(bands, -1, -1))
    out = torch.zeros(bands, rows)
    for i in range(bands):
        start, end = int(edges[i]), int(edges[i + 1])
        out[i, start:end] = 1 / (end - start)
    return out
