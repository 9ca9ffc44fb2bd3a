"""Log-magnitude spectrograms of whole batches of sound."""

from __future__ import annotations

import torch
from torch import Tensor

from rlmba.data.media.blocks import blocks

__all__ = ["BINS", "FULL_SCALE", "HOP", "MEAN", "STD", "WINDOW", "frames_of", "log_spectrogram"]

WINDOW = 512
"""Length in samples of the analysis window (a periodic Hann window) and of the Fourier transform."""
HOP = WINDOW - 353
"""Samples from one window to the next; they overlap by 353."""
BINS = WINDOW // 2 + 1
MEAN = -3.0352
STD = 3.0475
_FLOOR = 1e-7
_BLOCK = 2
FULL_SCALE = 32768.0
"""Sounds of 16 bits are divided by it, to be in [-1, 1)."""


def frames_of(samples: int) -> int:
    """Number of windows centered on samples 0, :data:`HOP`, ... of a sound: 504 for 80,000 samples."""
    return 1 + samples // HOP


def log_spectrogram(sound: Tensor) -> Tensor:
    """log(|S| + 1e-7), standardized by :data:`MEAN` and :data:`STD`.

    S is the unnormalized short-time Fourier transform of the sound scaled to [-1, 1). Windows are
    centered on their samples, and the ends of the sound are reflected. ``torchaudio``'s Spectrogram with
    power 1 gives the same, and so does ``librosa.stft`` except for the reflection.

    Parameters
    ----------
    sound : int16 tensor [n, samples]
        It must be longer than half a window. Floats must have the range of 16 bits.

    Returns
    -------
    float32 tensor [n, 1, 257, :func:`frames_of` (samples)]
        On the device of ``sound``.
    """
    n, samples = sound.shape
    out = torch.empty(n, 1, BINS, frames_of(samples), device=sound.device)
    # The scale is a power of two, so scaling the window instead of the sound changes no bit.
    window = torch.hann_window(WINDOW, device=sound.device) / FULL_SCALE
    for rows in blocks(n, _BLOCK, sound.device):
        s = torch.stft(
            sound[rows].float(),
            WINDOW,
            HOP,
            window=window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        # On the CPU, abs() of complex numbers takes longer than the transform. The sums of squares here
        # stay within float32.
        magnitude = torch.addcmul(s.real.square(), s.imag, s.imag).sqrt_()
        out[rows, 0] = magnitude.add_(_FLOOR).log_().sub_(MEAN).div_(STD)
    return out
