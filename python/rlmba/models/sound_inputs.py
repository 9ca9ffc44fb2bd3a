"""The inputs that transformers networks of sounds expect, computed from whole batches of waveforms.

Each class computes what the library's own feature extractor computes, on the batch's device.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlmba.errors import DataError

__all__ = ["AstInput", "ClapInput", "SampleInput", "SoundInput", "sound_input"]

_RATE = 16_000


class SoundInput(nn.Module):
    """Maps waveforms [n, T] to a network's input.

    Attributes
    ----------
    rate : float
        Samples per second of the waveforms.
    """

    rate: float

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map waveforms [n, T] to the network's input."""


class SampleInput(SoundInput):
    """The samples, standardized to mean 0 and variance 1 if the network was trained so.

    Parameters
    ----------
    settings : mapping
        Those of ``Wav2Vec2FeatureExtractor``; others have their defaults.
    """

    # Added to the variance by the feature extractor.
    _epsilon = 1e-7

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.rate = float(settings.get("sampling_rate", _RATE))
        self.standardized = bool(settings.get("do_normalize", True))

    def forward(self, x: Tensor) -> Tensor:
        """Map waveforms [n, T] to [n, T]."""
        if not self.standardized:
            return x
        variance = x.var(dim=1, keepdim=True, unbiased=False)
        return (x - x.mean(dim=1, keepdim=True)) / torch.sqrt(variance + self._epsilon)


class AstInput(SoundInput):
    """The log-mel spectrogram of the Audio Spectrogram Transformer, as Kaldi computes it.

    It has a fixed number of frames: further ones are cut, and zeros fill the rest before the spectrogram
    is standardized.

    Parameters
    ----------
    settings : mapping
        Those of ``ASTFeatureExtractor``; others have their defaults.
    """

    mean: Tensor
    deviation: Tensor
    window: Tensor
    filters: Tensor

    # Kaldi's defaults: frames of 25 ms every 10 ms, and the lowest frequency of the mel bands.
    _window_ms, _hop_ms, _lowest = 25, 10, 20.0
    _preemphasis = 0.97
    _floor = torch.finfo(torch.float32).eps

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        from torchaudio.compliance.kaldi import get_mel_banks
        from transformers import ASTFeatureExtractor

        extractor: Any = ASTFeatureExtractor.from_dict(dict(settings))
        self.rate = float(extractor.sampling_rate)
        self.frames = int(extractor.max_length)
        length = int(self.rate * self._window_ms / 1000)
        self.hop = int(self.rate * self._hop_ms / 1000)
        self.size = 1 << (length - 1).bit_length()
        bands, _ = get_mel_banks(
            int(extractor.num_mel_bins), self.size, self.rate, self._lowest, 0.0, 100.0, -500.0, 1.0
        )
        normalized = bool(extractor.do_normalize)
        mean, deviation = (extractor.mean, 2 * extractor.std) if normalized else (0.0, 1.0)
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("deviation", torch.tensor(float(deviation)))
        self.register_buffer("window", torch.hann_window(length, periodic=False))
        # The highest frequency of the transform is in no band.
        self.register_buffer("filters", nn.functional.pad(bands, (0, 1)).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Map waveforms [n, T] to [n, frames, mel bands]."""
        if x.shape[1] < len(self.window):
            raise ValueError(
                f"expected {len(self.window)} samples or more; use more seconds of sound"
            )
        with torch.autocast(x.device.type, enabled=False):
            frames = x.to(self.window.dtype).unfold(1, len(self.window), self.hop)[:, : self.frames]
            frames = frames - frames.mean(dim=2, keepdim=True)
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
            frames = (frames - self._preemphasis * before) * self.window
            power = torch.fft.rfft(frames, self.size).abs().square()
            y = (power @ self.filters).clamp_min(self._floor).log()
            y = nn.functional.pad(y, (0, 0, 0, self.frames - y.shape[1]))
            return (y - self.mean) / self.deviation


class ClapInput(SoundInput):
    """The log-mel spectrogram of CLAP's audio tower, in decibels.

    Shorter waveforms are repeated or padded, as the feature extractor's settings say. Of longer ones, the
    first part is used: the library's extractor draws a part at random.

    Parameters
    ----------
    settings : mapping
        Those of ``ClapFeatureExtractor``; others have their defaults.
    """

    filters: Tensor

    _floor = 1e-10

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        from torchaudio.transforms import Spectrogram
        from transformers import ClapFeatureExtractor

        extractor: Any = ClapFeatureExtractor.from_dict(dict(settings))
        self.rate = float(extractor.sampling_rate)
        self.samples = int(extractor.nb_max_samples)
        self.padding = extractor.padding
        self.spectrogram = Spectrogram(
            int(extractor.fft_window_size), hop_length=int(extractor.hop_length), power=2.0
        )
        fused = extractor.truncation == "fusion"
        filters = extractor.mel_filters if fused else extractor.mel_filters_slaney
        self.register_buffer("filters", torch.from_numpy(filters).float())

    def forward(self, x: Tensor) -> Tensor:
        """Map waveforms [n, T] to [n, 1, frames, mel bands]."""
        x = x.to(self.filters.dtype)[:, : self.samples]
        times = self.samples // x.shape[1]
        if self.padding == "repeat":
            x = x.repeat(1, times + 1)[:, : self.samples]
        elif self.padding == "repeatpad":
            x = x.repeat(1, times)
        x = nn.functional.pad(x, (0, self.samples - x.shape[1]))
        with torch.autocast(x.device.type, enabled=False):
            power = self.spectrogram(x).transpose(1, 2) @ self.filters
            decibels: Tensor = 10 * power.clamp_min(self._floor).log10()
        return decibels[:, None]


def sound_input(config: Any, settings: Mapping[str, Any], source: str) -> SoundInput:
    """Make the input of a transformers network of sounds.

    Parameters
    ----------
    config : transformers configuration
        Of the network.
    settings : mapping
        The content of its ``preprocessor_config.json``; empty for the defaults.
    source : str
        Where they come from, for messages.

    Raises
    ------
    DataError
        If the settings cannot be used.
    """
    kinds: dict[str, type[Any]] = {"audio-spectrogram-transformer": AstInput, "clap": ClapInput}
    kind = kinds.get(config.model_type, SampleInput)
    if kind is AstInput:
        sizes = {"num_mel_bins": config.num_mel_bins, "max_length": config.max_length}
        settings = {**sizes, **settings}
    elif kind is ClapInput:
        audio = config.audio_config
        truncation = "fusion" if audio.enable_fusion else "rand_trunc"
        settings = {"feature_size": audio.num_mel_bins, "truncation": truncation, **settings}
    try:
        made: SoundInput = kind(settings)
        if not made.rate > 0:
            raise ValueError(f"sampling_rate {made.rate:g}")
    except (TypeError, ValueError, ArithmeticError, AttributeError, AssertionError) as error:
        raise DataError(
            f"{source}: expected a feature extractor's settings for {config.model_type} "
            f"(preprocessor_config.json), got unusable ones: {error}"
        ) from error
    return made
