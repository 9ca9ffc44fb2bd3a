"""``spectrogram-cnn``: log-mel spectrograms of waveforms, then convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlmba.data.base import Modality
from rlmba.errors import UsageError
from rlmba.models.cnn import ConvStack
from rlmba.models.registry import Encoder, positive_ints, register_encoder

__all__ = ["SpectrogramCnn"]

_DEFAULT_RATE = 8000.0


@register_encoder("spectrogram-cnn", kinds=["waveform"], default_for=["waveform"])
class SpectrogramCnn(Encoder):
    """Log-mel spectrogram (torchaudio), standardized by its own mean and deviation, then a CNN.

    Because each spectrogram is standardized, the encoder does not depend on a recording's level.

    Parameters
    ----------
    modality : Modality
        Of kind "waveform". The mel bands follow from its sample rate, 8,000 Hz if unknown.
    window_ms : float
        Length of the analysis window in milliseconds; consecutive windows overlap by half.
    mels : int
        Number of mel bands.
    channels : sequence of int
        Output channels of the CNN's blocks.
    grid : (int, int)
        Number of cells over frequency and time over which the last maps are averaged.
    """

    def __init__(
        self,
        modality: Modality,
        *,
        window_ms: float = 32.0,
        mels: int = 40,
        channels: Sequence[int] = (16, 32, 64),
        grid: Sequence[int] = (5, 4),
    ) -> None:
        super().__init__()
        from torchaudio.transforms import MelSpectrogram

        rate = modality.sample_rate or _DEFAULT_RATE
        length = modality.shape[0]
        window = round(rate * window_ms / 1000)
        if not 8 <= window <= length:
            raise UsageError(
                f"encoder spectrogram-cnn of {modality.name!r}: expected a window of 8 to {length} "
                f"samples, got {window} (window_ms {window_ms} at {rate:g} Hz); change window_ms"
            )
        (bands,) = positive_ints([mels], "mels")
        cells = positive_ints(grid, "grid")
        if len(cells) != 2:
            raise UsageError(f"encoder option grid: expected two integers >= 1, got {grid!r}")
        # Zero padding interpolates the spectrum. Without it, the lowest mel bands are narrower than
        # a frequency bin and stay empty.
        n_fft = 1 << (2 * window - 1).bit_length()
        hop = window // 2
        self.spectrogram = MelSpectrogram(
            sample_rate=round(rate), n_fft=n_fft, win_length=window, hop_length=hop, n_mels=bands
        )
        self.stack = ConvStack(
            1,
            (bands, length // hop + 1),
            positive_ints(channels, "channels"),
            (cells[0], cells[1]),
        )
        self.out_features = self.stack.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map waveforms [n, T] to [n, out_features]."""
        with torch.no_grad():
            power = self.spectrogram(x)
            floor = 1e-6 * power.amax(dim=(1, 2), keepdim=True) + 1e-12
            log = torch.log(power + floor)
            mean = log.mean(dim=(1, 2), keepdim=True)
            deviation = log.std(dim=(1, 2), keepdim=True)
            image = ((log - mean) / (deviation + 1e-3))[:, None]
        y: Tensor = self.stack(image)
        return y
